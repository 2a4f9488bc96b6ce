"""A media connection in memory: both ends, on any Trio clock, with a real one's manners."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import NoReturn

import trio

from rtcore.errors import RemoteProtocolError, SocketClosed

__all__ = ["MemorySocket", "memory_sockets"]

WIRE_MAX_BYTES = 256 * 1024  # what the kernels of both ends hold: Linux's usual loopback buffers
BACKLOG_MAX_BYTES = 64 * 1024  # what a sender keeps beside that: 6 s of mu-law as JSON
MESSAGE_MAX_BYTES = 64 * 1024  # the carrier's own limit for a message
ABNORMAL = 1006  # RFC 6455, 7.4.1: lost without a close


class MemorySocket:
    """One end of :func:`memory_sockets`; fills :class:`rtcore.ports.MediaSocket`.

    A message sent goes to the peer's inbox (the wire) while that has room, then to this end's
    backlog, then is refused. Order is kept; nothing takes time.
    """

    def __init__(self, wire_max_bytes: int, backlog_max_bytes: int) -> None:
        self._wire_max_bytes = wire_max_bytes
        self._backlog_max_bytes = backlog_max_bytes
        self._peer = self
        self._inbox: deque[bytes] = deque()
        self._inbox_bytes = 0
        self._backlog: deque[bytes] = deque()
        self._backlog_bytes = 0
        self._closed: tuple[int, str] | None = None  # code, reason
        self._reader = trio.lowlevel.ParkingLot()
        self._dropped_messages = 0

    @property
    def dropped_messages(self) -> int:
        return self._dropped_messages

    @property
    def is_open(self) -> bool:
        """Whether neither end has closed; what had arrived before can still be received."""
        return self._closed is None

    async def receive(self) -> list[bytes]:
        await trio.lowlevel.checkpoint()
        while not self._inbox and self._closed is None:
            await self._reader.park()
        if not self._inbox:
            assert self._closed is not None
            raise SocketClosed(*self._closed)
        messages = list(self._inbox)
        self._inbox.clear()
        self._inbox_bytes = 0
        self._peer._write_backlog()
        for message in messages:
            if len(message) > MESSAGE_MAX_BYTES:
                self._close(1009, "message too big")
                raise RemoteProtocolError(
                    f"message of {len(message)} bytes, at most {MESSAGE_MAX_BYTES}",
                    close_code=1009,
                )
        return messages

    async def deliver(self, handle: Callable[[list[bytes]], None]) -> NoReturn:
        """See :meth:`rtcore.ports.MediaSocket.deliver`."""
        while True:
            handle(await self.receive())

    def send(self, message: bytes, *, flush: bool = False) -> bool:
        if self._closed is not None:
            return False
        if flush:
            self._backlog.clear()
            self._backlog_bytes = 0
        elif self._backlog and self._backlog_bytes + len(message) > self._backlog_max_bytes:
            self._dropped_messages += 1
            return False
        self._backlog.append(message)
        self._backlog_bytes += len(message)
        self._write_backlog()
        return True

    async def aclose(self, code: int = 1000, reason: str = "") -> None:
        self._close(code, reason)
        await trio.lowlevel.checkpoint()

    def vanish(self) -> None:
        """Lose the connection without a close: both ends see 1006, what was on the way is lost."""
        self._peer._inbox.clear()
        self._close(ABNORMAL, "connection lost")

    def _close(self, code: int, reason: str) -> None:
        if self._closed is not None:
            return
        self._inbox.clear()  # who closes does not read on; the peer still gets what was sent
        for end in (self, self._peer):
            end._closed = (code, reason)
            end._backlog.clear()
            end._reader.unpark_all()

    def _write_backlog(self) -> None:
        peer = self._peer
        while self._backlog:
            size = len(self._backlog[0])
            if peer._inbox and peer._inbox_bytes + size > self._wire_max_bytes:
                return
            peer._inbox.append(self._backlog.popleft())
            peer._inbox_bytes += size
            self._backlog_bytes -= size
            peer._reader.unpark()


def memory_sockets(
    *, wire_max_bytes: int = WIRE_MAX_BYTES, backlog_max_bytes: int = BACKLOG_MAX_BYTES
) -> tuple[MemorySocket, MemorySocket]:
    """Two connected ends; which is the carrier's and which the node's makes no difference.

    Args:
        wire_max_bytes: taken on behalf of a peer that does not read, as kernels do.
        backlog_max_bytes: kept by the sender past that; then :meth:`MemorySocket.send` refuses.
    """
    left = MemorySocket(wire_max_bytes, backlog_max_bytes)
    right = MemorySocket(wire_max_bytes, backlog_max_bytes)
    left._peer, right._peer = right, left
    return left, right
