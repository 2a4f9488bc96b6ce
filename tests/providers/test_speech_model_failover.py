"""Lists of two speech models of different services in whole calls, against their fakes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from rtcore.agent.agent import Agent
from rtcore.agent.definition import AgentDefinition
from rtcore.agent.tools import Tool
from rtcore.providers import build_speech_model
from rtcore.testing import Action, hang_up, say, simulate, wait, wait_for_agent_quiet
from tests.fakes._faults import Fault
from tests.fakes.deepgram_agent import FakeDeepgramAgent
from tests.fakes.gemini_live import FakeGeminiLive
from tests.fakes.openai_realtime import FakeOpenAIRealtime
from tests.providers._dial import reaching
from tests.providers._harness import KEY
from tests.providers.test_openai_realtime import BOOK, booking
from tests.test_call import ANSWERS, QUESTIONS, VOICE, WELCOME, Made, make_call, said

Fake = FakeOpenAIRealtime | FakeGeminiLive | FakeDeepgramAgent
SECRETS = {f"{name}_API_KEY": KEY for name in ("OPENAI", "GEMINI", "DEEPGRAM")}
OTHERS = ("The other one is speaking now.", "It is still the other one.")
ASK = [wait(500), say(VOICE), wait_for_agent_quiet(2000)]
TWICE = [*ASK, say(VOICE), wait_for_agent_quiet(2000), hang_up()]
MAKE: dict[str, Callable[..., Fake]] = {
    "openai_realtime": lambda answers: FakeOpenAIRealtime(answers, QUESTIONS, first_s=0.3),
    "gemini_live": lambda answers: FakeGeminiLive(
        answers, QUESTIONS, piece_s=0.01, playback_s=None
    ),
    "deepgram_agent": lambda answers: FakeDeepgramAgent(answers, QUESTIONS, piece_s=0.01),
}
PAIRS = [
    ("openai_realtime", "gemini_live", "ours"),
    ("gemini_live", "openai_realtime", "ours"),
    ("openai_realtime", "deepgram_agent", "theirs"),
    ("deepgram_agent", "gemini_live", "theirs"),
]


class Pair:
    """The first of a list and its backup, and a call to both."""

    def __init__(
        self, first: str, second: str, turns: str, answers: Any = ANSWERS, others: Any = OTHERS
    ) -> None:
        self.first, self.second = MAKE[first](answers), MAKE[second](others)
        self.names = first, second
        detection = {"detection": "server_vad"}  # what the fake knows
        self.specs = [
            {"provider": name, "turns": turns, "base_url": f"ws://{host}"}
            | (detection if name == "openai_realtime" else {})
            for host, name in (("first", first), ("second", second))
        ]

    def call(self, script: list[Action], *tools: Tool, **words: Any) -> Made:
        """One call; nothing of it is left open at either."""
        models = build_speech_model(self.specs, SECRETS)
        agent = Agent(AgentDefinition(name="desk", **words), speech_model=models, tools=tools)

        async def run() -> Made:
            async with reaching(first=self.first, second=self.second):
                return await make_call(agent, script)

        return simulate(run)

    def check(self, made: Made) -> None:
        """The second has taken over, once, and the record says so."""
        moves = [
            note.fields["provider"] for note in made.record.notes if note.kind == "failed_over"
        ]
        assert moves == [self.names[1]]
        usage = {each.provider: each for each in made.record.usage}
        assert usage[self.names[0]].failures == 1
        assert (usage[self.names[1]].failures, usage[self.names[1]].failovers) == (0, 1)
        assert len(self.first.sessions) + self.first.refusals == 1
        assert len(self.second.sessions) == 1
        assert made.report.counts.stale_messages == 0
        assert made.record.stats.floor_lost == 0


@pytest.fixture(params=PAIRS, ids="-".join)
def names(request: pytest.FixtureRequest) -> tuple[str, str, str]:
    found: tuple[str, str, str] = request.param
    return found


@pytest.mark.parametrize(
    "fault",
    [
        Fault(status=503),
        Fault(status=401),
        Fault(status=429, retry_after="3"),
        Fault(drop_after=0),
        Fault(malformed_after=1),
        Fault(stall_after=1),
    ],
    ids=repr,
)
def test_a_first_that_never_answers_is_not_noticed(
    names: tuple[str, str, str], fault: Fault
) -> None:
    pair = Pair(*names)
    pair.first.faults.usual = fault
    script = [wait(9000), *TWICE[1:]]
    made = pair.call(script, welcome_message=WELCOME)
    pair.check(made)
    assert said(made.record, "assistant") == [WELCOME, *OTHERS]
    assert [text.strip() for text in said(made.record, "user")] == list(QUESTIONS)


@pytest.mark.parametrize("at", [8, 17])
@pytest.mark.parametrize("how", ["drop_after", "malformed_after"])
def test_a_first_that_breaks_in_the_midst_is_gone_on_for(
    names: tuple[str, str, str], how: str, at: int
) -> None:
    """Wherever it breaks, both questions are heard, and the second has an answer."""
    pair = Pair(*names)
    pair.first.faults.usual = Fault(**{how: at})
    made = pair.call(TWICE)
    first, *_, last = said(made.record, "assistant")
    apology = AgentDefinition(name="desk").apology_line  # alone, if it broke within a word
    assert any(text.startswith(first) for text in (*ANSWERS, *OTHERS, apology))
    assert last in (*ANSWERS, *OTHERS)
    assert len(said(made.record, "user")) == 2
    assert made.report.counts.stale_messages == 0


def test_a_first_that_falls_silent_in_its_answer_is_apologised_for_by_the_second(
    names: tuple[str, str, str],
) -> None:
    pair = Pair(*names)
    stall = {"openai_realtime": 45, "gemini_live": 9, "deepgram_agent": 9}[names[0]]
    pair.first.faults.usual = Fault(stall_after=stall)
    made = pair.call([wait(500), say(VOICE), wait(14_000), say(VOICE), *ASK[2:], hang_up()])
    first, apology, last = said(made.record, "assistant")
    assert ANSWERS[0].startswith(first)
    assert apology == AgentDefinition(name="desk").apology_line
    assert last in OTHERS
    assert len(said(made.record, "user")) == 2
    pair.check(made)


@pytest.mark.parametrize("turns", ["ours", "theirs"])
def test_a_session_at_its_time_limit_stays_with_its_service(turns: str) -> None:
    pair = Pair("openai_realtime", "gemini_live", turns)
    assert isinstance(pair.first, FakeOpenAIRealtime)
    pair.first.expires_s = 13.0
    made = pair.call([*ASK, wait(6000), *TWICE[3:]])
    assert len(pair.first.sessions) >= 2
    assert pair.second.sessions == []
    assert said(made.record, "assistant")[0] == ANSWERS[0]
    assert len(said(made.record, "assistant")) == 2


@pytest.mark.parametrize("code", ["rate_limit_exceeded", "server_error"])
@pytest.mark.parametrize("turns", ["ours", "theirs"])
def test_a_response_that_fails_is_made_by_the_second(turns: str, code: str) -> None:
    pair = Pair("openai_realtime", "gemini_live", turns)
    assert isinstance(pair.first, FakeOpenAIRealtime)
    pair.first.failing = dict.fromkeys(range(9), code)
    made = pair.call(TWICE)
    pair.check(made)
    assert said(made.record, "assistant") == list(OTHERS)
    assert [text.strip() for text in said(made.record, "user")] == list(QUESTIONS)


def test_a_write_is_done_once_though_both_would_do_it(names: tuple[str, str, str]) -> None:
    """The first is lost at every message after it was heard; each asks for the same function."""
    books = ("Let me book that.", BOOK, "It is booked.")
    for at in (5, 9, 17):
        done: list[str] = []
        pair = Pair(*names, answers=(books, "Anything else?"), others=(books, "Anything else?"))
        pair.first.faults.usual = Fault(drop_after=at)
        made = pair.call([*ASK, wait(3000), hang_up()], booking(done, 1.0))
        assert len(done) <= 1
        results = [m.text for m in made.record.transcript if m.role == "tool"]
        assert results == ["booked"] * len(done)
