"""A turn with two writes and one speech model, and something going wrong at every step.

As :mod:`tests.agent.test_functions_faults`: before each step of any task of the call the caller
interrupts, goes on or hangs up, the host cancels, or the model's session fails. Whatever the
step: each write is executed at most once, recorded exactly once and never for a discarded reply,
the model is told the outcome of each, and no session is left open.
"""

from __future__ import annotations

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
from rtcore.ports import ToolCall, ToolSpec
from rtcore.speech_port import SpeechCommand, SpeechEvent, SpeechSession
from rtcore.testing import (
    FakeCarrier,
    MemorySocket,
    ScriptedSpeechModel,
    hang_up,
    memory_sockets,
    say,
    simulate,
    speak,
    wait,
    wait_for_agent_quiet,
)
from tests.agent.test_functions_faults import STRIDE, Injection

VOICE = speak("order it please").pcm
WRITES = ("order", "notify")
KINDS = ("interruption", "caller goes on", "hang up", "host cancels", "model fails")


class Breakable(ScriptedSpeechModel):
    """One whose open sessions can be made to fail at any moment."""

    def __init__(self) -> None:
        calls = tuple(ToolCall(id=name, name=name, arguments="{}") for name in WRITES)
        super().__init__([("I will.", *calls)], ["Order it please."], first_audio_ms=100)
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


@dataclass
class Scene:
    """One call, all that may be harmed in it, and what came of it."""

    model: Breakable = field(default_factory=Breakable)
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
        elif kind == "model fails":
            self.model.fail()
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
        agent = Agent(AgentDefinition(name="desk"), speech_model=self.model, tools=tools)
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
        assert self.model.sessions.open == 0
        names = [name for name, _ in self.begun]
        assert len(names) == len(set(names)), "a write was executed twice"
        if self.call is None:
            assert not names
            return
        log = self.call.conversation.log
        calls = [call.name for message in log for call in message.tool_calls]
        results = {m.tool_call_id: m.text for m in log if m.role == "tool"}
        assert calls == names, "what was begun is what was recorded, in order, once"
        assert len(results) == len(names)
        for name, text in zip(names, results.values(), strict=True):
            assert text == (f"{name} done" if name in self.finished else CUT_OFF)


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


@pytest.mark.parametrize("kind", KINDS)
def test_at_whatever_step(kind: str) -> None:
    _, steps = play()
    for at in range(KINDS.index(kind) % STRIDE, steps, STRIDE):
        scene, _ = play(kind, at)
        try:
            scene.check()
        except AssertionError as exc:
            raise AssertionError(f"{kind} before step {at}") from exc
