"""A whole call on a simulated clock: heard, answered, interrupted, ended, and nothing left."""

from __future__ import annotations

import dataclasses
import json
import random
from functools import partial
from typing import Any

import msgspec
import pytest
import trio

from rtcore.agent.agent import Agent
from rtcore.agent.definition import AgentDefinition, IdlePolicy
from rtcore.agent.tools import Tool, ToolUse
from rtcore.audio import mulaw_to_pcm
from rtcore.call import Call, CallRecord, run_call
from rtcore.config import CallConfig
from rtcore.errors import RemoteProtocolError, SocketClosed
from rtcore.journal import Journal
from rtcore.ports import Finished, TextDelta, ToolCall, ToolSpec
from rtcore.testing import (
    ALAW_8K,
    L16_8K,
    L16_16K,
    MULAW_8K,
    Action,
    CarrierReport,
    FakeCarrier,
    LineFaults,
    LineFormat,
    ProviderFault,
    ScriptedResponder,
    ScriptedSynthesizer,
    ScriptedTranscriber,
    Tape,
    dtmf,
    hang_up,
    heard_samples,
    interrupt_after,
    memory_sockets,
    say,
    simulate,
    speak,
    wait,
    wait_for_agent_quiet,
)
from rtcore.turn import TurnConfig

WELCOME = "Welcome to the harbour clinic."
QUESTIONS = ("What time do you open tomorrow?", "Where is the car park?")
ANSWERS = (
    "We open at nine in the morning. On Sundays we are closed. Please ring twice at the door.",
    "It is behind the house.",
)
VOICE = speak("tell me this then please").pcm  # the sound of any question


def scripted(
    *,
    questions: tuple[str, ...] = QUESTIONS,
    answers: tuple[str | ToolCall, ...] = ANSWERS,
    welcome: str = WELCOME,
    tools: tuple[Tool, ...] = (),
    partial_ms: float | None = 200,
    stt_faults: dict[int, ProviderFault] | None = None,
    llm_faults: dict[int, ProviderFault] | None = None,
    tts_faults: dict[int, ProviderFault] | None = None,
) -> Agent:
    return Agent(
        AgentDefinition(name="desk", welcome_message=welcome),
        transcriber=ScriptedTranscriber(questions, 150, partial_ms=partial_ms, faults=stt_faults),
        responder=ScriptedResponder(answers, 350, faults=llm_faults),
        synthesizer=ScriptedSynthesizer(120, faults=tts_faults),
        tools=tools,
    )


class Made:
    """Both ends' account of one simulated call."""

    def __init__(self) -> None:
        self.record: CallRecord
        self.report: CarrierReport
        self.journal = Journal()
        self.tape = Tape()
        self.ended_s = self.teardown_s = 0.0

    def kinds(self) -> list[str]:
        return [note.kind for note in self.record.notes]


async def make_call(
    agent: Agent,
    script: list[Action],
    *,
    config: CallConfig | None = None,
    line: LineFormat = MULAW_8K,
    faults: LineFaults | None = None,
) -> Made:
    made = Made()
    here, there = memory_sockets()
    carrier = FakeCarrier(script, line=line, faults=faults, tape=made.tape)

    async def node() -> None:
        made.record = await run_call(there, agent, config, journal=made.journal)
        made.teardown_s = trio.current_time()

    with trio.fail_after(600):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(node)
            made.report = await carrier.call(here)
            made.ended_s = trio.current_time()
    return made


def said(record: CallRecord, role: str) -> list[str]:
    return [message.text for message in record.transcript if message.role == role]


def sessions_open(agent: Agent) -> int:
    scripted_ones: tuple[Any, ...] = (agent.transcriber, agent.responder, agent.synthesizer)
    return sum(each.sessions.open for each in scripted_ones)


