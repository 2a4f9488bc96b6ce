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

    ``has_processes``: there may be some; to look for them takes a quarter of a millisecond each
    time the clock jumps.
    """
    with _deterministic_scheduling(seed), _counted() as threads:
        clock = trio.testing.MockClock(autojump_threshold=0)
        patience = _Patience(
            clock, lambda: threads.are_busy or (has_processes and _processes_are_busy())
        )
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


@contextmanager
def _counted() -> Iterator[_Threads]:
    """Count Trio's threads while the block runs."""
    threads, to_thread, from_thread = _Threads(), trio.to_thread.run_sync, trio.from_thread.run

    async def run_sync(sync_fn: Callable[..., Any], *args: Any, **how: Any) -> Any:
        thread, is_left, is_over = object(), False, False

        def work() -> Any:
            nonlocal is_over
            threads.current.thread = thread
            try:
                return sync_fn(*args)
            finally:
                is_over = True
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
    try:
        yield threads
    finally:
        trio.to_thread.run_sync, trio.from_thread.run = to_thread, from_thread


def _processes_are_busy() -> bool:
    """Whether a child does anything but wait for its input, or stand stopped."""
    try:
        return any(_is_busy(pid) for pid in _children())
    except (FileNotFoundError, ProcessLookupError):  # a thread of ours has just ended
        return True


def _is_busy(pid: str) -> bool:
    """Whether ``pid`` works: it does not if all its threads sleep, one of them for its input."""
    is_reading = False
    try:
        for thread in os.listdir(f"/proc/{pid}/task"):
            with open(f"/proc/{pid}/task/{thread}/stat", encoding="utf-8") as stat:
                state = stat.read().rpartition(")")[2].split()[0]
            if state == "T":
                return False
            if state != "S":  # it works, begins, or is dead and not yet missed
                return True
            with open(f"/proc/{pid}/task/{thread}/syscall", encoding="ascii") as syscall:
                is_reading = is_reading or syscall.read().startswith(READS_INPUT)
    except (FileNotFoundError, ProcessLookupError):
        return True  # something of it has just ended
    return not is_reading
