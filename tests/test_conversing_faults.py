"""A turn with two writes and one speech model, and something going wrong at every step."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Literal

import pytest
import trio

from rtcore.agent.agent import Agent
from rtcore.agent.definition import AgentDefinition
from rtcore.agent.tools import Tool
from rtcore.errors import ProviderError
from rtcore.ports import ToolCall
from rtcore.providers.fallback import FallbackSpeechModel
from rtcore.speech_port import SpeechCommand, SpeechEvent, SpeechSession
from rtcore.testing import ScriptedSpeechModel
from tests import harming
from tests.harming import WRITES

KINDS = (*harming.KINDS, "model fails")
Turns = Literal["ours", "theirs"]


class Breakable(ScriptedSpeechModel):
    """One whose open sessions can be made to fail at any moment."""

    def __init__(self, turns: Turns = "ours", name: str = "model") -> None:
        calls = tuple(ToolCall(id=name, name=name, arguments="{}") for name in WRITES)
        super().__init__(
            [("I will.", *calls)], ["Order it please."], first_audio_ms=100, turns=turns, name=name
        )
        self._failing = trio.Event()

    async def converse(
        self,
        session: SpeechSession,
        commands: trio.MemoryReceiveChannel[SpeechCommand],
        emit: Callable[[SpeechEvent], None],
    ) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._break)
            await super().converse(session, commands, emit)
            nursery.cancel_scope.cancel()

    async def _break(self) -> None:
        await self._failing.wait()
        raise ProviderError(self.name, "injected", retryable=True)

    def fail(self) -> None:
        """Lose the session that is open, if one is."""
        failing, self._failing = self._failing, trio.Event()
        failing.set()


class Scene(harming.Harmed):
    """A call with a speech model."""

    def __init__(self) -> None:
        super().__init__()
        self.model = Breakable()

    def agent(self, tools: tuple[Tool, ...]) -> Agent:
        return Agent(AgentDefinition(name="desk"), speech_model=self.model, tools=tools)

    def fail(self, kind: str) -> None:
        self.model.fail()

    @property
    def open_sessions(self) -> int:
        return self.model.sessions.open


def test_undisturbed_both_writes_are_done_and_recorded() -> None:
    scene, _ = harming.play(Scene)
    scene.check()
    assert scene.finished == list(WRITES)
    assert scene.record is not None
    assert [m.text for m in scene.record.transcript if m.role == "assistant"] == [
        "I will.",
        "That is done.",
    ]


@pytest.mark.parametrize("kind", KINDS)
def test_at_whatever_step(kind: str) -> None:
    harming.play_at_steps(Scene, kind, KINDS.index(kind))


class Pair(harming.Harmed):
    """A call with two models, each of which would do both writes for the caller's one turn."""

    def __init__(self, turns: Turns) -> None:
        super().__init__()
        self.models = Breakable(turns, "one"), Breakable(turns, "two")

    def agent(self, tools: tuple[Tool, ...]) -> Agent:
        models = FallbackSpeechModel(self.models)
        return Agent(AgentDefinition(name="desk"), speech_model=models, tools=tools)

    def fail(self, kind: str) -> None:
        for model in self.models:
            model.fail()

    @property
    def open_sessions(self) -> int:
        return sum(model.sessions.open for model in self.models)


@pytest.mark.parametrize("turns", ["ours", "theirs"])
@pytest.mark.parametrize("kind", KINDS)
def test_at_whatever_step_of_a_call_that_another_model_may_take_over(
    kind: str, turns: Turns
) -> None:
    harming.play_at_steps(partial(Pair, turns), kind, KINDS.index(kind))
