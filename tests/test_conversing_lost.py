"""A speech model that fails, at any moment of a call and in any way."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Literal

import msgspec
import pytest
import trio

from rtcore.conversing import Conversing
from rtcore.errors import ProviderError
from rtcore.providers.fallback import FallbackSpeechModel
from rtcore.speech_port import ReplyAudio, ReplyDone, Tell, Truncate
from rtcore.testing import (
    ProviderFault,
    ScriptedSpeechModel,
    ScriptedSynthesizer,
    dtmf,
    interrupt_after,
    say,
    simulate,
    speak,
    wait,
    wait_for_agent_quiet,
)
from tests.conversing import (
    ASK,
    TURNS,
    TWICE,
    agent_of,
    model,
    told,
)
from tests.test_call import (
    ANSWERS,
    QUESTIONS,
    VOICE,
    WELCOME,
    make_call,
    said,
)


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


@pytest.mark.parametrize("turns", TURNS)
def test_what_a_lost_session_has_said_is_not_cut_in_the_next(turns: Any) -> None:
    """The next knows nothing by that name, or something else: it is told in words."""
    talker = Breaking(3.5, ANSWERS, QUESTIONS, first_audio_ms=300, turns=turns)
    script = [wait(500), interrupt_after(3500, VOICE), wait_for_agent_quiet(1500)]
    made = simulate(make_call, agent_of(talker), [wait(500), say(VOICE), *script])
    assert talker.sessions.opened == 2
    heard, answer = said(made.record, "assistant")
    assert ANSWERS[0].startswith(heard)
    assert answer == ANSWERS[1]
    assert told(talker, Truncate) == []
    (note,) = told(talker, Tell)
    assert note.text == f"(You have just said to the caller: {heard})"


@pytest.mark.parametrize("turns", TURNS)
@pytest.mark.parametrize("kind", ["raise", "end"])
def test_of_an_answer_that_broke_off_the_unheard_words_are_not_recorded(
    kind: Any, turns: str
) -> None:
    """Its words were known before its sound, of which 900 ms came: three words of 300 ms."""
    talker = model(turns=turns, speed=1.5, faults={0: ProviderFault(kind=kind, after_items=9)})
    made = simulate(make_call, agent_of(talker), [wait(500), say(VOICE), wait(9000)])
    first, _ = said(made.record, "assistant")
    assert first == "We open at"
    (note,) = told(talker, Tell)
    assert note.text == f"(You have just said to the caller: {first})"
    known = talker.begun[1].messages[-1]
    assert first.startswith(known.text)


class Curt(ScriptedSpeechModel):
    """Ends each reply after 900 ms of its sound; it says how."""

    status: Literal["cut", "failed", "cancelled"] = "cut"

    async def converse(self, session: Any, commands: Any, emit: Any) -> None:
        heard: dict[str, int] = {}

        def until(event: Any) -> None:
            if isinstance(event, ReplyAudio):
                heard[event.reply] = heard.get(event.reply, 0) + len(event.pcm) // 16
                if heard[event.reply] == 900:
                    emit(msgspec.structs.replace(event, is_last=False))
                    emit(ReplyDone(reply=event.reply, status=self.status))
            if heard.get(getattr(event, "reply", ""), 0) < 900:
                emit(event)

        await super().converse(session, commands, until)


@pytest.mark.parametrize("status", ["cut", "failed", "cancelled"])
def test_of_an_answer_that_its_service_ends_early_the_unheard_words_are_not_recorded(
    status: Any,
) -> None:
    talker = Curt(ANSWERS, QUESTIONS, first_audio_ms=300)
    talker.status = status
    made = simulate(make_call, agent_of(talker), ASK)
    assert said(made.record, "assistant")[0] == "We open at"


def test_a_line_that_its_service_ends_early_is_not_kept() -> None:
    talker = Curt(ANSWERS, QUESTIONS, first_audio_ms=300)
    agent = agent_of(talker, welcome=WELCOME)
    made = simulate(make_call, agent, [wait(5000)])
    (heard,) = said(made.record, "assistant")
    assert heard != WELCOME
    assert WELCOME.startswith(heard)
    assert agent.lines.get(talker.name, WELCOME) is None


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
def test_keys_alone_are_told_to_the_next_session_and_answered(turns: Any) -> None:
    """No sound speaks of them, so nothing but the keys themselves can be told again."""
    keyed = [wait(500), dtmf("12#"), wait(9000), say(VOICE), wait_for_agent_quiet(1500)]
    talker = Breaking(0.8, ANSWERS, first_audio_ms=1000, turns=turns)
    made = simulate(make_call, agent_of(talker), keyed)
    assert talker.sessions.opened == 2
    keys = Tell(text="(pressed 12#)", is_turn=turns == "theirs")
    assert told(talker, Tell) == [keys, keys]
    assert talker.begun[1].messages == ()
    assert said(made.record, "user") == ["(pressed 12#)", "(not transcribed)"]
    assert said(made.record, "assistant") == list(ANSWERS)
    assert made.record.stats.floor_lost == 0


def test_keys_told_in_advance_are_told_to_the_next_session_too() -> None:
    """The turn is not over yet: the answer begun at its eager end is lost, the keys are not."""
    keyed = [wait(500), dtmf("12"), wait(100), say(VOICE), wait_for_agent_quiet(1500)]
    alone = ScriptedSpeechModel(ANSWERS, QUESTIONS, first_audio_ms=1000)
    eager = simulate(make_call, agent_of(alone), keyed)
    (eager_ms, *_) = [note.at_ms for note in eager.record.notes if note.kind == "reply_begun"]
    talker = Breaking(eager_ms / 1000 + 0.05, ANSWERS, QUESTIONS, first_audio_ms=1000)
    made = simulate(make_call, agent_of(talker), keyed)
    assert talker.sessions.opened == 2
    keys = Tell(text="(pressed 12)")
    assert told(talker, Tell) == [keys, keys]
    assert said(made.record, "user") == [f"{QUESTIONS[0]} (pressed 12)"]
    assert said(made.record, "assistant") == [ANSWERS[0]]


@pytest.mark.parametrize("turns", TURNS)
def test_a_session_lost_while_the_caller_speaks_hears_all_of_it(turns: Any) -> None:
    talker = Breaking(1.2, ANSWERS, QUESTIONS, first_audio_ms=300, turns=turns)
    made = simulate(make_call, agent_of(talker), ASK)
    assert talker.sessions.opened == 2
    assert said(made.record, "user") == [QUESTIONS[0]]
    assert said(made.record, "assistant") == [ANSWERS[0]]
    assert talker.sessions.open == 0


@pytest.mark.parametrize("turns", TURNS)
def test_the_next_session_knows_all_that_was_heard_of_an_answer_begun_before_it(turns: Any) -> None:
    """It came whole, and was still being heard when its session ended."""
    talker = Breaking(4.5, ANSWERS, QUESTIONS, first_audio_ms=300, speed=100, turns=turns)
    made = simulate(make_call, agent_of(talker), [wait(500), *TWICE])
    assert said(made.record, "assistant") == list(ANSWERS)
    begun = talker.begun[1].messages[-1]
    assert (begun.role, begun.text) != ("assistant", ANSWERS[0])
    note = f"(You have just said to the caller: {ANSWERS[0]})"
    assert told(talker, Tell) == [Tell(text=note, is_note=True)]


def test_an_answer_made_in_advance_is_made_anew_where_its_session_is_lost() -> None:
    """The next one hears the turn as well: else its words were lost, and it would answer twice."""
    alone = ScriptedSpeechModel(["Yes."], QUESTIONS, speed=100)
    eager = simulate(make_call, agent_of(alone), ASK)
    (eager_ms, *_) = [note.at_ms for note in eager.record.notes if note.kind == "reply_begun"]
    talker = Breaking(eager_ms / 1000 + 0.1, ["Yes."], QUESTIONS, speed=100)
    made = simulate(make_call, agent_of(talker), [wait(500), *TWICE])
    assert talker.sessions.opened == 2
    assert said(made.record, "user") == list(QUESTIONS)
    assert said(made.record, "assistant") == ["Yes.", "Yes."]


def test_the_last_session_lost_with_an_answer_in_hand_is_the_end_of_the_call() -> None:
    """Nobody commits that answer any more: it must not keep the floor."""
    alone = ScriptedSpeechModel(["Yes."], QUESTIONS, speed=100)
    eager = simulate(make_call, agent_of(alone), ASK)
    (eager_ms, *_) = [note.at_ms for note in eager.record.notes if note.kind == "reply_begun"]

    class Last(ScriptedSpeechModel):
        async def converse(self, *args: Any) -> None:
            with trio.move_on_after(eager_ms / 1000 + 0.1):
                await super().converse(*args)
            raise ProviderError(self.name, "no more", retryable=False)

    agent = agent_of(Last(["Yes."], QUESTIONS, speed=100), voice=ScriptedSynthesizer(100))
    made = simulate(make_call, agent, [wait(500), say(VOICE), wait(20_000)])
    assert said(made.record, "assistant") == [agent.definition.farewell_line]
    assert made.record.stats.floor_lost == 0


@pytest.mark.parametrize("is_listed", [True, False])
def test_a_session_lost_in_the_tick_that_commits_its_answer_harms_no_call(
    is_listed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The sound in hand is let go in that tick: it is said, not asked for once more."""
    is_due, waiting, commit = trio.Event(), list[Conversing](), Conversing.commit

    def commit_by_the_session(self: Conversing) -> None:
        waiting.append(self)
        is_due.set()

    class Torn(ScriptedSpeechModel):
        async def converse(self, *args: Any) -> None:
            if self.sessions.opened:
                await super().converse(*args)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(super().converse, *args)
                await is_due.wait()
                nursery.cancel_scope.cancel()
            commit(waiting[0])
            raise ProviderError(self.name, "torn", retryable=True)

    monkeypatch.setattr(Conversing, "commit", commit_by_the_session)
    talker, two = Torn(ANSWERS, QUESTIONS, speed=2), model()
    agent = agent_of(talker)
    if is_listed:  # the next is asked at once
        agent = replace(agent, speech_model=FallbackSpeechModel([talker, two]))
    made = simulate(make_call, agent, [wait(500), say(VOICE), wait(15_000)])
    assert made.record.ended_by == "hung_up"
    assert talker.sessions.opened + two.sessions.opened == 2
    first, *_ = said(made.record, "assistant")
    assert ANSWERS[0].startswith(first)


def test_a_model_that_fails_whenever_it_is_asked_is_the_end_of_the_call() -> None:
    faults = {number: ProviderFault(kind="raise") for number in range(9)}
    talker = model(faults=faults)
    made = simulate(make_call, agent_of(talker, welcome=WELCOME), [wait(60_000)])
    assert said(made.record, "assistant") == []
    assert made.record.ended_by == "providers_failed"
    assert talker.sessions.opened == 5
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
