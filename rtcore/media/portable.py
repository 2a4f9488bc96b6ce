"""The media socket for any OS and any stream (TLS too), over trio-websocket.

The same contract as :mod:`rtcore.media.fast`, at three to five times its cost. What
trio-websocket cannot do, and so differs:

- a text is held against ``message_max_bytes`` in characters, not octets;
- :meth:`PortableSocket.receive` returns one message at a time;
- a pong overtakes the queued messages, but waits for the one being written: a peer that takes
  nothing at all gets no pong, and its frames are not read, until it is given up;
- closing without a code (1005) sends 1000.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import suppress
from typing import NoReturn

import trio
from trio_websocket import ConnectionClosed, WebSocketConnection
from wsproto import ConnectionType, WSConnection
from wsproto.connection import ConnectionState
from wsproto.events import CloseConnection, Event
from wsproto.utilities import LocalProtocolError as Misuse

from rtcore.errors import LocalProtocolError, RemoteProtocolError, RtcoreError, SocketClosed
from rtcore.media._frames import is_wire_code
from rtcore.media.handshake import Authorise, Upgrade, admit, drain
from rtcore.media.limits import SocketLimits
from rtcore.media.outbox import Outbox

__all__ = ["PortableSocket", "accept"]

# RFC 6455, section 7.4.1; the first two are never on the wire
NO_STATUS, LOST, TOO_BIG = 1005, 1006, 1009
QUEUE_MAX_MESSAGES = 8  # read ahead of `receive`: 160 ms of media; then TCP holds the peer back


async def accept(
    stream: trio.abc.Stream,
    authorise: Authorise,
    limits: SocketLimits,
    nursery: trio.Nursery,
) -> PortableSocket | None:
    """Make ``stream`` a WebSocket if its request is good and ``authorise`` lets it in.

    As :func:`rtcore.media.fast.accept`; ``nursery`` also holds a reader for the socket's life,
    which outlasts its cancellation by at most ``close_limit_s``, so that a close is answered.
    """
    upgrade = await admit(stream, authorise, limits)
    if upgrade is None:
        return None
    sock = PortableSocket(stream, upgrade, limits, nursery)
    try:
        with trio.fail_after(limits.handshake_limit_s):
            await sock.open()
    except (ConnectionClosed, trio.TooSlowError):
        await sock.abort()
        return None
    except BaseException:
        await sock.abort()
        raise
    return sock


class _Protocol(WSConnection):
    """wsproto's connection, noting what the peer did wrong: trio-websocket does not say."""

    def __init__(self) -> None:
        super().__init__(ConnectionType.SERVER)
        self.fault: CloseConnection | None = None

    def events(self) -> Generator[Event, None, None]:
        for event in super().events():
            # a close that has left the state open was made up by wsproto: the frame was bad
            if isinstance(event, CloseConnection) and self.state is ConnectionState.OPEN:
                self.fault = event
            yield event

    def send(self, event: Event) -> bytes:
        if isinstance(event, CloseConnection) and event.code == TOO_BIG:
            self.fault = event
        return super().send(event)


class _Wire(trio.abc.Stream):
    """The stream under trio-websocket, which ends some connections without a word: say it."""

    def __init__(self, stream: trio.abc.Stream, protocol: _Protocol, limits: SocketLimits) -> None:
        self._stream = stream
        self._protocol = protocol
        self._limits = limits
        self._is_closed = False

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        await self._stream.send_all(data)

    async def wait_send_all_might_not_block(self) -> None:
        await self._stream.wait_send_all_might_not_block()

    async def receive_some(self, max_bytes: int | None = None) -> bytes | bytearray:
        if self._protocol.fault is not None:
            return b""  # the library would go on reading what it must not understand
        return await self._stream.receive_some(max_bytes)

    async def aclose(self) -> None:
        """Close; after a fault, tell the peer so first."""
        if self._protocol.fault is not None:
            await self.say(self._protocol.fault)
        await trio.aclose_forcefully(self._stream)

    async def say(self, close: CloseConnection) -> None:
        """Send ``close`` unless one has been sent, and let it arrive, within the limit."""
        if self._is_closed:
            return
        self._is_closed = True
        with (
            trio.move_on_after(self._limits.close_limit_s),
            suppress(trio.BrokenResourceError, trio.ClosedResourceError),
        ):
            if self._protocol.state is ConnectionState.OPEN:
                await self._stream.send_all(self._protocol.send(close))
            await drain(self._stream)


