"""The media socket for Linux: our frame codec over a non-blocking socket.

One wake-up reads and hands up all that has come; a send goes straight to the kernel. No task
runs for a socket, but for the one that writes what a slow peer left over, while it lasts. With
a :class:`rtcore.media._beats.Pump` the media clock reads for all sockets.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import NoReturn

import trio

from rtcore.errors import RemoteProtocolError, RtcoreError, SocketClosed
from rtcore.media._beats import Pump
from rtcore.media._frames import TEXT, FrameCodec
from rtcore.media._wire import Wire
from rtcore.media.handshake import Authorise, admit, request_upgrade
from rtcore.media.limits import SocketLimits
from rtcore.media.outbox import Outbox

__all__ = ["FastSocket", "accept", "connect"]

LOST = 1006  # RFC 6455, section 7.4.1: never on the wire


async def accept(
    stream: trio.SocketStream,
    authorise: Authorise,
    limits: SocketLimits,
    nursery: trio.Nursery,
    pump: Pump | None = None,
) -> FastSocket | None:
    """Make ``stream`` a WebSocket if its request is good and ``authorise`` lets it in.

    None: it was refused, told so (see :func:`rtcore.media.handshake.admit`), and closed.
    ``stream`` is used up either way. ``nursery`` holds the writer a slow peer needs and must
    outlive the socket; the socket is the caller's to close. ``pump``, run by its owner, reads
    for :meth:`FastSocket.deliver`. Cancelled: the stream is closed.
    """
    upgrade = await admit(stream, authorise, limits)
    if upgrade is None:
        return None
    try:
        with trio.fail_after(limits.handshake_limit_s):
            await stream.send_all(upgrade.response())
    except (trio.BrokenResourceError, trio.TooSlowError):
        await trio.aclose_forcefully(stream)
        return None
    except BaseException:
        await trio.aclose_forcefully(stream)
        raise
    return FastSocket(_take(stream), limits, nursery, is_client=False, pump=pump)


async def connect(
    host: str,
    port: int,
    path: str,
    limits: SocketLimits,
    nursery: trio.Nursery,
    headers: Iterable[tuple[str, str]] = (),
) -> FastSocket:
    """Open a WebSocket to ``ws://host:port/path``.

    Raises:
        OSError: no connection; ``trio.TooSlowError`` if not in ``handshake_limit_s``.
        UpgradeRefused: the server answered with another status.
        RemoteProtocolError: it is no WebSocket server.

    ``nursery`` as for :func:`accept`. Cancelled: nothing stays open.
    """
    with trio.fail_after(limits.handshake_limit_s):
        stream = await trio.open_tcp_stream(host, port)
    try:
        early = await request_upgrade(stream, f"{host}:{port}", path, headers, limits)
    except BaseException:
        await trio.aclose_forcefully(stream)
        raise
    return FastSocket(_take(stream), limits, nursery, is_client=True, early=early)


def _take(stream: trio.SocketStream) -> socket.socket:
    """The plain socket under ``stream``, which is left without one: closing it does nothing."""
    sock = socket.socket(fileno=stream.socket.detach())
    sock.setblocking(False)
    return sock


class FastSocket:
    """A :class:`rtcore.ports.MediaSocket` over a connected, upgraded TCP socket.

    One task receives; any may send or close. ``early`` is what the peer had sent behind the
    handshake.
    """

    def __init__(
        self,
        sock: socket.socket,
        limits: SocketLimits,
        nursery: trio.Nursery,
        *,
        is_client: bool,
        early: bytes = b"",
        pump: Pump | None = None,
    ) -> None:
        self.dropped_messages = 0
        self._sock = sock
        self._limits = limits
        self._nursery = nursery
        self._pump = pump
        self._roused = trio.Event()  # what is delivered has come to an end
        self._codec = FrameCodec(is_client=is_client, max_message_bytes=limits.message_max_bytes)
        octets = limits.receive_max_bytes
        buffer = bytearray(octets) if pump is None else pump.buffer(octets)
        # public: a message that may go at once can be written here, past `send`
        self.wire = Wire(sock.fileno(), self._codec, buffer, octets, self._write_later)
        self._outbox = Outbox(limits.outbox_max_bytes)  # nothing, but behind a frame half written
        self._is_writing = False  # by a task of the nursery
        self._ending: SocketClosed | None = None  # nothing is received or sent from then on
        self._fault: RemoteProtocolError | None = None  # told once, before `_ending`
        self._is_closing = False
        self._closed = trio.Event()
        with suppress(OSError):  # not a TCP socket
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, limits.unsent_max_bytes)
        self._early = self._codec.feed(early)
        self._look()

    # --- receiving ------------------------------------------------------------------------

    async def receive(self) -> list[bytes]:
        """See :meth:`rtcore.ports.MediaSocket.receive`; one wake-up, one read, no other task.

        At most ``receive_max_bytes`` are read in one turn of the scheduler, so a peer that
        floods gets its turns and no more.
        """
        if self._early:
            await trio.lowlevel.checkpoint()
            early, self._early = self._early, []
            return early
        while self._ending is None:
            # waiting first, though there may be something: a read that finds nothing costs
            # more than the wait when messages come one by one, as live media does
            try:
                await trio.lowlevel.wait_readable(self._sock)
            except trio.ClosedResourceError:
                continue  # given up or closed while we waited: `_ending` says which
            if messages := self._read():
                return messages
        await trio.lowlevel.checkpoint()
        raise self._over(self._ending)

    async def deliver(self, handle: Callable[[list[bytes]], None]) -> NoReturn:
        """See :meth:`rtcore.ports.MediaSocket.deliver`; read by the pump, if there is one."""
        if self._pump is None:
            while True:
                handle(await self.receive())
        fault: BaseException | None = None

        def fail(exc: BaseException) -> None:
            nonlocal fault
            fault = exc
            self._roused.set()

        early, self._early = self._early, []
        if early:
            handle(early)
        if self._ending is None:
            self.wire.attend(handle, self._look, fail, self._pump)
            try:
                await self._roused.wait()
            finally:
                self.wire.leave()
        if fault is not None:
            try:
                raise fault
            finally:
                fault = None  # or the error and this frame hold one another, and all they know
        await trio.lowlevel.checkpoint()
        assert self._ending is not None
        raise self._over(self._ending)

    def _over(self, ending: SocketClosed) -> RtcoreError:
        fault, self._fault = self._fault, None
        return fault or SocketClosed(ending.code, ending.reason)

    def _read(self) -> list[bytes]:
        messages = self.wire.receive()
        self._look()
        return messages

    def _look(self) -> None:
        """See to a connection that is lost, and to what a ping or a close asks for."""
        if self.wire.lost is not None:
            self._lose(self.wire.lost)
            return
        codec = self._codec
        if not codec.is_stirred:
            return
        if codec.close_code and self._ending is None:  # from now on nobody listens any more
            self._ending = SocketClosed(codec.close_code, codec.close_reason)
            if codec.is_fault:
                self._fault = RemoteProtocolError(codec.close_reason, close_code=codec.close_code)
            self._outbox.flush()
            self.wire.leave()
            self._roused.set()
        if replies := codec.take_replies():
            for frame in replies:
                self._outbox.push_control(frame)
            self._write()

    def _lose(self, reason: str) -> None:
        """The connection is gone: nothing more goes either way."""
        if self._ending is None:
            self._ending = SocketClosed(LOST, reason)
        self._outbox = Outbox(0)
        self.wire.lose(reason)
        self._roused.set()

    # --- sending --------------------------------------------------------------------------

    def send(self, message: bytes, *, flush: bool = False) -> bool:
        """See :meth:`rtcore.ports.MediaSocket.send`; to the kernel at once if it will take it."""
        if self._ending is not None or self._is_closing:
            return False
        if self.wire.send_text(message):
            return self._ending is None
        frame = self._codec.encode(TEXT, message)
        if flush:
            self._outbox.flush()
            self._outbox.push(frame)
        elif not self._outbox.offer(frame):
            self.dropped_messages += 1
            return False
        return True

    def _write(self) -> None:
        """Hand the kernel what it will take; have the rest written when it will take more."""
        is_clear = self.wire.write_on()
        while is_clear and self._outbox:
            is_clear = self.wire.write(self._outbox.next())
        if not is_clear:
            self._write_later()

    @property
    def _has_unwritten(self) -> bool:
        return self.wire.has_begun or bool(self._outbox)

    def _write_later(self) -> None:
        """The kernel took not all of it: it will take more, or the connection is lost."""
        if self.wire.lost is not None:
            self._lose(self.wire.lost)
        elif not self._is_writing and not self._is_closing:
            self._is_writing = True
            self._nursery.start_soon(self._write_on)

    async def _write_on(self) -> None:
        """Write until nothing is left; give the socket up if the peer takes nothing at all."""
        try:
            while not self._is_closing and self._has_unwritten:
                with trio.move_on_after(self._limits.send_stall_s) as stall:
                    await trio.lowlevel.wait_writable(self._sock)
                if stall.cancelled_caught:
                    self._lose("the peer takes nothing")
                    trio.lowlevel.notify_closing(self._sock)  # wakes the receiver
                    return
                self._write()
        except trio.ClosedResourceError:
            return  # closing: `aclose` writes what is left
        finally:
            self._is_writing = False

    # --- closing --------------------------------------------------------------------------

    async def aclose(self, code: int = 1000, reason: str = "") -> None:
        """Write what is queued, say goodbye, wait for the peer's, free the socket.

        Takes at most ``close_limit_s`` in all, also when cancelled, since a connection that
        vanishes leaves the peer guessing. Closing again waits for the first to be done.

        Raises:
            LocalProtocolError: ``code`` must not be sent (RFC 6455, section 7.4).
        """
        if self._is_closing:
            await self._closed.wait()
            return
        if not self._codec.close_sent:
            self._outbox.push(self._codec.encode_close(code, reason))
        self._is_closing = True
        if self._ending is None:
            self._ending = SocketClosed(code, reason)
        self._roused.set()
        self.wire.leave()  # before the socket is closed: its number may then be another's
        try:
            with trio.move_on_after(self._limits.close_limit_s, shield=True):
                await self._say_goodbye()
        finally:
            trio.lowlevel.notify_closing(self._sock)
            self.wire.lose("closed")
            self._sock.close()
            self._closed.set()
        await trio.lowlevel.checkpoint()

    async def _say_goodbye(self) -> None:
        """Write all that is left and read until the peer has closed too, or is lost."""
        # whoever waits for this socket, a receiver or the writer, leaves it to us
        trio.lowlevel.notify_closing(self._sock)
        if self._ending is not None and self._ending.code == LOST:
            return
        self._write()
        while self._has_unwritten:
            await trio.lowlevel.wait_writable(self._sock)
            self._write()
        with suppress(OSError):
            if self._codec.is_fault:
                # what else it sends cannot be read as frames: it sees our close, then the end.
                # Closing with octets unread would reset the connection under that close
                self._sock.shutdown(socket.SHUT_WR)
            while self._codec.is_fault or not self._codec.close_code:
                await trio.lowlevel.wait_readable(self._sock)
                self.wire.receive()
                if self.wire.lost is not None:
                    return
