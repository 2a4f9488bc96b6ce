"""One task that reads all fast sockets of a process.

A task per socket pays for each message with a wake-up of its own: arming epoll, rescheduling,
a switch. Here the sockets are registered once with one epoll, Trio watches that (an epoll is
itself pollable), and each wake-up reads whatever has become readable, in turn, in one task.
"""

from __future__ import annotations

import select
from collections.abc import Callable

import trio

__all__ = ["Pump"]

READ_MAX_SOCKETS = 64  # before the other tasks get their turn: some 1 ms of work


class Pump:
    """Calls back for each readable socket, for as long as :meth:`run` runs."""

    def __init__(self) -> None:
        self._epoll = select.epoll()
        self._readers: dict[int, Callable[[], None]] = {}

    async def run(self) -> None:
        """Serve until cancelled; the sockets are left as they are."""
        try:
            while True:
                await trio.lowlevel.wait_readable(self._epoll.fileno())
                # what is still readable comes up again, behind those that have waited longer
                for fd, _ in self._epoll.poll(0, READ_MAX_SOCKETS):
                    if (reader := self._readers.get(fd)) is not None:
                        reader()
        finally:
            self._epoll.close()

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
