"""Gemini Live and Deepgram's Voice Agent in whole calls, on the simulated clock."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from rtcore.agent.agent import Agent
from rtcore.agent.definition import AgentDefinition
from rtcore.agent.tools import Tool
from rtcore.providers import build_speech_model
from rtcore.speech_port import SpeechModels
from rtcore.testing import (
    Action,
    hang_up,
    interrupt_after,
    say,
    simulate,
    wait,
    wait_for_agent_quiet,
)
from tests.fakes._faults import Fault
from tests.fakes.deepgram_agent import FakeDeepgramAgent
from tests.fakes.gemini_live import FakeGeminiLive
from tests.providers._dial import reaching
from tests.providers._harness import KEY
from tests.providers.test_openai_realtime import BOOK, booking
from tests.test_call import ANSWERS, LONG, QUESTIONS, VOICE, WELCOME, Made, make_call, said

Fake = FakeGeminiLive | FakeDeepgramAgent
SECRETS = {"GEMINI_API_KEY": KEY, "DEEPGRAM_API_KEY": KEY}
ASK = [wait(500), say(VOICE), wait_for_agent_quiet(1000)]
TWICE = [*ASK, say(VOICE), wait_for_agent_quiet(1000)]


class Kind:
    """One protocol and whose turns; its fake comes ten times faster than life."""

    def __init__(self, fake: Callable[..., Fake], how: dict[str, Any], **spec: Any) -> None:
        self._fake, self._how = fake, how
        self._spec = spec

    def fake(self, *answers: Any) -> Fake:
        return self._fake(answers, QUESTIONS, piece_s=0.01, **self._how)

    def model(self) -> SpeechModels:
        return build_speech_model([{"base_url": "ws://fake", **self._spec}], SECRETS)


PLAYED = {"playback_s": None}  # its turn lasts as long as it is heard
KINDS = {
    "gemini-ours": Kind(FakeGeminiLive, PLAYED, provider="gemini_live"),
    "gemini-theirs": Kind(FakeGeminiLive, PLAYED, provider="gemini_live", turns="theirs"),
    "deepgram": Kind(FakeDeepgramAgent, {}, provider="deepgram_agent"),
}


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> Kind:
    return KINDS[request.param]


def call(kind: Kind, fake: Fake, script: list[Action], *tools: Tool, **words: Any) -> Made:
    """One call through the adapter to ``fake``; nothing of it is left at the fake."""
    agent = Agent(AgentDefinition(name="desk", **words), speech_model=kind.model(), tools=tools)

    async def run() -> Made:
        async with reaching(fake=fake):
            return await make_call(agent, script)

    return simulate(run)


def test_a_conversation(kind: Kind) -> None:
    fake = kind.fake(*ANSWERS)
    script = [wait_for_agent_quiet(500), say(VOICE), *TWICE[2:], hang_up()]
    made = call(kind, fake, script, welcome_message=WELCOME, prompt="Be brief.")
    assert said(made.record, "assistant") == [WELCOME, *ANSWERS]
    assert [text.strip() for text in said(made.record, "user")] == list(QUESTIONS)
    assert made.report.counts.stale_messages == 0
    assert made.report.gaps == ()
    assert made.record.stats.barge_ins == 0
    assert len(fake.sessions) == 1


@pytest.mark.parametrize("after_ms", [600, 1900])
def test_an_interruption(kind: Kind, after_ms: int) -> None:
    fake = kind.fake(LONG, ANSWERS[1])
    script = [*ASK[:2], interrupt_after(after_ms, VOICE), wait_for_agent_quiet(1000)]
    made = call(kind, fake, script)
    first, *_, last = said(made.record, "assistant")
    assert LONG.startswith(first)
    assert len(first) < len(LONG)
    assert last in (LONG, ANSWERS[1])
    assert made.record.stats.barge_ins == 1
    assert made.report.counts.stale_messages == 0
    if isinstance(fake, FakeDeepgramAgent):
        assert f'heard only: "{first}"' in fake.prompts[0]
    elif kind is KINDS["gemini-ours"]:
        assert f'heard only: \\"{first}\\"' in str(fake.sessions[0].texts).replace('"', '\\"')


def test_a_function_is_called_once_and_its_answer_spoken(kind: Kind) -> None:
    done: list[str] = []
    fake = kind.fake(("Let me book that.", BOOK, "It is booked."))
    made = call(kind, fake, ASK, booking(done))
    assert [line.split()[0] for line in done] == ["Friday"]
    assert said(made.record, "assistant") == ["Let me book that.", "It is booked."]
    assert [m.text for m in made.record.transcript if m.role == "tool"] == ["booked"]


def test_a_caller_who_goes_on_is_answered_once() -> None:
    kind = KINDS["gemini-ours"]
    script = [wait(500), say(VOICE), wait(600), say(VOICE), wait_for_agent_quiet(1000)]
    made = call(kind, kind.fake(*ANSWERS), script)
    assert made.record.stats.discarded == 1
    assert said(made.record, "assistant") == [ANSWERS[0]]


def test_a_hang_up_leaves_no_session_open(kind: Kind) -> None:
    for at_ms in range(0, 4000, 490):
        fake = kind.fake(LONG)
        made = call(kind, fake, [say(VOICE), wait(at_ms), hang_up()], welcome_message=WELCOME)
        assert made.teardown_s - made.ended_s < 0.2
        assert fake.sessions[0].close_code is not None


@pytest.mark.parametrize("fault", [Fault(drop_after=6), Fault(malformed_after=9)], ids=repr)
def test_a_lost_session_is_made_good(kind: Kind, fault: Fault) -> None:
    fake = kind.fake(*ANSWERS)
    fake.faults.add(fault)
    made = call(kind, fake, TWICE)
    assert said(made.record, "assistant")[-1] in ANSWERS
    assert len(fake.sessions) == 2
