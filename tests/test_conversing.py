"""A call with one model that hears, thinks and speaks, on the simulated clock."""

from __future__ import annotations

import dataclasses
from functools import partial
from typing import Any, TypeVar

import msgspec
import pytest
import trio

from rtcore.agent.agent import Agent, Colleague
from rtcore.agent.definition import AgentDefinition
from rtcore.agent.tools import Tool
from rtcore.answering import LINES_MAX
from rtcore.audio import mulaw_to_pcm
from rtcore.call import Call, run_call
from rtcore.config import CallConfig
from rtcore.errors import ConfigError, ProviderError
from rtcore.model_reply import CALLS_MAX, SOUND_MAX, ModelReply
from rtcore.model_turns import WAITING_MAX
from rtcore.ports import CallerAudio, Hit, ToolCall
from rtcore.speech_port import (
    CancelReply,
    Forget,
    Instruct,
    ReplyAudio,
    ReplyBegun,
    ReplyDone,
    ReplyText,
    ReplyToolCall,
    Respond,
    Say,
    Tell,
    ToolResult,
    Truncate,
)
from rtcore.testing import (
    FakeCarrier,
    ProviderFault,
    ScriptedSpeechModel,
    ScriptedSynthesizer,
    ScriptedTranscriber,
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
from tests.test_call import (
    ANSWERS,
    LONG,
    QUESTIONS,
    VOICE,
    WELCOME,
    Made,
    make_call,
    said,
    scripted,
    tool,
)

T = TypeVar("T")
Said = str | ToolCall | tuple[str | ToolCall, ...]
TALK = [wait_for_agent_quiet(500), say(VOICE), wait_for_agent_quiet(1000), hang_up()]
TWICE = [say(VOICE), wait_for_agent_quiet(1000), say(VOICE), wait_for_agent_quiet(1000)]
ASK = [wait(500), say(VOICE), wait_for_agent_quiet(1000)]
FRAME_MS = 20
TURNS = ("ours", "theirs")
EFFECTS = {"read_a": "read", "read_b": "read", "write_a": "write", "write_b": "write"}


def model(*replies: Said, **how: Any) -> ScriptedSpeechModel:
    """One that takes 300 ms to its first sound, whatever it says."""
    return ScriptedSpeechModel(replies or ANSWERS, QUESTIONS, **{"first_audio_ms": 300, **how})


def agent_of(
    talker: ScriptedSpeechModel,
    *tools: Tool,
    welcome: str = "",
    voice: ScriptedSynthesizer | None = None,
    **words: Any,
) -> Agent:
    definition = AgentDefinition(name="desk", welcome_message=welcome, **words)
    if voice is None:
        return Agent(definition, speech_model=talker, tools=tools)
    return Agent(definition, synthesizer=voice, speech_model=talker, tools=tools)


def told(talker: ScriptedSpeechModel, kind: type[T]) -> list[T]:
    return [command for command in talker.told if isinstance(command, kind)]


def asked(name: str) -> ToolCall:
    return ToolCall(id=name, name=name, arguments="{}")


# --- a conversation -----------------------------------------------------------------------


@pytest.mark.parametrize("turns", TURNS)
def test_a_question_is_answered(turns: str) -> None:
    talker = model(turns=turns)
    made = simulate(make_call, agent_of(talker, welcome=WELCOME), TALK)
    assert said(made.record, "user") == [QUESTIONS[0]]
    assert said(made.record, "assistant") == [WELCOME, ANSWERS[0]]
    assert made.record.ended_by == "hung_up"
    assert made.record.stats.turns == 1
    assert made.report.counts.stale_messages == 0
    assert made.report.violations == ()
    assert made.report.gaps == ()
    assert talker.sessions.opened == 1
    assert talker.sessions.open == 0


@pytest.mark.parametrize("turns", TURNS)
def test_the_parts_of_a_response_sum_to_what_the_ear_heard(turns: str) -> None:
    made = simulate(make_call, agent_of(model(turns=turns), welcome=WELCOME), TALK)
    (timing,) = made.record.turns
    assert timing.response_ms == pytest.approx(made.report.turns[0].response_ms, abs=20)
    if turns == "theirs":
        assert 500 < timing.endpointing_ms < 660  # it hears in pieces of 80 ms
        assert timing.llm_first_token_ms == pytest.approx(300, abs=1)


def test_the_answer_is_begun_before_the_turn_is_certain() -> None:
    made = simulate(make_call, agent_of(model(), welcome=WELCOME), TALK)
    (timing,) = made.record.turns
    assert timing.is_speculative
    assert timing.endpointing_ms == pytest.approx(860 - 300, abs=40)
    config = CallConfig(speculate=False)
    made = simulate(partial(make_call, config=config), agent_of(model(), welcome=WELCOME), TALK)
    (slower,) = made.record.turns
    assert slower.response_ms - timing.response_ms == pytest.approx(300, abs=40)


def test_our_turns_withhold_silence_and_theirs_do_not() -> None:
    heard_s = {}
    for turns in TURNS:
        talker = model(turns=turns)
        made = simulate(make_call, agent_of(talker, welcome=WELCOME), TALK)
        heard_s[turns] = talker.heard_samples / 8000
    assert heard_s["ours"] < 3
    assert heard_s["theirs"] == pytest.approx(made.record.duration_s, abs=0.5)


def test_a_caller_who_goes_on_leaves_no_trace_of_what_was_begun() -> None:
    talker = model(first_audio_ms=100)
    script = [wait(500), say(VOICE), wait(600), say(VOICE), wait_for_agent_quiet(1000)]
    made = simulate(make_call, agent_of(talker), script)
    assert made.record.stats.discarded == 1
    assert said(made.record, "user") == [QUESTIONS[0]]
    assert said(made.record, "assistant") == [ANSWERS[0]]
    first, second = (each.reply for each in told(talker, Respond))
    assert [each.reply for each in told(talker, CancelReply)] == [first]
    assert [(each.reply, each.heard_ms) for each in told(talker, Truncate)] == [(first, 0)]
    assert first != second
    (usage,) = made.record.usage
    assert usage.wasted_speech_s > 0
    assert usage.wasted_tokens > 0


def test_a_recogniser_beside_the_model_tells_the_end_of_a_turn_sooner() -> None:
    alone = simulate(make_call, agent_of(model(), welcome=WELCOME), TALK)
    agent = agent_of(model(), welcome=WELCOME)
    ears = ScriptedTranscriber(QUESTIONS, 100, partial_ms=200)
    beside = simulate(make_call, dataclasses.replace(agent, transcriber=ears), TALK)
    assert said(beside.record, "user") == [QUESTIONS[0]]
    faster_ms = alone.record.turns[0].response_ms - beside.record.turns[0].response_ms
    assert faster_ms > 200
    assert ears.sessions.open == 0


def test_keys_are_told_to_the_model() -> None:
    for turns in TURNS:
        talker = model(turns=turns)
        script = [wait(500), dtmf("12#"), wait_for_agent_quiet(1500)]
        made = simulate(make_call, agent_of(talker), script)
        assert [each.text for each in told(talker, Tell)] == ["(pressed 12#)"]
        assert "(pressed 12#)" in said(made.record, "user")[0]
        assert said(made.record, "assistant") == [ANSWERS[0]]


def test_what_a_call_used_of_the_model_is_in_its_record() -> None:
    made = simulate(make_call, agent_of(model(), welcome=WELCOME), TALK)
    (usage,) = made.record.usage
    assert (usage.kind, usage.provider) == ("speech", "scripted-model")
    assert usage.requests == usage.answered == 2
    assert usage.audio_s == pytest.approx(2.1, abs=0.3)
    assert usage.speech_s == pytest.approx(0.3 * len(f"{WELCOME} {ANSWERS[0]}".split()), abs=0.1)
    assert usage.audio_tokens == usage.input_tokens + usage.output_tokens > 0


# --- talking over the agent ---------------------------------------------------------------


@pytest.mark.parametrize("turns", TURNS)
@pytest.mark.parametrize("after_ms", [400, 1000, 1900, 2750])
def test_the_model_is_told_exactly_what_was_heard(turns: str, after_ms: int) -> None:
    talker = model(LONG, ANSWERS[1], turns=turns)
    script = [
        wait(500),
        say(VOICE),
        interrupt_after(after_ms, VOICE),
        wait_for_agent_quiet(1000),
        hang_up(),
    ]
    made = simulate(make_call, agent_of(talker), script)
    assert made.record.stats.barge_ins == 1
    (barge_in,) = made.record.barge_ins
    assert 40 <= barge_in.pause_ms <= barge_in.clear_ms < 600
    assert made.report.counts.clears == 1
    assert made.report.counts.stale_messages == 0
    start = made.report.turns[0].response_onset_sample
    assert start is not None
    ear = mulaw_to_pcm(bytes(made.tape.agent[start : start + 8 * 20_000]))
    heard_ms = heard_samples(speak(LONG, 300), ear) / 8
    (truncate,) = told(talker, Truncate)
    assert truncate.heard_ms == pytest.approx(heard_ms, abs=FRAME_MS)
    assert said(made.record, "assistant") == [truncate.heard_text, ANSWERS[1]]
    assert said(made.record, "user") == list(QUESTIONS)


def test_nothing_follows_a_clear_in_whatever_order_the_tasks_run() -> None:
    """Also not a piece of sound that came in the very tick of the interruption."""
    for after_ms in range(1000, 2000, 37):
        talker = model(LONG, ANSWERS[1], speed=1.5)
        script = [*ASK[:2], interrupt_after(after_ms, VOICE), wait_for_agent_quiet(1000)]
        made = simulate(make_call, agent_of(talker), script)
        assert made.report.counts.clears == 1
        assert made.report.counts.stale_messages == 0


def test_a_reply_still_being_made_is_cancelled_before_it_is_cut() -> None:
    talker = model(LONG, ANSWERS[1], speed=1.2)
    script = [wait(500), say(VOICE), interrupt_after(1000, VOICE), wait_for_agent_quiet(1000)]
    simulate(make_call, agent_of(talker), script)
    kinds = [type(each) for each in talker.told]
    assert kinds == [Respond, CancelReply, Truncate, Respond]


def test_a_noise_over_the_agent_changes_nothing() -> None:
    talker = model(LONG)
    blip = VOICE[: 16 * 120]
    script = [wait(500), say(VOICE), interrupt_after(1000, blip), wait_for_agent_quiet(1000)]
    made = simulate(make_call, agent_of(talker), script)
    assert made.record.stats.dismissed == 1
    assert made.record.stats.barge_ins == 0
    assert told(talker, Forget) == [Forget()]
    assert told(talker, Truncate) == []
    assert said(made.record, "assistant") == [LONG]


@pytest.mark.parametrize("turns", TURNS)
def test_an_uninterruptible_welcome_is_heard_whole(turns: str) -> None:
    agent = agent_of(model(turns=turns), welcome=LONG, is_welcome_interruptible=False)
    made = simulate(make_call, agent, [wait(1000), say(VOICE), wait_for_agent_quiet(1500)])
    assert made.report.counts.clears == 0
    assert said(made.record, "assistant")[0] == LONG
    assert said(made.record, "user") == []


@pytest.mark.parametrize("turns", TURNS)
def test_a_hang_up_while_the_agent_speaks_ends_everything(turns: str) -> None:
    talker = model(LONG, turns=turns)
    made = simulate(make_call, agent_of(talker), [wait(500), say(VOICE), wait(2500), hang_up()])
    assert made.teardown_s - made.ended_s < 0.1
    assert talker.sessions.open == 0
    (held,) = said(made.record, "assistant")
    assert LONG.startswith(held)
    assert 0 < len(held) < len(LONG)


def test_their_turns_leave_the_line_to_the_model_s_judgement() -> None:
    """Our own suspicion neither holds nor cuts: a model that hears nothing is not stopped."""
    talker = model(LONG, turns="theirs")
    whisper = bytes(16 * 400)
    script = [wait(500), say(VOICE), interrupt_after(1000, whisper), wait_for_agent_quiet(1000)]
    made = simulate(make_call, agent_of(talker), script)
    assert "barge_in_suspected" not in made.kinds()
    assert said(made.record, "assistant") == [LONG]


# --- silence ------------------------------------------------------------------------------


@pytest.mark.parametrize("turns", TURNS)
def test_a_silent_caller_is_reminded_and_then_left(turns: str) -> None:
    talker = model(turns=turns)
    agent = agent_of(talker)
    made = simulate(make_call, agent, [wait(90_000)])
    idle = agent.definition.idle
    assert said(made.record, "assistant") == [*idle.reminders, idle.goodbye]
    assert made.record.ended_by == "agent_hung_up"


@pytest.mark.parametrize("turns", TURNS)
def test_a_model_that_says_nothing_is_apologised_for(turns: str) -> None:
    talker = model(turns=turns, faults={0: ProviderFault(kind="stall")})
    voice = ScriptedSynthesizer(100)
    agent = agent_of(talker, voice=voice)
    made = simulate(make_call, agent, [wait(500), say(VOICE), wait(12_000)])
    assert said(made.record, "assistant")[0] == agent.definition.apology_line
    assert talker.sessions.open == 0
    assert voice.sessions.open == 0


# --- fixed lines --------------------------------------------------------------------------


@pytest.mark.parametrize("turns", TURNS)
def test_a_line_the_model_has_said_is_known_in_the_next_call(turns: str) -> None:
    talker = model(first_audio_ms=800, turns=turns)
    agent = agent_of(talker, welcome=WELCOME)
    first, second = (simulate(make_call, agent, TALK) for _ in range(2))
    for made in (first, second):
        assert said(made.record, "assistant") == [WELCOME, ANSWERS[0]]
        assert made.report.counts.stale_messages == 0
    begun_ms = [made.report.agent_runs[0][0] / 8 for made in (first, second)]
    assert begun_ms[0] >= 800
    assert begun_ms[1] < 100
    assert [each.text for each in told(talker, Say)] == [WELCOME]
    (note,) = told(talker, Tell)
    assert note == Tell(text=f"(You have just said to the caller: {WELCOME})", is_note=True)
    heard_s = [made.record.usage[0].speech_s for made in (first, second)]
    assert heard_s[1] == pytest.approx(heard_s[0] - speak(WELCOME).samples / 8000, abs=0.01)


def test_of_a_known_line_too_the_model_knows_what_was_heard() -> None:
    talker = model(ANSWERS[1])
    agent = agent_of(talker, welcome=LONG)
    simulate(make_call, agent, [wait_for_agent_quiet(1000)])
    script = [interrupt_after(1500, VOICE), wait_for_agent_quiet(1000)]
    made = simulate(make_call, agent, script)
    heard, answer = said(made.record, "assistant")
    assert LONG.startswith(heard)
    assert 0 < len(heard) < len(LONG)
    assert answer == ANSWERS[1]
    (note,) = told(talker, Tell)
    assert note.text == f"(You have just said to the caller: {heard})"
    assert made.record.stats.barge_ins == 1


def test_of_a_known_line_that_nobody_heard_the_model_is_told_nothing() -> None:
    talker = model(ANSWERS[1])
    agent = agent_of(talker, welcome=WELCOME)
    simulate(make_call, agent, [wait_for_agent_quiet(1000)])
    made = simulate(make_call, agent, [wait(60), dtmf("1"), wait_for_agent_quiet(1500)])
    assert said(made.record, "assistant") == [ANSWERS[1]]
    assert [note.text for note in told(talker, Tell)] == ["(pressed 1)"]


def test_a_line_that_was_not_said_whole_or_not_as_it_stands_is_not_kept() -> None:
    class Free(ScriptedSpeechModel):
        """Says what it likes."""

        async def converse(self, session: Any, commands: Any, emit: Any) -> None:
            def twist(event: Any) -> None:
                if isinstance(event, ReplyText):
                    event = msgspec.structs.replace(event, text=f"Well. {event.text}")
                emit(event)

            await super().converse(session, commands, twist)

    for talker, script in (
        (Free(ANSWERS), [wait_for_agent_quiet(1000)]),
        (model(), [interrupt_after(500, VOICE), wait(200)]),
    ):
        agent = agent_of(talker, welcome=WELCOME)
        simulate(make_call, agent, script)
        assert agent.lines.get(talker.name, WELCOME) is None


# --- functions ----------------------------------------------------------------------------


def test_a_function_is_run_and_its_result_told() -> None:
    done: list[str] = []
    talker = model(("Let me look.", asked("look")), ANSWERS[1])
    made = simulate(make_call, agent_of(talker, tool("look", "read", done)), ASK)
    assert said(made.record, "assistant") == ["Let me look.", "That is done."]
    (result,) = told(talker, ToolResult)
    assert result.text == "done"
    wanted, held = made.record.transcript[1:3]
    assert [call.name for call in wanted.tool_calls] == ["look"]
    assert (held.role, held.text, held.tool_call_id) == ("tool", "done", result.call_id)
    assert made.record.stats.tool_calls == 1


def test_what_only_reads_runs_together_and_writes_run_in_order() -> None:
    done: list[str] = []
    tools = [tool(name, effect, done, 0.5) for name, effect in EFFECTS.items()]
    parts = tuple(asked(name) for name in ("read_a", "read_b", "write_a", "write_b"))

    talker = model(parts)
    made = simulate(make_call, agent_of(talker, *tools), ASK)
    order = [tuple(line.split()[:2]) for line in done]
    assert set(order[:2]) == {("read_a", "begun"), ("read_b", "begun")}
    assert set(order[2:4]) == {("read_a", "done"), ("read_b", "done")}
    assert order[4:] == [
        ("write_a", "begun"),
        ("write_a", "done"),
        ("write_b", "begun"),
        ("write_b", "done"),
    ]
    assert len(told(talker, ToolResult)) == 4
    assert made.record.stats.tool_calls == 4


def test_a_write_of_a_discarded_answer_never_runs() -> None:
    done: list[str] = []
    talker = model((asked("order"),), first_audio_ms=50)
    script = [wait(500), say(VOICE), wait(600), say(VOICE), wait_for_agent_quiet(1000)]
    made = simulate(make_call, agent_of(talker, tool("order", "write", done)), script)
    assert made.record.stats.discarded == 1
    assert [line.split()[1] for line in done] == ["begun", "done"]
    cancelled, told_ = told(talker, ToolResult)
    assert cancelled.text.startswith("cancelled")
    assert told_.text == "done"


def test_a_write_outlives_the_interruption_and_the_model_learns_of_it() -> None:
    done: list[str] = []
    talker = model((asked("order"),), ANSWERS[1])
    agent = agent_of(talker, tool("order", "write", done, 3.0), filler_line="")
    script = [wait(500), say(VOICE), wait(2000), say(VOICE), wait_for_agent_quiet(2500)]
    made = simulate(make_call, agent, script)
    assert [line.split()[1] for line in done] == ["begun", "done"]
    assert [m.text for m in made.record.transcript if m.role == "tool"] == ["done"]
    assert [each.text for each in told(talker, ToolResult)] == ["done"]
    assert talker.sessions.open == 0


def test_a_long_function_is_bridged_once() -> None:
    done: list[str] = []
    talker = model((asked("order"),))
    agent = agent_of(talker, tool("order", "write", done, 6.0))
    made = simulate(make_call, agent, [wait(500), say(VOICE), wait_for_agent_quiet(5000)])
    filler = agent.definition.filler_line
    assert said(made.record, "assistant") == ["", filler, "That is done."]
    assert [each.text for each in told(talker, Say)] == [filler]


def test_hang_up_waits_until_the_goodbye_is_heard() -> None:
    goodbye = "Thank you and goodbye."
    talker = model((goodbye, ToolCall(id="h", name="hang_up", arguments="")))
    made = simulate(make_call, agent_of(talker), [wait(500), say(VOICE), wait(20_000)])
    assert made.record.ended_by == "agent_hung_up"
    assert said(made.record, "assistant") == [goodbye]
    start, end = made.report.agent_runs[0]
    assert end - start >= speak(goodbye, 300).samples - 800
    assert made.report.counts.played_checkpoints == 1


def test_a_function_that_cannot_be_called_is_explained_to_the_model() -> None:
    talker = model((ToolCall(id="x", name="nothing", arguments="{"),))
    made = simulate(make_call, agent_of(talker), [wait(500), say(VOICE), wait(4000)])
    (result,) = told(talker, ToolResult)
    assert result.text == "error: there is no function 'nothing'; there are: hang_up"
    assert made.record.stats.tool_calls == 0
    assert said(made.record, "assistant")[-1] == "That is done."


def test_a_model_that_only_calls_is_stopped() -> None:
    done: list[str] = []
    talker = model(tuple(part for _ in range(9) for part in ("So.", asked("look"))))
    agent = agent_of(talker, tool("look", "read", done), voice=ScriptedSynthesizer(100))
    made = simulate(make_call, agent, [wait(500), say(VOICE), wait_for_agent_quiet(1000)])
    assert made.record.stats.tool_calls == CallConfig().tool_steps_max
    assert said(made.record, "assistant")[-1] == agent.definition.apology_line


@pytest.mark.parametrize("can_be_instructed", [True, False])
def test_another_agent_goes_on_with_the_call(can_be_instructed: bool) -> None:
    talker = model(
        ("One moment.", ToolCall(id="h", name="hand_over", arguments='{"to":"law"}')),
        ANSWERS[1],
        can_be_instructed=can_be_instructed,
    )
    law = agent_of(talker, welcome="This is the law desk.", prompt="You know the law.")
    desk = dataclasses.replace(
        agent_of(talker, prompt="You are the desk."), colleagues={"law": Colleague(law, "law")}
    )
    made = simulate(make_call, desk, [wait(500), *TWICE])
    heard = ["One moment.", "This is the law desk.", ANSWERS[1]]
    assert [text for text in said(made.record, "assistant") if text] == heard
    if can_be_instructed:
        assert [each.instructions for each in told(talker, Instruct)] == ["You know the law."]
    else:
        assert [each.instructions for each in talker.begun] == [
            "You are the desk.",
            "You know the law.",
        ]
        assert [m.text for m in talker.begun[1].messages if m.role == "assistant"] == heard[:1]


def test_agents_that_talk_in_another_way_cannot_take_over() -> None:
    for other in (scripted(welcome="Hello."), agent_of(model(turns="theirs"), welcome="Hello.")):
        with pytest.raises(ConfigError, match=r"colleagues\.law\.speech_model"):
            dataclasses.replace(agent_of(model()), colleagues={"law": Colleague(other, "law")})


def test_documents_are_a_function_of_the_model() -> None:
    class Index:
        async def search(self, question: str, limit: int) -> tuple[Hit, ...]:
            assert question == "opening hours"
            return (Hit(text="We open at nine.", title="Hours"),)

    call = ToolCall(id="l", name="look_up", arguments='{"question":"opening hours"}')
    talker = model((call,))
    agent = dataclasses.replace(agent_of(talker), knowledge=Index())
    simulate(make_call, agent, [wait(500), say(VOICE), wait_for_agent_quiet(1000)])
    assert "look_up" in [spec.name for spec in talker.begun[0].tools]
    (result,) = told(talker, ToolResult)
    assert "We open at nine." in result.text


# --- when the model fails -----------------------------------------------------------------


@pytest.mark.parametrize("turns", TURNS)
@pytest.mark.parametrize("kind", ["raise", "end"])
def test_a_session_lost_before_the_answer_costs_the_caller_nothing(kind: Any, turns: str) -> None:
    talker = model(turns=turns, faults={0: ProviderFault(kind=kind)})
    made = simulate(make_call, agent_of(talker), [wait(500), *TWICE])
    assert said(made.record, "user") == list(QUESTIONS)
    assert said(made.record, "assistant") == list(ANSWERS)
    assert made.record.stats.provider_errors == 1
    assert talker.sessions.opened == 2
    assert talker.sessions.open == 0
    (usage,) = made.record.usage
    assert usage.failures == 1


@pytest.mark.parametrize("turns", TURNS)
def test_a_session_lost_in_the_midst_of_an_answer_goes_on_in_another(turns: str) -> None:
    talker = model(turns=turns, speed=1.5, faults={0: ProviderFault(kind="raise", after_items=20)})
    agent = agent_of(talker, prompt="Be brief.")
    made = simulate(make_call, agent, [wait(500), *TWICE])
    first, apology, second = said(made.record, "assistant")
    assert ANSWERS[0].startswith(first)
    assert apology == agent.definition.apology_line
    assert second == ANSWERS[1]
    assert talker.sessions.opened == 2
    begun = talker.begun[1]
    assert begun.instructions == "Be brief."
    question, answer = begun.messages
    assert (question.role, question.text) == ("user", QUESTIONS[0])
    assert answer.role == "assistant"
    assert first.startswith(answer.text)


def test_a_session_that_ends_between_two_turns_is_not_noticed() -> None:
    class Expiring(ScriptedSpeechModel):
        async def converse(self, *args: Any) -> None:
            limit_s = 8.0 if self.sessions.opened == 0 else 600.0
            with trio.move_on_after(limit_s):
                await super().converse(*args)

    talker = Expiring(ANSWERS, QUESTIONS, first_audio_ms=300)
    made = simulate(make_call, agent_of(talker), [say(VOICE), wait(10_000), *TWICE[2:]])
    assert said(made.record, "assistant") == list(ANSWERS)
    assert [(m.role, m.text) for m in talker.begun[1].messages] == [
        ("user", QUESTIONS[0]),
        ("assistant", ANSWERS[0]),
    ]


@pytest.mark.parametrize("turns", TURNS)
def test_a_session_that_falls_silent_is_given_up_for_another(turns: str) -> None:
    talker = model(turns=turns, faults={0: ProviderFault(kind="stall", after_items=6)})
    agent = agent_of(talker)
    script = [wait(500), say(VOICE), wait(9000), say(VOICE), wait_for_agent_quiet(2000)]
    made = simulate(make_call, agent, script)
    begun, apology, answer = said(made.record, "assistant")
    assert ANSWERS[0].startswith(begun)
    assert (apology, answer) == (agent.definition.apology_line, ANSWERS[1])
    assert made.record.ended_by == "hung_up"
    assert made.report.violations == ()
    assert talker.sessions.opened == 2
    assert talker.sessions.open == 0


class Breaking(ScriptedSpeechModel):
    """Its first session ends so long after it began."""

    def __init__(self, limit_s: float, *args: Any, **how: Any) -> None:
        super().__init__(*args, **how)
        self.limit_s = limit_s

    async def converse(self, *args: Any) -> None:
        if self.sessions.opened:
            await super().converse(*args)
        with trio.move_on_after(self.limit_s):
            await super().converse(*args)
        raise ProviderError(self.name, "expired", retryable=True)


def test_keys_of_a_turn_are_told_to_the_next_session_too() -> None:
    keyed = [wait(500), say(VOICE), wait(220), dtmf("12#"), wait_for_agent_quiet(1500)]
    keyed_s = 0.72 + len(VOICE) / 16_000
    talker = Breaking(keyed_s + 0.2, ANSWERS, QUESTIONS, first_audio_ms=400)
    made = simulate(make_call, agent_of(talker), keyed)
    assert talker.sessions.opened == 2
    keys = Tell(text="(pressed 12#)")
    assert told(talker, Tell) == [keys, keys]
    assert said(made.record, "user") == [f"{QUESTIONS[0]} (pressed 12#)"]
    assert said(made.record, "assistant") == [ANSWERS[0]]


@pytest.mark.parametrize("turns", TURNS)
def test_a_session_lost_while_the_caller_speaks_hears_all_of_it(turns: Any) -> None:
    talker = Breaking(1.2, ANSWERS, QUESTIONS, first_audio_ms=300, turns=turns)
    made = simulate(make_call, agent_of(talker), ASK)
    assert talker.sessions.opened == 2
    assert said(made.record, "user") == [QUESTIONS[0]]
    assert said(made.record, "assistant") == [ANSWERS[0]]
    assert talker.sessions.open == 0


@pytest.mark.parametrize("has_voice", [True, False])
def test_a_model_that_cannot_be_had_is_the_end_of_the_call(has_voice: bool) -> None:
    faults = {number: ProviderFault(kind="raise") for number in range(9)}
    talker = model(faults=faults)
    agent = agent_of(talker, welcome=WELCOME, voice=ScriptedSynthesizer(100) if has_voice else None)
    made = simulate(make_call, agent, [wait(60_000)])
    farewell = [agent.definition.farewell_line] if has_voice else []
    assert said(made.record, "assistant") == farewell
    assert made.record.ended_by == ("agent_hung_up" if has_voice else "providers_failed")
    assert talker.sessions.opened == 2
    assert made.record.duration_s < 10


def test_what_time_will_not_heal_is_not_tried_again() -> None:
    talker = model(faults={0: ProviderFault(kind="raise", retryable=False)})
    made = simulate(make_call, agent_of(talker, welcome=WELCOME), [wait(60_000)])
    assert talker.sessions.opened == 1
    assert made.record.ended_by == "providers_failed"


def test_a_slow_model_is_waited_for_and_one_too_slow_is_not() -> None:
    slow = model(faults={0: ProviderFault(kind="slow", factor=10)})
    made = simulate(make_call, agent_of(slow), [wait(500), say(VOICE), wait_for_agent_quiet(2000)])
    assert said(made.record, "assistant") == [ANSWERS[0]]
    too_slow = model(faults={0: ProviderFault(kind="slow", factor=30)})
    agent = agent_of(too_slow, voice=ScriptedSynthesizer(100))
    made = simulate(make_call, agent, [wait(500), say(VOICE), wait(15_000)])
    assert said(made.record, "assistant") == [agent.definition.apology_line]


def test_half_a_sample_does_no_harm() -> None:
    talker = model(faults={0: ProviderFault(kind="malformed", after_items=3)})
    made = simulate(make_call, agent_of(talker), [wait(500), say(VOICE), wait_for_agent_quiet(900)])
    assert said(made.record, "assistant") == [ANSWERS[0]]
    assert made.report.violations == ()


def test_a_session_that_takes_nothing_is_given_up() -> None:
    class Deaf(ScriptedSpeechModel):
        async def converse(self, *args: Any) -> None:
            with self.sessions.session():
                await trio.sleep_forever()

    talker = Deaf([""])
    agent = agent_of(talker)
    made = simulate(make_call, agent, [say(speak("word " * 60).pcm), wait(20_000)])
    assert made.record.stats.dropped_heard_chunks > 0
    assert made.record.stats.replies > 0
    assert talker.sessions.open == 0


# --- every bound filled -------------------------------------------------------------------


def test_a_model_too_far_ahead_of_the_line_is_stopped() -> None:
    talker = model(LONG, chunk_ms=1, speed=10_000)
    voice = ScriptedSynthesizer(100)
    agent = agent_of(talker, voice=voice)
    made = simulate(make_call, agent, [wait(500), say(VOICE), wait_for_agent_quiet(1500)])
    heard = said(made.record, "assistant")
    assert LONG.startswith(heard[0])
    assert heard[1] == agent.definition.apology_line
    assert [each.reply for each in told(talker, CancelReply)] == ["r1"]


@pytest.mark.parametrize(
    "one_too_many",
    [
        ReplyAudio(reply="m0", step=0, pcm=b"", is_last=True),
        ReplyText(reply="m0", step=1, text="And"),
        ReplyToolCall(reply="m0", step=0, call=asked("order")),
        ReplyDone(reply="m0"),
    ],
)
def test_also_the_end_of_what_fills_the_line_is_too_far_ahead(one_too_many: Any) -> None:
    class Bursting(ScriptedSpeechModel):
        """Says all at once what just fits."""

        async def converse(self, session: Any, commands: Any, emit: Any) -> None:
            with self.sessions.session():
                emit(ReplyBegun(reply="m0"))
                for _ in range(SOUND_MAX):
                    emit(ReplyAudio(reply="m0", step=0, pcm=b"\0\0"))
                emit(one_too_many)
                async for _ in commands:
                    pass

    talker = Bursting([""], turns="theirs")
    made = simulate(make_call, agent_of(talker), [wait(3000)])
    assert made.record.ended_by == "hung_up"
    assert made.record.stats.provider_errors == 1
    assert talker.sessions.opened == 1


async def test_what_comes_of_a_reply_that_nobody_plays_any_more_is_dropped() -> None:
    reply = ModelReply(number=1)
    reply.hear(0, b"\0\0")
    reply.sound_rx.close()
    reply.hear(0, b"\0\0")
    reply.step(1)
    reply.hear(1, b"\0\0")
    reply.close()
    assert reply.fault == ""


def test_more_functions_at_once_than_can_wait_are_refused() -> None:
    done: list[str] = []
    talker = model(tuple(asked("order") for _ in range(CALLS_MAX + 3)))
    agent = agent_of(talker, tool("order", "write", done))
    made = simulate(make_call, agent, ASK)
    results = [each.text for each in told(talker, ToolResult)]
    refused = [text for text in results if text == "error: too many functions at once"]
    assert len(results) == CALLS_MAX + 3
    assert len(refused) + made.record.stats.tool_calls == CALLS_MAX + 3
    assert refused
    calls = [call.id for m in made.record.transcript for call in m.tool_calls]
    assert calls == [m.tool_call_id for m in made.record.transcript if m.role == "tool"]
    assert said(made.record, "assistant")[-1] == "That is done."


def test_replies_a_model_begins_unasked_wait_their_turn_and_only_so_many() -> None:
    class Chatty(ScriptedSpeechModel):
        """Answers everything several times over."""

        async def converse(self, session: Any, commands: Any, emit: Any) -> None:
            with self.sessions.session():
                await trio.sleep(1)
                for number in range(WAITING_MAX + 3):
                    emit(ReplyBegun(reply=f"m{number}"))
                    emit(ReplyText(reply=f"m{number}", step=0, text=f"Number {number}."))
                    emit(ReplyAudio(reply=f"m{number}", step=0, pcm=speak(f"n{number} x").pcm))
                    emit(ReplyDone(reply=f"m{number}"))
                async for command in commands:
                    if not isinstance(command, CallerAudio):
                        self.told.append(command)

    talker = Chatty([""], turns="theirs")
    made = simulate(make_call, agent_of(talker), [wait(8000)])
    spoken = [f"Number {number}." for number in range(WAITING_MAX + 1)]
    assert said(made.record, "assistant") == spoken
    assert [each.reply for each in told(talker, CancelReply)] == ["m5", "m6"]
    assert talker.sessions.open == 0


def test_lines_beyond_those_that_can_wait_are_refused() -> None:
    made = Made()
    taken: list[bool] = []

    async def call() -> None:
        here, there = memory_sockets()
        carrier = FakeCarrier([wait(60_000)])

        def started(begun: Call) -> None:
            begun.journal.listen = lambda noted: (
                taken.extend(begun.say(f"Line {n}.") for n in range(12))
                if noted.kind == "line_begun" and not taken
                else None
            )

        async def node() -> None:
            made.record = await run_call(
                there, agent_of(model(), welcome=WELCOME), on_start=started
            )

        async with trio.open_nursery() as nursery:
            nursery.start_soon(node)
            await carrier.call(here)

    simulate(call)
    assert taken == [True] * LINES_MAX + [False] * (12 - LINES_MAX)
    expected = [WELCOME, *(f"Line {n}." for n in range(LINES_MAX))]
    assert said(made.record, "assistant")[: LINES_MAX + 1] == expected


def test_a_reply_that_takes_too_long_is_cut_and_the_call_goes_on() -> None:
    talker = model(LONG, ANSWERS[1])
    config = CallConfig(reply_limit_s=2.5)
    made = simulate(partial(make_call, config=config), agent_of(talker), [wait(500), *TWICE])
    first, second = said(made.record, "assistant")
    assert LONG.startswith(first)
    assert first != LONG
    assert second == ANSWERS[1]
    (truncate,) = told(talker, Truncate)
    assert 0 < truncate.heard_ms < 2500
