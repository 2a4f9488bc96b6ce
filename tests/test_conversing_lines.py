"""Fixed lines whose speech model loses its session before they sound: the next one says them."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any, Literal

import pytest
import trio

from rtcore.agent.agent import Agent
from rtcore.call import Call, CallRecord
from rtcore.errors import ProviderError
from rtcore.providers.fallback import FallbackSpeechModel
from rtcore.speech_port import ReplyAudio, ReplyText, Say
from rtcore.testing import (
    ProviderFault,
    ScriptedSpeechModel,
    ScriptedSynthesizer,
    say,
    speak,
    wait,
)
from tests.conversing import TURNS, agent_of, model, steered, told
from tests.test_call import ANSWERS, QUESTIONS, VOICE, WELCOME, said

Turns = Literal["ours", "theirs"]
LINES = ("Your taxi is here.", "It waits at the door.")
FIRST, SECOND = (partial(Call.say, text=line) for line in LINES)
ASKED_S = 0.5 + len(VOICE) / 16_000  # when the caller has said what they have to say


class Breaking(ScriptedSpeechModel):
    """Its first session ends at that second of the call."""

    def __init__(self, limit_s: float, **how: Any) -> None:
        super().__init__(ANSWERS, QUESTIONS, **{"first_audio_ms": 300, **how})
        self.limit_s = limit_s

    async def converse(self, *args: Any) -> None:
        if self.sessions.opened:
            await super().converse(*args)
        with trio.move_on_after(self.limit_s):
            await super().converse(*args)
        raise ProviderError(self.name, "expired", retryable=True)


def listed(one: ScriptedSpeechModel, *, is_listed: bool, **words: Any) -> Agent:
    """An agent with ``one``, by itself or before another that says the same."""
    agent = agent_of(one, **words)
    if not is_listed:
        return agent
    two = model(turns=one.turns, name="two")
    return replace(agent, speech_model=FallbackSpeechModel([one, two]))


def noted(record: CallRecord) -> list[str]:
    """What became of lines; one that is put off before any of it sounded begins once."""
    return [each.kind for each in record.notes if each.kind.startswith("line_")]


@pytest.mark.parametrize("is_listed", [False, True])
@pytest.mark.parametrize("turns", TURNS)
def test_lines_asked_for_are_said_by_the_next_session_in_order(turns: Any, is_listed: bool) -> None:
    agent = listed(Breaking(0.7, turns=turns, first_audio_ms=600), is_listed=is_listed)
    record = steered(agent, [wait(9000)], (0.3, FIRST), (0.4, SECOND))
    assert said(record, "assistant") == list(LINES)


@pytest.mark.parametrize("is_listed", [False, True])
@pytest.mark.parametrize("turns", TURNS)
def test_lines_asked_for_between_two_sessions_are_said(turns: Any, is_listed: bool) -> None:
    agent = listed(Breaking(0.5, turns=turns), is_listed=is_listed)
    record = steered(agent, [wait(9000)], (0.5, FIRST), (0.55, SECOND))
    assert said(record, "assistant") == list(LINES)


@pytest.mark.parametrize("is_listed", [False, True])
@pytest.mark.parametrize("turns", TURNS)
def test_a_line_that_waits_for_an_answer_is_said_after_the_one_of_the_next_session(
    turns: Any, is_listed: bool
) -> None:
    """The answer was not audible yet: made anew, it comes first again."""
    talker = Breaking(ASKED_S + 1.3, turns=turns, first_audio_ms=1500)
    script = [wait(500), say(VOICE), wait(15_000)]
    agent = listed(talker, is_listed=is_listed)
    record = steered(agent, script, (ASKED_S + 1.1, FIRST), (ASKED_S + 1.2, SECOND))
    assert said(record, "assistant") == [ANSWERS[0], *LINES]
    assert said(record, "user") == [QUESTIONS[0]]


@pytest.mark.parametrize("is_listed", [False, True])
def test_a_line_is_not_interrupted_by_what_was_heard_before_it(is_listed: bool) -> None:
    """The next session is told the caller's turn again, and hears them begin once more."""
    talker = Breaking(ASKED_S + 0.4, turns="theirs", first_audio_ms=1500, silence_ms=300)
    script = [wait(500), say(VOICE), wait(15_000)]
    agent = listed(talker, is_listed=is_listed)
    record = steered(agent, script, (ASKED_S - 0.1, FIRST))
    assert said(record, "assistant") == [ANSWERS[0], LINES[0]]
    assert record.stats.barge_ins == 0
    assert noted(record) == ["line_begun", "line_said_anew"]