TWICE = [say(VOICE), wait_for_agent_quiet(1000), say(VOICE), wait_for_agent_quiet(1000)]
TALK = [wait_for_agent_quiet(500), say(VOICE), wait_for_agent_quiet(1000), hang_up()]


def test_a_question_is_answered() -> None:
    made = simulate(make_call, scripted(), TALK)
    assert said(made.record, "user") == [QUESTIONS[0]]
    assert said(made.record, "assistant") == [WELCOME, ANSWERS[0]]
    assert made.record.ended_by == "hung_up"
    assert made.report.counts.stale_messages == 0
    assert made.report.violations == ()
    assert made.report.gaps == ()


def test_the_node_s_response_is_what_the_ear_heard() -> None:
    made = simulate(make_call, scripted(), TALK)
    assert made.record.turns[0].response_ms == pytest.approx(
        made.report.turns[0].response_ms, abs=20
    )


@pytest.mark.parametrize("line", [MULAW_8K, ALAW_8K, L16_8K, L16_16K], ids=lambda f: f.encoding)
def test_every_format_of_the_line_works_end_to_end(line: LineFormat) -> None:
    async def call() -> Made:
        return await make_call(scripted(), TALK, line=line)

    assert said(simulate(call).record, "assistant") == [WELCOME, ANSWERS[0]]


# --- talking over the agent ---------------------------------------------------------------

LONG = "one two three four five six seven eight nine ten eleven twelve thirteen fourteen"


@pytest.mark.parametrize("after_ms", [400, 1000, 1900, 2750])
def test_after_a_barge_in_the_conversation_holds_what_was_heard(after_ms: int) -> None:
    agent = scripted(answers=(LONG, ANSWERS[1]), welcome="")
    script = [
        wait(500),
        say(VOICE),
        interrupt_after(after_ms, VOICE),
        wait_for_agent_quiet(1000),
        hang_up(),
    ]
    made = simulate(make_call, agent, script)
    assert made.record.stats.barge_ins == 1
    assert made.report.counts.clears == 1
    assert made.report.counts.stale_messages == 0
    onset = made.report.turns[0].response_onset_sample
    assert onset is not None
    ear = mulaw_to_pcm(bytes(made.tape.agent[onset : onset + 8 * 20_000]))
    sound = speak(LONG, 300)
    heard = sound.words_in(heard_samples(sound, ear))
    held = len(said(made.record, "assistant")[0].split())
    assert abs(held - heard) <= 1
    assert said(made.record, "user") == list(QUESTIONS)
    assert said(made.record, "assistant")[1] == ANSWERS[1]


def test_the_pause_comes_before_the_clear_and_both_are_counted() -> None:
    agent = scripted(answers=(LONG, ANSWERS[1]), welcome="")
    script = [wait(500), say(VOICE), interrupt_after(1000, VOICE), wait_for_agent_quiet(1000)]
    made = simulate(make_call, agent, script)
    (barge_in,) = made.record.barge_ins
    assert barge_in.pause_ms <= barge_in.clear_ms < 1000
    (at_the_ear,) = made.report.barge_ins
    assert at_the_ear.silence_ms is not None
    assert at_the_ear.silence_ms < 300


def test_a_hang_up_while_the_agent_speaks_ends_everything() -> None:
    agent = scripted(answers=(LONG,), welcome="")
    script = [wait(500), say(VOICE), wait(2000), hang_up()]
    made = simulate(make_call, agent, script)
    assert made.teardown_s - made.ended_s < 0.1
    assert sessions_open(agent) == 0
    held = said(made.record, "assistant")
    assert len(held) == 1
    assert LONG.startswith(held[0])
    assert 0 < len(held[0]) < len(LONG)


def test_an_uninterruptible_welcome_is_heard_whole() -> None:
    definition = AgentDefinition(name="law", welcome_message=LONG, is_welcome_interruptible=False)
    agent = dataclasses.replace(scripted(), definition=definition)
    made = simulate(make_call, agent, [wait(1000), say(VOICE), wait_for_agent_quiet(1500)])
    assert made.report.counts.clears == 0
    assert said(made.record, "assistant")[0] == LONG
    assert said(made.record, "user") == []


