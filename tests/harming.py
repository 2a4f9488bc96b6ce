"""A turn with two writes, and something going wrong before a step that any task of it takes.

The call runs on the simulated clock, the same steps every time; before one of them the caller
interrupts, goes on speaking or hangs up, the host cancels, or a provider fails.
"""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Callable

import trio

from rtcore.agent.agent import Agent
from rtcore.agent.performing import CUT_OFF
from rtcore.agent.tools import Tool, ToolUse
from rtcore.call import Call, CallRecord, run_call
from rtcore.ports import ToolSpec
from rtcore.testing import (
    FakeCarrier,
    MemorySocket,
    hang_up,
    memory_sockets,
    say,
    simulate,
    speak,
    wait,
    wait_for_agent_quiet,
)

__all__ = ["KINDS", "WRITES", "Harmed", "play", "play_at_steps"]

VOICE = speak("order it please").pcm
WRITES = ("order", "notify")
KINDS = ("interruption", "caller goes on", "hang up", "host cancels")
# a sample by default, other steps for each kind; RTCORE_FAULTS=1 takes every step of every kind
STRIDE = int(os.environ.get("RTCORE_FAULTS", "6"))
# what only carries frames decides nothing: its steps are not counted
CARRIERS = ("FakeCarrier", "Pacer", "LineClock", "_mend", "carrier", "node")


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


class Harmed(ABC):
    """One call, all that may be harmed in it, and what came of it."""

    def __init__(self) -> None:
        self.begun: list[tuple[str, str]] = []  # (function, key)
        self.finished: list[str] = []
        self.host = trio.CancelScope()
        self.call: Call | None = None
        self.carrier_socket: MemorySocket | None = None
        self.record: CallRecord | None = None

    @abstractmethod
    def agent(self, tools: tuple[Tool, ...]) -> Agent:
        """Who takes the call."""

    @abstractmethod
    def fail(self, kind: str) -> None:
        """Let the provider that ``kind`` names fail now."""

    @property
    @abstractmethod
    def open_sessions(self) -> int:
        """Of all providers."""

    def harm(self, kind: str) -> None:
        """Let ``kind`` happen now, between two steps."""
        assert self.carrier_socket is not None
        if kind == "hang up":
            self.carrier_socket.vanish()
        elif kind == "host cancels":
            self.host.cancel()
        elif kind.endswith("fails"):
            self.fail(kind)
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
        agent = self.agent(tuple(self.tool(name) for name in WRITES))
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
        """What must hold whatever happened.

        Each write is executed at most once, recorded exactly once and never for a discarded
        reply, and no session is left open.
        """
        assert self.open_sessions == 0
        names = [name for name, _ in self.begun]
        assert len(names) == len(set(names)), "a write was executed twice"
        if self.call is None:
            assert not names
            return
        log = self.call.conversation.log
        calls = {call.id: call.name for message in log for call in message.tool_calls}
        results = [m for m in log if m.role == "tool"]
        assert list(calls.values()) == names, "what was begun is what was recorded, in order, once"
        assert [m.tool_call_id for m in results] == list(calls)
        for name, result in zip(names, results, strict=True):
            assert result.text == (f"{name} done" if name in self.finished else CUT_OFF)


def play(scene: Callable[[], Harmed], kind: str = "nothing", at: int = -1) -> tuple[Harmed, int]:
    """One call of a ``scene`` of its own, and how many steps it took."""

    async def run() -> tuple[Harmed, int]:
        harmed = scene()
        return harmed, await harmed.play(kind, at)

    return simulate(run)


def play_at_steps(scene: Callable[[], Harmed], kind: str, first: int) -> None:
    """Let ``kind`` happen at every so many steps, from ``first`` on, and see that all holds."""
    _, steps = play(scene)
    for at in range(first % STRIDE, steps, STRIDE):
        harmed, _ = play(scene, kind, at)
        try:
            harmed.check()
        except AssertionError as exc:
            raise AssertionError(f"{kind} before step {at}") from exc
