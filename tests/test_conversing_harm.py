"""A list of two speech models, the first harmed in each of five ways at each thing it gives."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest

from rtcore.agent.agent import Agent
from rtcore.agent.definition import AgentDefinition
from rtcore.config import CallConfig
from rtcore.providers.fallback import FallbackSpeechModel
from rtcore.testing import ProviderFault, ScriptedSpeechModel, say, simulate, wait
from rtcore.turn.config import TurnConfig
from tests.conversing import TURNS, asked
from tests.test_call import QUESTIONS, VOICE, Made, make_call, said, tool

WELCOME = "Good day."
ORDERED, LAST = "It is ordered.", "Goodbye then."
KINDS = ("raise", "end", "stall", "slow", "malformed")
ITEMS = 7  # what one gives in the whole call: pieces of sound of 500 ms, and a function call
PATIENT = CallConfig(turn=TurnConfig(idle_ms=60_000))
QUICKLY = [wait(3000), say(VOICE), wait(6000), say(VOICE), wait(4500)]
SLOWLY = [wait(9000), say(VOICE), wait(13_000), say(VOICE), wait(10_000)]  # silence takes its time


class Harmed:
    """One call, its models, and what its function did."""

    def __init__(self, turns: Any, *faults: ProviderFault) -> None:
        self.done: list[str] = []
        self.models = [
            ScriptedSpeechModel(
                [("I will.", asked("order"), ORDERED), LAST],
                QUESTIONS,
                first_audio_ms=300,
                chunk_ms=500,
                turns=turns,
                name=name,
                faults=dict(enumerate(own)),
            )
            for name, own in (("one", faults), ("two", ()))
        ]
        agent = Agent(
            AgentDefinition(name="desk", welcome_message=WELCOME),
            speech_model=FallbackSpeechModel(self.models),
            tools=(tool("order", "write", self.done, 0.3),),
        )
        self.apology = agent.definition.apology_line
        is_slow = any(fault.kind in ("stall", "slow") for fault in faults)
        script = SLOWLY if is_slow else QUICKLY
        self.made: Made = simulate(partial(make_call, config=PATIENT), agent, script)

    @property
    def said(self) -> list[str]:
        return said(self.made.record, "assistant")

    def check(self) -> None:
        """What must hold whatever happened."""
        record, report = self.made.record, self.made.report
        assert [model.sessions.open for model in self.models] == [0, 0]
        assert record.ended_by == "hung_up"
        assert record.stats.turns == 2
        assert record.stats.floor_lost == 0
        assert (report.counts.stale_messages, report.violations) == (0, ())
        assert [line.split()[1] for line in self.done] in ([], ["begun", "done"])
        results = [m.text for m in record.transcript if m.role == "tool"]
        assert results == ["done"] * bool(self.done)
        assert WELCOME.startswith(self.said[0])
        assert self.said.count(WELCOME) <= 1
        apologies = [line for line in self.said if self.apology.startswith(line)]
        if self.said[0] != WELCOME or not self.done:
            assert apologies  # one for the welcome the caller talks over
        *_, last = (line for line in self.said if line not in apologies)
        assert ORDERED.startswith(last) or LAST.startswith(last)


def test_unharmed_one_gives_it_all() -> None:
    for turns in TURNS:
        call = Harmed(turns)
        call.check()
        assert call.said == [WELCOME, "I will.", ORDERED, LAST]
        assert call.models[1].begun == []
        assert Harmed(turns, ProviderFault(kind="raise", after_items=ITEMS)).said == call.said
        last = Harmed(turns, ProviderFault(kind="raise", after_items=ITEMS - 1))
        assert last.models[1].begun != []


@pytest.mark.parametrize("turns", TURNS)
@pytest.mark.parametrize("kind", KINDS)
def test_harmed_at_whatever_it_gives_the_call_goes_on(kind: Any, turns: str) -> None:
    for at in (0,) if kind == "slow" else range(ITEMS):  # which is so from the beginning
        call = Harmed(turns, ProviderFault(kind=kind, after_items=at, factor=8))
        try:
            call.check()
        except AssertionError as exc:
            raise AssertionError(f"{kind} at {at}: {call.said}") from exc
        if kind in ("slow", "malformed"):
            assert call.models[1].begun == []