def test_an_agent_takes_turns_in_its_own_way() -> None:
    def ended_ms(definition: AgentDefinition) -> float:
        agent = dataclasses.replace(scripted(welcome=""), definition=definition)
        made = simulate(make_call, agent, [wait(500), say(VOICE), wait_for_agent_quiet(1500)])
        return next(note.at_ms for note in made.record.notes if note.kind == "turn_ended")

    usual = ended_ms(AgentDefinition(name="usual"))
    patient = ended_ms(AgentDefinition(name="patient", turn_preset="patient"))
    assert patient - usual == pytest.approx(200, abs=20)  # complete_ms: 500 instead of 300
    own = ended_ms(AgentDefinition(name="own", turn={"complete_ms": 700}))
    assert own - usual == pytest.approx(400, abs=20)


@pytest.mark.parametrize("turn", [{"complete_mss": 1}, {"complete_ms": 10}, {"complete_ms": "x"}])
def test_turn_numbers_that_cannot_be_are_refused_with_the_agent(turn: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="turn: "):
        AgentDefinition(name="x", turn=turn)  # type: ignore[arg-type] # what a file may hold


def test_another_preset_can_be_taken_in_mid_call() -> None:
    made = Made()

    async def call() -> None:
        here, there = memory_sockets()
        carrier = FakeCarrier([wait(500), say(VOICE), wait_for_agent_quiet(1500)])

        def started(begun: Call) -> None:
            begun.steering.take_turns(TurnConfig.preset("patient"))

        async def node() -> None:
            made.record = await run_call(there, scripted(welcome=""), on_start=started)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(node)
            await carrier.call(here)

    simulate(call)
    times = {note.kind: note.at_ms for note in made.record.notes}
    assert times["turn_ended"] - times["speech_stopped"] > 280


# --- functions ----------------------------------------------------------------------------


def tool(name: str, effect: str, done: list[str], takes_s: float = 0.0) -> Tool:
    async def run(use: ToolUse) -> str:
        done.append(f"{name} begun {use.key}")
        await trio.sleep(takes_s)
        done.append(f"{name} done")
        return "done"

    spec = ToolSpec(name=name, description=name)
    return Tool(spec=spec, effect=effect, run=run)  # type: ignore[arg-type] # a parameter


def test_a_write_outlives_the_interruption_and_runs_once() -> None:
    done: list[str] = []
    order = ToolCall(id="c1", name="order", arguments="{}")
    agent = scripted(
        answers=(order, ANSWERS[1]), welcome="", tools=(tool("order", "write", done, 3.0),)
    )
    script = [wait(500), say(VOICE), wait(2000), say(VOICE), wait_for_agent_quiet(2500)]
    made = simulate(make_call, agent, script)
    assert [line.split()[1] for line in done] == ["begun", "done"]
    results = [m.text for m in made.record.transcript if m.role == "tool"]
    assert results == ["done"]
    assert sessions_open(agent) == 0


def test_hang_up_waits_until_the_goodbye_is_heard() -> None:
    class Goodbye(ScriptedResponder):
        async def respond(self, request, out):  # type: ignore[no-untyped-def]
            await out.send(TextDelta(text="Thank you and goodbye."))
            await out.send(ToolCall(id="h", name="hang_up", arguments=""))
            await out.send(Finished(stop_reason="tool_calls"))

    agent = scripted(welcome="")
    agent = Agent(agent.definition, agent.transcriber, Goodbye([""]), agent.synthesizer)
    made = simulate(make_call, agent, [wait(500), say(VOICE), wait(20_000)])
    assert made.record.ended_by == "agent_hung_up"
    assert said(made.record, "assistant") == ["Thank you and goodbye."]
    sound = speak("Thank you and goodbye.", 300)
    start, end = made.report.agent_runs[0]
    assert end - start >= sound.samples - 800
    assert made.report.counts.played_checkpoints == 1