class PortableSocket:
    """A :class:`rtcore.ports.MediaSocket` over trio-websocket; made by :func:`accept`."""

    def __init__(
        self,
        stream: trio.abc.Stream,
        upgrade: Upgrade,
        limits: SocketLimits,
        nursery: trio.Nursery,
    ) -> None:
        self.dropped_messages = 0
        self._limits = limits
        self._nursery = nursery
        self._protocol = _Protocol()
        # the request has been read and judged; the library is shown its bare bones
        self._protocol.initiate_upgrade_connection(
            [
                (b"Host", b"localhost"),
                (b"Upgrade", b"websocket"),
                (b"Connection", b"Upgrade"),
                (b"Sec-WebSocket-Key", upgrade.key),
                (b"Sec-WebSocket-Version", b"13"),
            ],
            upgrade.target,
        )
        self._wire = _Wire(stream, self._protocol, limits)
        self._connection = WebSocketConnection(
            self._wire,
            self._protocol,
            message_queue_size=QUEUE_MAX_MESSAGES,
            max_message_size=limits.message_max_bytes,
            receive_buffer_size=limits.receive_max_bytes,
        )
        self._reading = trio.CancelScope(shield=True)
        self._read_all = trio.Event()  # the reader has left
        self._outbox = Outbox(limits.outbox_max_bytes)
        self._is_writing = False
        self._written = trio.Event()  # the writer has left
        self._is_torn = False  # it left in the middle of a frame: nothing can follow that
        self._ending: SocketClosed | None = None
        self._is_closing = False
        self._closed = trio.Event()

    async def open(self) -> None:
        """Start the reader and answer the request; for :func:`accept` alone."""
        self._nursery.start_soon(self._read_on)
        # no public way takes a request already read: hence the pin below trio-websocket 0.13
        request = await self._connection._get_request()
        await request.accept()

    async def abort(self) -> None:
        """Free everything at once, without a word to the peer."""
        self._reading.cancel()
        await trio.aclose_forcefully(self._wire)

    # --- receiving ------------------------------------------------------------------------

    async def receive(self) -> list[bytes]:
        """See :meth:`rtcore.ports.MediaSocket.receive`; one message at a time."""
        try:
            message = await self._connection.get_message()
        except ConnectionClosed:
            raise self._over() from None
        return [message.encode() if isinstance(message, str) else message]

    def _over(self) -> RtcoreError:
        fault = self._protocol.fault
        if self._ending is None:
            closed = self._connection.closed
            if closed is None:
                self._ending = SocketClosed(LOST, "the reader is gone")
            else:
                self._ending = SocketClosed(int(closed.code), closed.reason or "")
            if fault is not None:
                return RemoteProtocolError(fault.reason or "", close_code=int(fault.code))
        return SocketClosed(self._ending.code, self._ending.reason)

    async def _read_on(self) -> None:
        """Read until closed; cancelled, read on just long enough to hear a close answered."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._read_shielded)
            try:
                await self._read_all.wait()
            finally:
                self._reading.deadline = trio.current_time() + self._limits.close_limit_s

    async def _read_shielded(self) -> None:
        try:
            with self._reading, suppress(Misuse):  # it answers pings even after its close
                await self._connection._reader_task()
        finally:
            self._read_all.set()

    # --- sending --------------------------------------------------------------------------

    async def deliver(self, handle: Callable[[list[bytes]], None]) -> NoReturn:
        """See :meth:`rtcore.ports.MediaSocket.deliver`."""
        while True:
            handle(await self.receive())

    def send(self, message: bytes, *, flush: bool = False) -> bool:
        """See :meth:`rtcore.ports.MediaSocket.send`; written by a task, the next turn."""
        if self._ending is not None or self._connection.closed is not None:
            return False
        if flush:
            self._outbox.flush()
            self._outbox.push(message)
        elif not self._outbox.offer(message):
            self.dropped_messages += 1
            return False
        if not self._is_writing:
            self._is_writing = True
            self._written = trio.Event()
            self._nursery.start_soon(self._write_on)
        return True

    async def _write_on(self) -> None:
        """Write until nothing is left; give the socket up if the peer takes nothing."""
        try:
            while self._outbox:
                message = self._outbox.next().decode()
                self._is_torn = True  # unless it is written whole
                with trio.move_on_after(self._limits.send_stall_s) as stall:
                    await self._connection.send_message(message)
                    self._is_torn = False
                if stall.cancelled_caught:
                    self._ending = self._ending or SocketClosed(LOST, "the peer takes nothing")
                    await self.abort()
        except (ConnectionClosed, Misuse):  # closed, or closing, under our hands
            self._is_torn = False
            self._outbox.flush()
        finally:
            self._is_writing = False
            self._written.set()

    # --- closing --------------------------------------------------------------------------

    async def aclose(self, code: int = 1000, reason: str = "") -> None:
        """As :meth:`rtcore.media.fast.FastSocket.aclose`, in the same bound."""
        if code != NO_STATUS and not is_wire_code(code):
            raise LocalProtocolError(f"close code {code} must not be sent")
        if self._is_closing:
            await self._closed.wait()
            return
        self._is_closing = True
        if self._ending is None and self._connection.closed is None:
            self._ending = SocketClosed(code, reason)
        try:
            with trio.move_on_after(self._limits.close_limit_s, shield=True):
                await self._say_goodbye(code, reason)
        finally:
            self._closed.set()
            await self.abort()

    async def _say_goodbye(self, code: int, reason: str) -> None:
        if self._is_writing:
            await self._written.wait()
        if self._is_torn:
            return
        if not self._read_all.is_set():
            await self._connection.aclose(code, reason)
            if self._protocol.fault is None:
                return
            await self._read_all.wait()  # it may be telling the peer
        # the reader has ended: nobody would hear an answer through it
        await self._wire.say(CloseConnection(code, reason))
