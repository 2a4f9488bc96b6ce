"""A call with one model that hears, thinks and speaks, on the simulated clock."""

from __future__ import annotations

import dataclasses
from functools import partial
from typing import Any

import msgspec
import pytest

from rtcore.audio import mulaw_to_pcm
from rtcore.config import CallConfig
from rtcore.speech_port import (
    CancelReply,
    Forget,
    ReplyText,
    Respond,
    Say,
    Tell,
    Truncate,
)
from rtcore.testing import (
    ProviderFault,
    ScriptedSpeechModel,
    ScriptedSynthesizer,
    ScriptedTranscriber,
    dtmf,
    hang_up,
    heard_samples,
    interrupt_after,
    say,
    simulate,
    speak,
    wait,
    wait_for_agent_quiet,
)
from tests.conversing import (
    ASK,
    TALK,
    TURNS,
    agent_of,
    model,
    told,
)
from tests.test_call import (
    ANSWERS,
    LONG,
    QUESTIONS,
    VOICE,
    WELCOME,
    make_call,
    said,
)

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
    assert truncate.heard_ms == pytest.approx(heard_ms, abs=20)
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