def test_keys_are_told_to_the_agent() -> None:
    agent = scripted(welcome="")
    made = simulate(make_call, agent, [wait(500), dtmf("12#"), wait_for_agent_quiet(2000)])
    assert said(made.record, "user") == ["(pressed 12#)"]


def test_a_key_pressed_before_the_welcome_sounds_is_answered_after_it() -> None:
    agent = scripted(welcome=WELCOME)
    made = simulate(make_call, agent, [dtmf("1"), wait_for_agent_quiet(2000)])
    assert said(made.record, "user") == ["(pressed 1)"]
    assert said(made.record, "assistant") == [WELCOME, ANSWERS[0]]


# --- when others fail ---------------------------------------------------------------------


def test_a_failed_answer_is_an_apology_and_the_call_goes_on() -> None:
    agent = scripted(welcome="", llm_faults={0: ProviderFault(kind="raise")})
    made = simulate(make_call, agent, [wait(500), *TWICE])
    heard = said(made.record, "assistant")
    assert heard[0] == agent.definition.apology_line
    assert heard[1] == ANSWERS[1]
    assert made.record.stats.provider_errors == 1


def test_a_lost_recogniser_is_opened_anew() -> None:
    agent = scripted(welcome="", stt_faults={0: ProviderFault(kind="raise")})
    made = simulate(make_call, agent, [wait(500), *TWICE])
    assert said(made.record, "user")
    assert isinstance(agent.transcriber, ScriptedTranscriber)
    assert agent.transcriber.sessions.opened == 2


def test_a_stalled_voice_does_not_leave_silence() -> None:
    agent = scripted(welcome="", tts_faults={0: ProviderFault(kind="stall", after_items=2)})
    script = [wait(500), say(VOICE), wait_for_agent_quiet(4500), hang_up()]
    made = simulate(make_call, agent, script)
    assert agent.definition.apology_line in said(made.record, "assistant")


def test_who_speaks_into_a_stalled_voice_is_answered() -> None:
    agent = scripted(welcome="", tts_faults={0: ProviderFault(kind="stall", after_items=2)})
    script = [wait(500), say(VOICE), wait(2500), say(VOICE), wait_for_agent_quiet(1000), hang_up()]
    made = simulate(make_call, agent, script)
    assert made.report.turns[1].response_ms == pytest.approx(650, abs=150)
    assert said(made.record, "assistant")[-1] == ANSWERS[1]


def test_an_early_answer_that_fails_is_asked_for_again() -> None:
    mind = ScriptedResponder(ANSWERS, faults={0: ProviderFault(kind="raise")})
    agent = dataclasses.replace(scripted(welcome=""), responder=mind)
    made = simulate(make_call, agent, [wait(500), say(VOICE), wait_for_agent_quiet(1000)])
    assert said(made.record, "assistant") == [ANSWERS[0]]
    assert made.record.stats.provider_errors == 1


def test_a_voice_that_ends_early_has_failed() -> None:
    agent = scripted(welcome="", tts_faults={0: ProviderFault(kind="end", after_items=2)})
    made = simulate(make_call, agent, [wait(500), say(VOICE), wait_for_agent_quiet(2500)])
    assert made.record.stats.provider_errors == 1
    assert agent.definition.apology_line in said(made.record, "assistant")


def test_a_socket_that_never_starts_is_let_go() -> None:
    async def silent() -> CallRecord:
        here, there = memory_sockets()
        record = await run_call(there, scripted())
        await here.aclose()
        return record

    assert simulate(silent).ended_by == "no_start"


