"""A turn with two writes, and something going wrong at every step any task of it takes.

The call runs on the simulated clock, the same steps every time; before each of them in turn the
caller interrupts, goes on speaking or hangs up, the host cancels, or a provider fails. Whatever
the step: each write is executed at most once, recorded exactly once and never for a discarded
reply, and no session is left open.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, field

import pytest
import trio

from rtcore.agent.agent import Agent
from rtcore.agent.definition import AgentDefinition
from rtcore.agent.performing import CUT_OFF
from rtcore.agent.tools import Tool, ToolUse
from rtcore.call import Call, CallRecord, run_call
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
    ToolSpec,
    Transcript,
)
from rtcore.testing import (
    FakeCarrier,
    MemorySocket,
    ScriptedSynthesizer,
    ScriptedTranscriber,
    hang_up,
    memory_sockets,
    say,
    simulate,
    speak,
    wait,
    wait_for_agent_quiet,
)

VOICE = speak("order it please").pcm
WRITES = ("order", "notify")
# a sample by default, other steps for each kind; RTCORE_FAULTS=1 takes every step of every kind
STRIDE = int(os.environ.get("RTCORE_FAULTS", "6"))
# what only carries frames decides nothing: its steps are not counted
CARRIERS = ("FakeCarrier", "Pacer", "LineClock", "_mend", "carrier", "node")


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


class Injection(trio.abc.Instrument):
    """Counts the steps of a call's tasks and does ``harm`` before step number ``at``."""

    def __init__(self, at: int, harm: Callable[[], None]) -> None:
        self.steps = 0
        self.error: Exception | None = None
        self._at = at
        self._harm = harm

    def before_task_step(self, task: trio.lowlevel.Task) -> None:
        if any(name in task.name for name in CARRIERS):
            return
        if self.steps == self._at:
            try:
                self._harm()
            except Exception as exc:  # Trio would log it and go on without harm
                self.error = exc
        self.steps += 1


@dataclass
class Scene:
    """One call, all that may be harmed in it, and what came of it."""

    ears: Ears = field(default_factory=lambda: Ears("ears"))
    mind: Mind = field(default_factory=lambda: Mind("mind"))
    voice: Voice = field(default_factory=lambda: Voice("voice"))
    begun: list[tuple[str, str]] = field(default_factory=list)  # (function, key)
    finished: list[str] = field(default_factory=list)
    host: trio.CancelScope = field(default_factory=trio.CancelScope)
    call: Call | None = None
    carrier_socket: MemorySocket | None = None
    record: CallRecord | None = None

    def harm(self, kind: str) -> None:
        """Let ``kind`` happen now, between two steps."""
        assert self.carrier_socket is not None
        if kind == "hang up":
            self.carrier_socket.vanish()
        elif kind == "host cancels":
            self.host.cancel()
        elif kind.endswith("fails"):
            getattr(self, kind.split()[0]).fail()
        elif self.call is not None:
            # the call's own reactions, at moments no caller could choose
            if kind == "interruption":
                self.call._answering.interrupt()
            elif kind == "caller goes on":
                self.call._answering.discard()

    def tool(self, name: str) -> Tool:
        async def run(use: ToolUse) -> str:
            self.begun.append((name, use.key))
            await trio.sleep(0.15)
            self.finished.append(name)
            return f"{name} done"

        return Tool(spec=ToolSpec(name=name, description=name), effect="write", run=run)

    async def play(self, kind: str, at: int) -> int:
        """Run the call with ``kind`` injected at step ``at``; return how many steps there were."""
        tools = tuple(self.tool(name) for name in WRITES)
        agent = Agent(AgentDefinition(name="desk"), self.ears, self.mind, self.voice, tools)
        self.carrier_socket, there = memory_sockets()
        script = [wait(100), say(VOICE), wait_for_agent_quiet(500), hang_up()]
        carrier = FakeCarrier(script, limit_s=10)
        injection = Injection(at, lambda: self.harm(kind))

        def on_start(call: Call) -> None:
            self.call = call

        async def node() -> None:
            with self.host:
                self.record = await run_call(there, agent, on_start=on_start)

        trio.lowlevel.add_instrument(injection)
        with trio.fail_after(60):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(node)
                await carrier.call(self.carrier_socket)
                ended_s = trio.current_time()
        if injection.error is not None:
            raise injection.error
        assert trio.current_time() - ended_s < 0.1
        return injection.steps

    def check(self) -> None:
        """What must hold whatever happened."""
        assert self.ears.open == self.mind.open == self.voice.open == 0
        names = [name for name, _ in self.begun]
        assert len(names) == len(set(names)), "a write was executed twice"
        assert self.call is not None or not names
        if self.call is None:
            return
        log = self.call.conversation.log
        calls = [call.id for message in log for call in message.tool_calls]
        results = {m.tool_call_id: m.text for m in log if m.role == "tool"}
        assert calls == names, "what was begun is what was recorded, in order, once"
        assert [m.tool_call_id for m in log if m.role == "tool"] == names
        for name in names:
            assert results[name] == (f"{name} done" if name in self.finished else CUT_OFF)


def play(kind: str = "nothing", at: int = -1) -> tuple[Scene, int]:
    async def run() -> tuple[Scene, int]:
        scene = Scene()
        return scene, await scene.play(kind, at)

    return simulate(run)


def test_undisturbed_both_writes_are_done_and_recorded() -> None:
    scene, _ = play()
    scene.check()
    assert scene.finished == list(WRITES)
    assert scene.record is not None
    assert [m.text for m in scene.record.transcript if m.role == "assistant"] == [
        "I will.",
        "That is done.",
    ]


KINDS = (
    "interruption",
    "caller goes on",
    "hang up",
    "host cancels",
    "ears fails",
    "mind fails",
    "voice fails",
)


@pytest.mark.parametrize("kind", KINDS)
def test_at_whatever_step(kind: str) -> None:
    _, steps = play()
    for at in range(KINDS.index(kind) % STRIDE, steps, STRIDE):
        scene, _ = play(kind, at)
        try:
            scene.check()
        except AssertionError as exc:
            raise AssertionError(f"{kind} before step {at}") from exc