@pytest.mark.parametrize("turns", TURNS)
def test_a_line_that_a_model_is_silent_about_is_asked_of_its_next_session(turns: Any) -> None:
    talker = model(turns=turns, faults={0: ProviderFault(kind="stall")})
    agent = agent_of(talker, welcome=WELCOME)
    record = steered(agent, [wait(12_000)], (1.0, FIRST))
    assert said(record, "assistant") == [WELCOME, LINES[0]]
    asked = [line.text for line in told(talker, Say)]
    assert asked == [WELCOME, WELCOME, LINES[0]]
    assert talker.sessions.opened == 2


def test_a_line_that_a_model_is_silent_about_is_said_by_the_voice_beside_it() -> None:
    talker = model(faults={0: ProviderFault(kind="stall")})
    agent = agent_of(talker, welcome=WELCOME, voice=ScriptedSynthesizer(100))
    record = steered(agent, [wait(12_000)])
    assert said(record, "assistant") == [WELCOME]
    assert record.stats.replies - record.stats.discarded == 1
    assert noted(record) == ["line_begun", "line_said_anew"]


@pytest.mark.parametrize("turns", TURNS)
@pytest.mark.parametrize("broken_ms", range(0, 700, 60))
def test_wherever_a_session_breaks_a_line_is_said_whole_or_apologised_for(
    broken_ms: int, turns: Any
) -> None:
    """Whole, once, if none of it had sounded."""
    talker = Breaking(broken_ms / 1000, turns=turns, speed=2)
    agent = agent_of(talker, welcome=WELCOME)
    record = steered(agent, [wait(9000)])
    heard = said(record, "assistant")
    if broken_ms < 300:  # before it could sound
        assert heard == [WELCOME]
    elif heard != [WELCOME]:
        *begun, apology = heard
        assert apology == agent.definition.apology_line
        assert WELCOME.startswith(" ".join(begun))  # no word of it, if none was heard whole


def test_a_line_in_hand_is_said_anew_if_nothing_of_it_has_sounded() -> None:
    """Its sound came in the very tick that lost the session."""

    class Torn(ScriptedSpeechModel):
        async def converse(self, session: Any, commands: Any, emit: Any) -> None:
            if self.sessions.opened:
                await super().converse(session, commands, emit)
            with self.sessions.session():
                async for command in commands:
                    if isinstance(command, Say):
                        emit(ReplyText(reply=command.reply, step=0, text=command.text))
                        emit(ReplyAudio(reply=command.reply, step=0, pcm=speak("Welcome").pcm))
                        raise ProviderError(self.name, "torn", retryable=True)

    talker = Torn(ANSWERS, QUESTIONS, first_audio_ms=300)
    record = steered(agent_of(talker, welcome=WELCOME), [wait(9000)])
    assert said(record, "assistant") == [WELCOME]
    assert talker.sessions.opened == 2
    assert noted(record) == ["line_begun", "line_said_anew"]


def test_a_last_line_is_said_by_the_next_session_and_ends_the_call() -> None:
    agent = agent_of(Breaking(0.7, first_audio_ms=600))
    record = steered(agent, [wait(9000)], (0.3, partial(Call.say, text=LINES[0], ends_call=True)))
    assert said(record, "assistant") == [LINES[0]]
    assert record.ended_by == "agent_hung_up"