def test_a_carrier_that_breaks_the_protocol_is_told_so() -> None:
    async def broken() -> int:
        here, there = memory_sockets()
        here.send(b'{"event":"media","media":{"payload":"AAAA"}}')
        with pytest.raises(RemoteProtocolError):
            await run_call(there, scripted())
        with pytest.raises(SocketClosed) as caught:
            await here.receive()
        return caught.value.code

    assert simulate(broken) == 1002


def test_a_line_gone_silent_is_given_up() -> None:
    config = CallConfig(silence_limit_s=10.0)

    async def call() -> Made:
        return await make_call(
            scripted(), [wait(60_000)], config=config, faults=LineFaults(mute_at_ms=2000)
        )

    made = simulate(call)
    assert made.record.ended_by == "no_media"
    assert 11.5 < made.record.duration_s < 13


def test_a_caller_who_says_nothing_is_reminded_then_bid_goodbye() -> None:
    agent = scripted()
    made = simulate(make_call, agent, [wait(120_000)])
    idle = agent.definition.idle
    assert said(made.record, "assistant") == [WELCOME, *idle.reminders, idle.goodbye]
    assert made.record.ended_by == "agent_hung_up"


def test_a_goodbye_that_takes_too_long_is_cut_and_ends_the_call() -> None:
    config = CallConfig(reply_limit_s=2.5)
    agent = scripted(welcome="")
    idle = IdlePolicy(reminders=(), goodbye=LONG)
    definition = msgspec.structs.replace(agent.definition, idle=idle)
    agent = Agent(definition, agent.transcriber, agent.responder, agent.synthesizer)
    made = simulate(partial(make_call, config=config), agent, [wait(60_000)])
    (heard,) = said(made.record, "assistant")
    assert LONG.startswith(heard)
    assert heard != LONG
    assert made.record.ended_by == "agent_hung_up"
    assert made.record.duration_s < config.turn.idle_ms / 1000 + 3


def test_a_host_that_cancels_ends_the_call_at_once() -> None:
    agent = scripted(welcome=LONG)

    async def host() -> float:
        here, there = memory_sockets()
        carrier = FakeCarrier([wait(60_000)])
        async with trio.open_nursery() as nursery:
            nursery.start_soon(carrier.call, here)
            with trio.move_on_after(1.5):
                await run_call(there, agent)
            took = trio.current_time()
            assert not there.is_open
            nursery.cancel_scope.cancel()
        return took

    assert simulate(host) == pytest.approx(1.5, abs=0.1)
    assert sessions_open(agent) == 0


# --- the same call, twice -----------------------------------------------------------------


def busy_script() -> list[Action]:
    return [
        wait_for_agent_quiet(500),
        say(VOICE),
        interrupt_after(1500, VOICE),
        wait_for_agent_quiet(1000),
        dtmf("1"),
        wait_for_agent_quiet(1000),
        hang_up(),
    ]


def test_the_same_call_gives_the_same_log_byte_for_byte() -> None:
    async def call() -> bytes:
        faults = LineFaults(seed=7, loss=0.02, reorder=0.05, jitter_ms=30)
        return (await make_call(scripted(), busy_script(), faults=faults)).journal.to_jsonl()

    logs = {simulate(call, seed=5) for _ in range(3)}
    assert len(logs) == 1
    (log,) = logs
    kinds = [json.loads(line)["kind"] for line in log.splitlines()]
    assert {"turn_eager", "turn_ended", "cleared", "call_ended"} <= set(kinds)


def test_discarded_speculation_leaves_no_trace() -> None:
    """The caller pauses in mid-sentence, long enough for an answer to be begun."""
    agent = scripted(questions=("We come on Monday", "What time do you open then?"), welcome="")
    script = [wait(500), say(VOICE), wait(450), say(VOICE), wait_for_agent_quiet(1000), hang_up()]
    made = simulate(make_call, agent, script)
    assert made.record.stats.discarded >= 1
    assert said(made.record, "user") == ["We come on Monday What time do you open then?"]
    assert len(said(made.record, "assistant")) == 1
    assert len(made.record.turns) == 1
    assert sessions_open(agent) == 0


