"""A speech model without another beside it that is refused as it reconnects."""

from __future__ import annotations

from typing import Any

import pytest
import trio

from rtcore.agent.agent import Agent
from rtcore.errors import ProviderError
from rtcore.testing import ScriptedSpeechModel, ScriptedSynthesizer, say, wait
from tests.conversing import TURNS, agent_of, model, steered
from tests.test_call import ANSWERS, QUESTIONS, VOICE, WELCOME, said

ASKED_S = 0.5 + len(VOICE) / 16_000  # when the caller has said what they have to say
PAUSES_S = (0.25, 0.5, 1.0, 2.0)
ASKING = [wait(500), say(VOICE), wait(15_000)]


class Refused(ScriptedSpeechModel):
    """Its first session is lost at that second, and so many new ones are refused."""

    def __init__(
        self, lost_s: float, refusals: int, *, status: str = "503", connect_s: float = 0, **how: Any
    ) -> None:
        super().__init__(ANSWERS, QUESTIONS, **{"first_audio_ms": 300, **how})
        self.lost_s = lost_s
        self.refusals = refusals
        self.status = status
        self.connect_s = connect_s
        self.asked_s: list[float] = []

    async def converse(self, *args: Any) -> None:
        self.asked_s.append(trio.current_time())
        if len(self.asked_s) == 1:
            with trio.move_on_after(self.lost_s):
                await super().converse(*args)
            raise ProviderError(self.name, "connection lost", retryable=True)
        if len(self.asked_s) <= 1 + self.refusals:
            await trio.sleep(self.connect_s)
            raise ProviderError(self.name, self.status, retryable=self.status != "401")
        await super().converse(*args)


def spoken(agent: Agent) -> tuple[str, str]:
    return agent.definition.apology_line, agent.definition.farewell_line


@pytest.mark.parametrize("turns", TURNS)
@pytest.mark.parametrize("refusals", [1, 3])
def test_a_caller_who_waits_for_nothing_does_not_notice(refusals: int, turns: str) -> None:
    talker = Refused(0.2, refusals, turns=turns)
    record = steered(agent_of(talker), [wait(6000), *ASKING])
    assert said(record, "assistant") == [ANSWERS[0]]
    assert record.stats.floor_lost == 0
    assert len(talker.asked_s) == refusals + 2


@pytest.mark.parametrize("turns", TURNS)
@pytest.mark.parametrize("refusals", [1, 2, 3])
def test_an_answer_waits_for_a_session_where_nobody_else_can_speak(
    refusals: int, turns: str
) -> None:
    talker = Refused(ASKED_S + 1.0, refusals, turns=turns, first_audio_ms=800)
    record = steered(agent_of(talker), ASKING)
    assert said(record, "user") == [QUESTIONS[0]]
    assert said(record, "assistant") == [ANSWERS[0]]


@pytest.mark.parametrize("turns", TURNS)
def test_one_that_stays_away_ends_the_call_with_the_reason(turns: str) -> None:
    talker = Refused(ASKED_S + 1.0, 9, turns=turns, first_audio_ms=800)
    record = steered(agent_of(talker), ASKING)
    assert record.ended_by == "providers_failed"
    assert len(talker.asked_s) == 1 + len(PAUSES_S)
    assert record.duration_s == pytest.approx(ASKED_S + 1.0 + sum(PAUSES_S), abs=0.1)


@pytest.mark.parametrize("turns", TURNS)
def test_one_that_cannot_even_be_reached_ends_the_call_before_the_caller_does(turns: str) -> None:
    talker = Refused(ASKED_S + 1.0, 9, turns=turns, connect_s=3.0, first_audio_ms=800)
    record = steered(agent_of(talker), ASKING)
    assert record.ended_by == "providers_failed"
    assert record.duration_s < ASKED_S + 1.0 + 12


@pytest.mark.parametrize("turns", TURNS)
def test_what_time_will_not_heal_ends_it_at_once(turns: str) -> None:
    talker = Refused(ASKED_S + 1.0, 9, status="401", turns=turns, first_audio_ms=800)
    record = steered(agent_of(talker), ASKING)
    assert record.ended_by == "providers_failed"
    assert len(talker.asked_s) == 2


@pytest.mark.parametrize("turns", TURNS)
@pytest.mark.parametrize("connect_s", [0.0, 1.5])
def test_the_voice_beside_it_tells_the_caller_meanwhile(connect_s: float, turns: str) -> None:
    """And the model goes on once it can be had."""
    talker = Refused(ASKED_S + 1.0, 3, turns=turns, connect_s=connect_s, first_audio_ms=800)
    agent = agent_of(talker, voice=ScriptedSynthesizer(100))
    apology, _ = spoken(agent)
    record = steered(agent, [*ASKING[:2], wait(10_000), say(VOICE), wait(5000)])
    assert said(record, "assistant") == [apology, ANSWERS[1]]
    assert said(record, "user") == list(QUESTIONS)
    assert record.ended_by == "hung_up"


@pytest.mark.parametrize("turns", TURNS)
def test_the_voice_beside_it_says_goodbye_in_the_end(turns: str) -> None:
    talker = Refused(ASKED_S + 1.0, 9, turns=turns, first_audio_ms=800)
    agent = agent_of(talker, voice=ScriptedSynthesizer(100))
    record = steered(agent, ASKING)
    assert said(record, "assistant") == list(spoken(agent))
    assert record.ended_by == "agent_hung_up"


@pytest.mark.parametrize("turns", TURNS)
def test_an_apology_that_it_has_said_before_is_known_by_its_sound(turns: str) -> None:
    talker = Refused(ASKED_S + 1.0, 9, turns=turns, first_audio_ms=800)
    agent = agent_of(talker)
    apology, _ = spoken(agent)
    sound = steered_sound(agent, apology, turns)
    assert sound
    record = steered(agent, ASKING)
    assert said(record, "assistant") == [apology, apology]
    assert record.ended_by == "agent_hung_up"


def steered_sound(agent: Agent, line: str, turns: str) -> bool:
    """Have ``line`` said in a call before; whether its sound is known then."""
    before = Agent(agent.definition, speech_model=model(turns=turns), lines=agent.lines)
    steered(before, [wait(9000)], (0.5, lambda call: call.say(line)))
    return agent.lines.get("scripted-model", line) is not None


def test_a_welcome_is_said_by_the_voice_where_the_model_cannot_be_had() -> None:
    talker = Refused(0.0, 9)
    agent = agent_of(talker, welcome=WELCOME, voice=ScriptedSynthesizer(100))
    record = steered(agent, [wait(15_000)])
    assert said(record, "assistant") == [WELCOME, agent.definition.farewell_line]
    assert record.ended_by == "agent_hung_up"
