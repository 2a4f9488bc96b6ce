"""A turn with two writes, and something going wrong at every step any task of it takes."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import trio

from rtcore.agent.agent import Agent
from rtcore.agent.definition import AgentDefinition
from rtcore.agent.tools import Tool
from rtcore.errors import ProviderError
from rtcore.ports import (
    CallContext,
    Delta,
    Finished,
    Hearing,
    ResponderRequest,
    Segment,
    SpeechAudio,
    TextDelta,
    ToolCall,
    Transcript,
)
from rtcore.testing import (
    ScriptedSynthesizer,
    ScriptedTranscriber,
)
from tests import harming
from tests.harming import WRITES

KINDS = (*harming.KINDS, "ears fails", "mind fails", "voice fails")


class Breakable:
    """A provider whose open sessions can be made to fail at any moment."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._scopes: set[trio.CancelScope] = set()

    @property
    def open(self) -> int:
        return len(self._scopes)

    def fail(self) -> None:
        for scope in self._scopes:
            scope.cancel()

    async def run(self, fn: Callable[..., object], *args: object) -> None:
        with trio.CancelScope() as scope:
            self._scopes.add(scope)
            try:
                await fn(*args)  # type: ignore[misc]
            finally:
                self._scopes.discard(scope)
        if scope.cancelled_caught:
            raise ProviderError(self.name, "scripted failure", retryable=True)


class Ears(Breakable):
    wants_all_audio = False
    inner = ScriptedTranscriber(["order it please"], 100, partial_ms=100)

    async def transcribe(
        self, context: CallContext, hearing: Hearing, emit: Callable[[Transcript], None]
    ) -> None:
        await self.run(self.inner.transcribe, context, hearing, emit)


class Mind(Breakable):
    """Says a word, orders and notifies at once, then says that it is done."""

    async def respond(self, request: ResponderRequest, out: trio.MemorySendChannel[Delta]) -> None:
        await self.run(self._respond, request, out)

    async def _respond(self, request: ResponderRequest, out: trio.MemorySendChannel[Delta]) -> None:
        await trio.sleep(0.1)
        if request.messages[-1].role == "tool":
            await out.send(TextDelta(text="That is done."))
        else:
            await out.send(TextDelta(text="I will. "))
            for name in WRITES:
                await out.send(ToolCall(id=name, name=name, arguments="{}"))
        await out.send(Finished())


class Voice(Breakable):
    inner = ScriptedSynthesizer(50, ms_per_word=100)

    async def synthesize(
        self,
        context: CallContext,
        segments: trio.MemoryReceiveChannel[Segment],
        out: trio.MemorySendChannel[SpeechAudio],
    ) -> None:
        await self.run(self.inner.synthesize, context, segments, out)


class Scene(harming.Harmed):
    """A call with ears, a mind and a voice."""

    def __init__(self) -> None:
        super().__init__()
        self.ears, self.mind, self.voice = Ears("ears"), Mind("mind"), Voice("voice")

    def agent(self, tools: tuple[Tool, ...]) -> Agent:
        return Agent(AgentDefinition(name="desk"), self.ears, self.mind, self.voice, tools)

    def fail(self, kind: str) -> None:
        getattr(self, kind.split()[0]).fail()

    @property
    def open_sessions(self) -> int:
        return self.ears.open + self.mind.open + self.voice.open


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
