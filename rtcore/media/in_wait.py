"""Beating where Trio would wait: for a process whose Trio run is its own.

A wake-up of a task costs a nearly idle process several times what it costs the kernel: by then
the interpreter, Trio's run loop and its queues have left the caches. Nearly all beats of the
media clock wake nobody: a frame is read and heard, a piece is written. So they need no task.
When no task can run, Trio asks its clock how long it may sleep; :class:`BeatingClock` sleeps
itself, beats when it is time, and answers as soon as Trio has something to do: one of its
own sockets, a deadline, a task that a beat has woken::

    trio.run(main, clock=BeatingClock())

Not for a guest run (:func:`trio.lowlevel.start_guest_run`): there Trio waits in a thread, and its
clock is asked in the host's loop. And :func:`trio.testing.wait_all_tasks_blocked` never ends
beside it, since Trio itself never waits.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import trio

from rtcore.media._beats import Beats
from rtcore.media._in_wait import WaitClock

__all__ = ["BeatingClock", "beat_in_wait"]


class BeatingClock(WaitClock, trio.abc.Clock):
    """A clock for one Trio run, which runs as time does; the first pacer of that run beats in it.

    A node of few calls costs less by it. Without a pacer it is as Trio's own.
    """


async def beat_in_wait(beats: Beats) -> None:
    """Beat until cancelled, and read what is not to wait for a beat.

    Returns at once where it cannot be done: it takes a :class:`BeatingClock`, nobody else's beats
    in it, and a system that lists what each epoll waits for. Raises what a beat raises.
    """
    clock = trio.lowlevel.current_clock()
    if not isinstance(clock, BeatingClock) or clock.is_beating:
        return
    trio_fd = await _trio_epoll()
    if trio_fd is None or clock.is_beating:
        return
    faults: list[BaseException] = []
    failed = trio.Event()

    def on_fault(fault: BaseException) -> None:
        faults.append(fault)
        failed.set()

    trio.lowlevel.add_instrument(clock)
    clock.begin(beats, trio_fd, on_fault)
    try:
        await failed.wait()
        raise faults[0]
    finally:
        clock.end()
        trio.lowlevel.remove_instrument(clock)


async def _trio_epoll() -> int | None:
    """The number of Trio's epoll, which has no public name: it waits for what a task waits for."""
    if not hasattr(os, "eventfd"):
        return None
    fd = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
    try:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(trio.lowlevel.wait_readable, fd)
            for _ in range(2):  # by then it has begun to wait
                await trio.lowlevel.checkpoint()
            found = next((number for number, fds in _epolls() if fd in fds), None)
            nursery.cancel_scope.cancel()
    finally:
        os.close(fd)
    return found


def _epolls() -> Iterator[tuple[int, set[int]]]:
    """Each epoll of this process, and what it waits for (proc_pid_fdinfo(5))."""
    with suppress(OSError):
        for info in Path("/proc/self/fdinfo").iterdir():
            with suppress(OSError):  # closed meanwhile
                lines = [line.split() for line in info.read_text().splitlines()]
                fds = {int(line[1]) for line in lines if line and line[0] == "tfd:"}
                if fds:
                    yield int(info.name), fds
