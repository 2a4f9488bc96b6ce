"""One task that reads all fast sockets of a process.

A task per socket pays for each message with a wake-up of its own: arming epoll, rescheduling,
a switch. Here the sockets are registered once with one epoll, and each look reads whatever
has become readable, in turn, in one task.

A few sockets are read the moment something comes. Many would wake us for every message: they
are looked at when the media clock beats (:class:`rtcore.media.pacer.Pacer`).
"""

from __future__ import annotations

import select
from collections.abc import Callable

import trio

__all__ = ["Pump"]

READ_MAX_SOCKETS = 16  # before the other tasks get their turn: some 0.3 ms of work. An answer
# passes from task to task half a dozen times, and behind 64 sockets it waited 1 ms each time
FEW_SOCKETS = 4  # up to here a wake-up for each message costs less than looking would


class Pump:
    """Calls back for each readable socket, while a :class:`~rtcore.media.pacer.Pacer` runs it."""

    def __init__(self) -> None:
        self._epoll = select.epoll()
        self._readers: dict[int, Callable[[], None]] = {}
        self._changed = trio.Event()
        self._buffer = bytearray()
        self.on_many: Callable[[], None] | None = None  # called when looks become necessary

    @property
    def sockets(self) -> int:
        return len(self._readers)

    @property
    def is_many(self) -> bool:
        """Whether :meth:`look` must be called; else :meth:`run` reads by itself."""
        return len(self._readers) > FEW_SOCKETS

    def buffer(self, octets: int) -> bytearray:
        """What all its sockets read into, one after the other: warm, and a page less for each.

        Whoever reads into it takes what it wants before anybody else reads.
        """
        if len(self._buffer) < octets:
            self._buffer = bytearray(octets)
        return self._buffer

    async def run(self) -> None:
        """Read as long as there are few; until cancelled. The sockets are left as they are."""
        try:
            while True:
                if self.is_many:
                    self._changed = trio.Event()
                    await self._changed.wait()
                else:  # an epoll is itself something epoll can wait for
                    await trio.lowlevel.wait_readable(self._epoll.fileno())
                    if not self.is_many:
                        await self.look()
        finally:
            self._epoll.close()

    async def look(self) -> None:
        """Read whatever is readable now; the other tasks get their turns in between."""
        while self._read() == READ_MAX_SOCKETS:
            await trio.lowlevel.checkpoint()

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
        if self.is_many and self.on_many is not None:
            self.on_many()

    def remove(self, fd: int, reader: Callable[[], None]) -> None:
        """Leave ``fd`` alone, if ``reader`` is still what reads it; before ``fd`` is closed."""
        if self._readers.get(fd) is reader:
            del self._readers[fd]
            if not self._epoll.closed:
                self._epoll.unregister(fd)
            if not self.is_many:
                self._changed.set()
