"""Real threads and processes on a simulated clock: it stands still while any of them works.

What they do so takes no simulated time but what they ask for themselves (``trio.sleep`` out of a
thread), and what befalls them (a stop, a kill) befalls real ones. In which order a thread and the
loop run within one instant is the machine's to choose: such a run is not the same every time.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar, TypeVarTuple

import trio
import trio.testing

from rtcore.testing.simulation import _children, _deterministic_scheduling

T = TypeVar("T")
Ts = TypeVarTuple("Ts")
LOOK_EVERY_S = 0.0005  # of real time
WORK_MAX_S = 60.0  # of real time: what works for longer without a pause hangs
READS_INPUT = "0 0x0 "  # Linux, x86-64: read(2) of descriptor 0


def simulate_patiently(
    async_fn: Callable[[*Ts], Awaitable[T]],
    *args: *Ts,
    seed: int = 0,
    has_processes: bool = True,
) -> T:
    """As :func:`rtcore.testing.simulate`, for what uses threads and processes.

    ``has_processes``: there may be some, and must be looked at.
    """
    children = _Children(may_work=has_processes)
    with _deterministic_scheduling(seed), _counted(children) as threads:
        clock = trio.testing.MockClock(autojump_threshold=0)
        patience = _Patience(clock, lambda: threads.are_busy or children.are_busy())
        clock._autojump = patience.autojump  # type: ignore[method-assign] # it may not be subclassed
        return trio.run(async_fn, *args, clock=clock, instruments=[patience])


class _Patience(trio.abc.Instrument):
    """Lets a clock jump only where nobody works, and left nothing to be read when it ended."""

    def __init__(self, clock: trio.testing.MockClock, is_busy: Callable[[], bool]) -> None:
        self._jump = clock._autojump
        self._is_busy = is_busy
        self._is_quiet = False  # nobody worked at the last look, and no task has run since
        self._busy_since_s: float | None = None

    def before_task_step(self, task: trio.lowlevel.Task) -> None:
        self._is_quiet = False

    def autojump(self) -> None:
        """What the clock does where every task waits."""
        if self._is_quiet:  # and the loop, which has looked for input since, found none
            self._is_quiet = False
            self._jump()
        elif self._is_busy():
            now_s = time.monotonic()
            self._busy_since_s = self._busy_since_s or now_s
            if now_s - self._busy_since_s > WORK_MAX_S:
                raise RuntimeError("a thread or a process does not come to rest")
            time.sleep(LOOK_EVERY_S)
        else:
            self._busy_since_s = None
            self._is_quiet = True


class _Threads:
    """Which of Trio's threads have something to do: those not waiting for the loop."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._working: set[object] = set()
        self.current = threading.local()

    @property
    def are_busy(self) -> bool:
        return bool(self._working)

    def works(self, thread: object) -> None:
        with self._lock:
            self._working.add(thread)

    def rests(self, thread: object) -> None:
        with self._lock:
            self._working.discard(thread)


class _Children:
    """The processes that were started, all of which wait for their input when they rest.

    To look at them takes a quarter of a millisecond: it is done only where they may work, which
    is from when they are told something, or started, until they rest.
    """

    def __init__(self, *, may_work: bool) -> None:
        self._has_any = self._may_work = may_work

    def were_told(self) -> None:
        """One of them, perhaps."""
        self._may_work = self._has_any

    def are_busy(self) -> bool:
        """Whether one does anything but wait for its input, or stand stopped."""
        if not self._may_work:
            return False
        try:
            states = {_state(pid) for pid in _children()}
        except (
            FileNotFoundError,
            ProcessLookupError,
        ):  # a thread, of ours or theirs, has just ended
            return True
        self._may_work = bool(states - {"rests"})  # one that is stopped may be let go on
        return "works" in states


def _state(pid: str) -> str:
    """Whether it works, is stopped, or rests: all its threads sleep, one of them for its input."""
    is_reading = False
    for thread in os.listdir(f"/proc/{pid}/task"):
        with open(f"/proc/{pid}/task/{thread}/stat", encoding="utf-8") as stat:
            state = stat.read().rpartition(")")[2].split()[0]
        if state == "T":
            return "stopped"
        if state != "S":  # it works, begins, or is dead and not yet missed
            return "works"
        with open(f"/proc/{pid}/task/{thread}/syscall", encoding="ascii") as syscall:
            is_reading = is_reading or syscall.read().startswith(READS_INPUT)
    return "rests" if is_reading else "works"


@contextmanager
def _counted(children: _Children) -> Iterator[_Threads]:
    """Count Trio's threads while the block runs, and note what may make ``children`` work."""
    threads, to_thread, from_thread = _Threads(), trio.to_thread.run_sync, trio.from_thread.run
    send_all, aclose, kill = (
        trio.lowlevel.FdStream.send_all, trio.lowlevel.FdStream.aclose, os.kill
    )  # fmt: skip

    async def tell(stream: trio.lowlevel.FdStream, data: bytes) -> None:
        try:
            await send_all(stream, data)
        finally:
            children.were_told()

    async def tell_of_the_end(stream: trio.lowlevel.FdStream) -> None:
        children.were_told()
        await aclose(stream)

    def signal(pid: int, number: int) -> None:
        children.were_told()
        kill(pid, number)

    async def run_sync(sync_fn: Callable[..., Any], *args: Any, **how: Any) -> Any:
        thread, is_left, is_over = object(), False, False

        def work() -> Any:
            nonlocal is_over
            threads.current.thread = thread
            try:
                return sync_fn(*args)
            finally:
                is_over = True
                children.were_told()  # it may have started one
                if is_left:  # else the loop, which has still to be told, says so
                    threads.rests(thread)

        threads.works(thread)
        try:
            return await to_thread(work, **how)
        finally:
            is_left = True
            if is_over:
                threads.rests(thread)

    def run(async_fn: Callable[..., Awaitable[Any]], *args: Any, **how: Any) -> Any:
        thread = threads.current.thread

        async def wait() -> Any:
            threads.rests(thread)
            try:
                return await async_fn(*args)
            finally:
                threads.works(thread)

        return from_thread(wait, **how)

    trio.to_thread.run_sync, trio.from_thread.run = run_sync, run  # type: ignore[assignment]
    trio.lowlevel.FdStream.send_all = tell  # type: ignore[assignment,method-assign]
    trio.lowlevel.FdStream.aclose = tell_of_the_end  # type: ignore[assignment,method-assign]
    os.kill = signal
    try:
        yield threads
    finally:
        trio.to_thread.run_sync, trio.from_thread.run = to_thread, from_thread
        trio.lowlevel.FdStream.send_all = send_all  # type: ignore[method-assign]
        trio.lowlevel.FdStream.aclose = aclose  # type: ignore[method-assign]
        os.kill = kill
