"""Beating where Trio would wait for I/O: for a process whose Trio run is its own.

A wake-up of a task costs a nearly idle process several times what it costs the kernel: by then
the interpreter, Trio's run loop and its queues have left the caches. Nearly all beats of the
media clock wake nobody: a frame is read and heard, a piece is written. So they need no task.
Trio tells its instruments when it is about to wait (``before_io_wait``); one of ours then waits
in its place, beats when it is time, and returns as soon as Trio has something to do: one of its
own sockets, a deadline, a task that a beat has woken.

Not for a guest run (:func:`trio.lowlevel.start_guest_run`): there Trio waits in a thread, and its
instruments run in the host's loop. And :func:`trio.testing.wait_all_tasks_blocked` with a cushion
never ends beside it, since Trio is always woken by something.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import NoReturn

import trio

from rtcore.media._beats import Beats
from rtcore.media._in_wait import WaitHook
from rtcore.media.alarm import Alarm

__all__ = ["beat_in_wait", "is_taken"]


_is_taken = trio.lowlevel.RunVar("beats in wait", default=False)


def is_taken() -> bool:
    """Whether the wait of this Trio run has its beats."""
    return _is_taken.get()


async def beat_in_wait(beats: Beats) -> None:
    """Beat until cancelled, and read what is not to wait for a beat.

    Returns at once where it cannot be done: it takes Linux, its list of what each epoll waits
    for, time that runs by itself, and a run that does not do it already. Raises what a beat
    raises.
    """
    if is_taken():
        return
    _is_taken.set(True)
    try:
        with Alarm() as alarm:
            if alarm.fd is not None and (trio_fd := await _epoll_of(alarm.fd)) is not None:
                await _beat_in_wait(WaitHook(beats, trio_fd, alarm.fd), alarm.fd)
    finally:
        _is_taken.set(False)


async def _beat_in_wait(hook: WaitHook, alarm_fd: int) -> NoReturn:
    trio.lowlevel.add_instrument(hook)
    try:
        while hook.fault is None:
            await trio.lowlevel.wait_readable(alarm_fd)
        raise hook.fault
    finally:
        trio.lowlevel.remove_instrument(hook)


async def _epoll_of(fd: int) -> int | None:
    """The number of Trio's epoll, which has no public name: the one that waits for ``fd``."""
    async with trio.open_nursery() as nursery:
        nursery.start_soon(trio.lowlevel.wait_readable, fd)
        for _ in range(2):  # by then it has begun to wait
            await trio.lowlevel.checkpoint()
        found = next((number for number, fds in _epolls() if fd in fds), None)
        nursery.cancel_scope.cancel()
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
