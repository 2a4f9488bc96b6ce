"""One task that reads all fast sockets of a process.

A task per socket pays for each message with a wake-up of its own: arming epoll, rescheduling,
a switch. Here the sockets are registered once with one epoll, and each wake-up reads whatever
has become readable, in turn, in one task.

A few sockets are read the moment something comes. Many would wake us for every message; they
are looked at every 4 ms instead: frames come 20 ms apart, so each is read 2 ms late on average,
and a hundred of them cost one wake-up.
"""

from __future__ import annotations

import select
from collections.abc import Callable

import trio

__all__ = ["Pump"]

READ_MAX_SOCKETS = 64  # before the other tasks get their turn: some 1 ms of work
FEW_SOCKETS = 4  # up to here a wake-up for each message costs less than looking would
LOOK_EVERY_S = 0.004


class Pump:
    """Calls back for each readable socket, for as long as :meth:`run` runs."""

    def __init__(self) -> None:
        self._epoll = select.epoll()
        self._readers: dict[int, Callable[[], None]] = {}

    async def run(self) -> None:
        """Serve until cancelled; the sockets are left as they are."""
        look_s = 0.0
        try:
            while True:
                if len(self._readers) > FEW_SOCKETS:
                    look_s = max(look_s + LOOK_EVERY_S, trio.current_time())
                    await trio.sleep_until(look_s)
                else:  # an epoll is itself something epoll can wait for
                    await trio.lowlevel.wait_readable(self._epoll.fileno())
                while self._read() == READ_MAX_SOCKETS:
                    await trio.lowlevel.checkpoint()
        finally:
            self._epoll.close()

    def _read(self) -> int:
        """Read the sockets that are readable, up to a limit; return how many there were.

        What is still readable comes up again, behind those that have waited longer.
        """
        readable = self._epoll.poll(0, READ_MAX_SOCKETS)
        for fd, _ in readable:
            if (reader := self._readers.get(fd)) is not None:
                reader()
        return len(readable)

    def add(self, fd: int, reader: Callable[[], None]) -> None:
        """Call ``reader`` whenever ``fd`` is readable; it reads without waiting, never raises."""
        self._epoll.register(fd, select.EPOLLIN)
        self._readers[fd] = reader

    def remove(self, fd: int, reader: Callable[[], None]) -> None:
        """Leave ``fd`` alone, if ``reader`` is still what reads it; before ``fd`` is closed."""
        if self._readers.get(fd) is reader:
            del self._readers[fd]
            if not self._epoll.closed:
                self._epoll.unregister(fd)
