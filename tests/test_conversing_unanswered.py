"""A speech model whose turns are its own, that ends one and begins no answer to it."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest

from rtcore.call import Call
from rtcore.config import CallConfig
from rtcore.speech_port import CallerBegan, CallerEnded, CallerSaid, Say, Tell
from rtcore.testing import (
    ProviderFault,
    ScriptedSpeechModel,
    ScriptedSynthesizer,
    dtmf,
    say,
    simulate,
    wait,
)
from rtcore.turn.config import TurnConfig
from tests.conversing import TURNS, agent_of, model, steered, told
from tests.test_call import ANSWERS, QUESTIONS, VOICE, WELCOME, make_call, said

ENDED_S = 0.5 + len(VOICE) / 16_000  # when the caller has said what they have to say
ONCE = [wait(500), say(VOICE), wait(25_000)]


class Absent(ScriptedSpeechModel):
    """In its first sessions it hears turns, says the lines it is told, and begins no answer."""

    def __init__(self, sessions: int, **how: Any) -> None:
        super().__init__(
            ANSWERS,
            QUESTIONS,
            **{"turns": "theirs", "silence_ms": 300, "first_audio_ms": 300} | how,
        )
        self.absent_sessions = sessions

    async def converse(self, session: Any, commands: Any, emit: Any) -> None:
        def but_answers(event: Any) -> None:
            lines = {line.reply for line in told(self, Say)}
            is_of_caller = isinstance(event, CallerBegan | CallerEnded | CallerSaid)
            if is_of_caller or event.reply in lines:
                emit(event)

        is_absent = self.sessions.opened < self.absent_sessions
        await super().converse(session, commands, but_answers if is_absent else emit)


def test_the_turn_is_told_to_another_session_and_answered() -> None:
    made = simulate(make_call, agent_of(Absent(1)), ONCE)
    assert said(made.record, "user") == [QUESTIONS[0]]
    assert said(made.record, "assistant")[0] == ANSWERS[0]
    assert made.record.stats.floor_lost == 0
    assert made.record.stats.provider_errors == 1
    assert made.record.turns[0].response_ms < 6500


def test_the_voice_beside_it_apologises_for_one_that_answers_never() -> None:
    voice = ScriptedSynthesizer(100)
    agent = agent_of(Absent(9), voice=voice)
    made = simulate(make_call, agent, ONCE)
    assert said(made.record, "assistant")[0] == agent.definition.apology_line
    assert made.report.agent_runs[0][0] / 8000 < 14
    assert made.record.stats.floor_lost == 0


def test_one_that_answers_never_and_has_nobody_beside_it_ends_the_call() -> None:
    talker = Absent(9)
    made = simulate(make_call, agent_of(talker), ONCE)
    assert made.record.ended_by == "providers_failed"
    assert made.record.duration_s < 20
    assert talker.sessions.open == 0


@pytest.mark.parametrize("sessions", [1, 2])
def test_keys_are_a_turn_that_is_told_again_too(sessions: int) -> None:
    talker = Absent(sessions)
    made = simulate(make_call, agent_of(talker), [wait(500), dtmf("1#"), wait(20_000)])
    keys = [note.text for note in told(talker, Tell) if note.is_turn]
    assert keys == ["(pressed 1#)"] * (sessions + 1)
    assert said(made.record, "assistant")[0] == ANSWERS[0]
    assert made.record.stats.floor_lost == 0


def test_a_line_is_not_broken_off_for_an_answer_that_would_have_to_wait_for_it() -> None:
    line = " ".join([WELCOME] * 6)
    talker = Absent(1)
    record = steered(agent_of(talker), ONCE, (ENDED_S + 0.6, partial(Call.say, text=line)))
    assert said(record, "assistant")[0] == line
    assert record.stats.provider_errors == 0


@pytest.mark.parametrize("muted_s", [0.2, ENDED_S + 0.5])
def test_of_a_muted_agent_no_answer_is_due(muted_s: float) -> None:
    talker = Absent(9)
    record = steered(agent_of(talker), ONCE, (muted_s, Call.mute))
    assert record.ended_by == "hung_up"
    assert talker.sessions.opened == 1


def test_a_muted_agent_does_not_lose_the_floor() -> None:
    record = steered(agent_of(model(turns="theirs")), ONCE, (0.2, Call.mute))
    assert "floor_lost" not in [each.kind for each in record.notes]


@pytest.mark.parametrize("turns", TURNS)
def test_one_that_is_given_long_and_answers_never_ends_the_call_too(turns: Any) -> None:
    stalled = {number: ProviderFault(kind="stall") for number in range(9)}
    talker = Absent(9) if turns == "theirs" else model(faults=stalled)
    config = CallConfig(first_token_limit_s=10, turn=TurnConfig(watchdog_ms=12_000))
    script = [*ONCE, wait(60_000)]
    made = simulate(partial(make_call, config=config), agent_of(talker), script)
    assert made.record.ended_by == "providers_failed"
    assert made.record.duration_s < 40