@pytest.mark.parametrize("pause_ms", [540, 600, 640])
def test_an_answer_that_is_ready_does_not_begin_while_the_caller_goes_on(pause_ms: int) -> None:
    """It would be heard 670 ms after the caller; by then they have spoken on for a moment."""
    agent = scripted(questions=("What time do you open?", "On Monday?"), welcome="")
    script = [wait(500), say(VOICE), wait(pause_ms), say(VOICE)]
    made = simulate(make_call, agent, [*script, wait_for_agent_quiet(1000), hang_up()])
    assert len(made.record.turns) == 1
    assert len(said(made.record, "assistant")) == 1
    assert made.report.counts.stale_messages == 0


def test_a_noise_as_an_answer_is_about_to_begin_holds_it_for_a_moment_only() -> None:
    click = VOICE[: 2 * 8 * 100]
    script = [wait(500), say(VOICE), wait(620), say(click), wait_for_agent_quiet(1000), hang_up()]
    agent = scripted(questions=(QUESTIONS[0], ""), welcome="")  # no words in a noise
    made = simulate(make_call, agent, script)
    (turn,) = made.record.turns
    assert 670 < turn.response_ms < 670 + 250
    assert turn.playout_ms == pytest.approx(turn.response_ms - 670, abs=21)
    assert said(made.record, "assistant") == [ANSWERS[0]]


# --- many calls, hung up anywhere ---------------------------------------------------------


def random_faults(dice: random.Random) -> LineFaults:
    return LineFaults(
        seed=dice.randrange(1 << 30),
        loss=dice.choice((0.0, 0.02)),
        reorder=dice.choice((0.0, 0.05)),
        jitter_ms=dice.choice((0.0, 40.0)),
        stall_every_ms=dice.choice((0.0, 0.0, 900.0)),
        stall_ms=300.0,
        close_at_ms=dice.choice((None, dice.uniform(0, 6000))),
        dead_at_ms=dice.choice((None, None, dice.uniform(0, 6000))),
        spurious_clear_at_ms=dice.choice((None, dice.uniform(0, 6000))),
    )


def random_provider_faults(dice: random.Random) -> dict[int, ProviderFault]:
    kinds: tuple[Any, ...] = ("raise", "end", "stall", "slow", "malformed")
    return {
        n: ProviderFault(kind=dice.choice(kinds), after_items=dice.randrange(4))
        for n in range(4)
        if dice.random() < 0.15
    }


@pytest.mark.parametrize("seed", range(60))
def test_hung_up_anywhere_nothing_is_left(seed: int) -> None:
    """A sample of what ``tests/soak.py`` does ten thousand times."""
    soak_one(seed)


def soak_one(seed: int) -> float:
    """One random call; returns its teardown in simulated seconds."""
    dice = random.Random(seed)
    agent = scripted(
        stt_faults=random_provider_faults(dice),
        llm_faults=random_provider_faults(dice),
        tts_faults=random_provider_faults(dice),
    )
    script = busy_script()
    hang_up_ms = dice.uniform(0, 9000)

    async def call() -> float:
        config = CallConfig(silence_limit_s=5.0)
        here, there = memory_sockets()
        carrier = FakeCarrier(script, faults=random_faults(dice), limit_s=hang_up_ms / 1000)
        ended_s = over_s = 0.0

        async def node() -> None:
            nonlocal over_s
            await run_call(there, agent, config)
            over_s = trio.current_time()

        with trio.fail_after(60):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(node)
                report = await carrier.call(here)
                ended_s = trio.current_time()
        assert report.violations == ()
        assert report.counts.stale_messages == 0
        assert sessions_open(agent) == 0
        return max(0.0, over_s - ended_s)

    teardown_s = simulate(call, seed=seed)
    assert teardown_s < 0.1
    return teardown_s
