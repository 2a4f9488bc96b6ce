"""WebSocket connections to the services: no task of their own, every wait with a deadline."""

from __future__ import annotations

import contextlib
import math
from collections import deque
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from urllib.parse import urlencode, urlsplit

import trio
from wsproto import ConnectionType, WSConnection
from wsproto.events import (
    AcceptConnection,
    BytesMessage,
    CloseConnection,
    Event,
    Ping,
    RejectConnection,
    RejectData,
    Request,
    TextMessage,
)
from wsproto.utilities import LocalProtocolError, RemoteProtocolError

from rtcore.errors import ProviderError
from rtcore.providers._addresses import reach_public
from rtcore.providers._faults import refused, timed_out
from rtcore.providers._http import tls_context
from rtcore.providers._settings import Deadlines, Secret

__all__ = ["SocketPool", "WebSocket", "connect", "ws_url"]

MESSAGE_MAX_BYTES = 4 << 20  # 30 s of speech at 44.1 kHz in base64
READ_BYTES = 1 << 16
IDLE_CHECK_S = 0.001  # for what lies there already; a TLS ticket alone would wait for more
TLS_PORT = 443
PORTS = {"wss": TLS_PORT, "https": TLS_PORT, "ws": 80, "http": 80}  # many write a service's own
CLEAN_CODES = frozenset({1000, 1001, 1005})  # 1005: closed without a status, as Flux does
FINAL_CODES = frozenset({1003, 1007, 1008, 4001, 4002, 4003})  # asking again will not help


def ws_url(base: str, path: str, query: Mapping[str, object]) -> str:
    """``base`` + ``path`` with ``query``: lists repeat a name, ``None`` and ``()`` leave it out."""
    pairs: list[tuple[str, str]] = []
    for name, value in query.items():
        for each in value if isinstance(value, tuple) else (value,):
            if each is not None:
                pairs.append((name, str(each).lower() if isinstance(each, bool) else str(each)))
    return f"{base}{path}?{urlencode(pairs)}"


async def connect(
    provider: str,
    url: str,
    *,
    headers: Mapping[str, str],
    deadlines: Deadlines,
    secret: Secret | None = None,
) -> WebSocket:
    """Open a WebSocket: name, TCP, TLS and upgrade within ``connect_s``.

    Raises:
        ProviderError: it cannot be had; a refusal's status decides whether it is retryable.

    Cancelled: nothing is left open.
    """
    parts = urlsplit(url)
    if parts.scheme not in PORTS:  # never in the clear for want of a letter
        message = f"an address begins with one of {', '.join(PORTS)}, not {parts.scheme!r}"
        raise ProviderError(provider, message, retryable=False)
    port = parts.port or PORTS[parts.scheme]
    host = parts.hostname or ""
    target = f"{parts.path or '/'}{'?' if parts.query else ''}{parts.query}"
    upgrade = Request(
        host=parts.netloc,
        target=target,
        extra_headers=[(name.encode(), value.encode()) for name, value in headers.items()],
    )
    try:
        with trio.fail_after(deadlines.connect_s):
            stream: trio.abc.Stream
            if deadlines.public_only:
                stream = await reach_public(host, port, partial(trio.open_tcp_stream, port=port))
            else:
                stream = await trio.open_tcp_stream(host, port)
            try:
                if PORTS[parts.scheme] == TLS_PORT:
                    stream = trio.SSLStream(
                        stream, tls_context(), server_hostname=host, https_compatible=True
                    )
                    await stream.do_handshake()
                socket = WebSocket(provider, stream, deadlines)
                await socket._upgrade(upgrade, secret)
            except BaseException:
                await trio.aclose_forcefully(stream)
                raise
    except trio.TooSlowError as exc:
        raise timed_out(provider, "connecting", deadlines.connect_s) from exc
    except (OSError, trio.BrokenResourceError) as exc:
        raise ProviderError(provider, f"cannot connect: {exc}", retryable=True) from exc
    return socket


class WebSocket:
    """One open connection. One task may send and another receive; nothing runs behind them.

    Pings are answered by whoever receives: a connection that nobody reads for longer than the
    service's ping timeout is lost.
    """

    def __init__(self, provider: str, stream: trio.abc.Stream, deadlines: Deadlines) -> None:
        self.provider = provider
        self.deadlines = deadlines
        self._stream = stream
        self._protocol = WSConnection(ConnectionType.CLIENT)
        self._sending = trio.Lock()
        self._messages: deque[str | bytes] = deque()
        self._parts: list[str | bytes] = []
        self._parts_bytes = 0
        self._close_code: int | None = None
        self._close_reason = ""
        self.heard_s = trio.current_time()  # when anything came last, pongs too
        self._is_torn = False  # a frame was cut by a cancel: nothing can follow it
        self.stale_clears = 0  # kept for the voices: replies cancelled, not yet known to be over

    @property
    def is_open(self) -> bool:
        return self._close_code is None and not self._is_torn

    async def send(self, message: str | bytes) -> None:
        """Send one message, text or binary, in order.

        Raises:
            ProviderError: the connection is over, or takes nothing for ``stall_s``.
        """
        event = TextMessage(message) if isinstance(message, str) else BytesMessage(message)
        await self._write(event)

    async def ping(self) -> None:
        """Ask for a sign of life; it shows in :attr:`heard_s`. Raises as :meth:`send`."""
        await self._write(Ping())

    async def receive(self, limit_s: float = math.inf) -> str | bytes | None:
        """The next message; ``None`` once the service has closed cleanly.

        Raises:
            ProviderError: nothing came for ``limit_s``, the connection broke, or the service
                closed it with an error.

        Cancelled: nothing is lost.
        """
        with trio.move_on_after(limit_s):
            while not self._messages:
                if self._close_code is not None:
                    self._raise_unless_clean()
                    return None
                await self._read()
            return self._messages.popleft()
        raise timed_out(self.provider, "the next message", limit_s)

    async def is_alive(self) -> bool:
        """Whether an idle connection can still be used; reads what has come meanwhile."""
        socket = _transport_of(self._stream).socket
        with trio.move_on_after(IDLE_CHECK_S), contextlib.suppress(ProviderError):
            while self.is_open and socket.is_readable():
                await self._read()
        return self.is_open

    async def aclose(self, code: int = 1000) -> None:
        """Close with ``code`` within ``close_s``, whatever the service does."""
        with trio.move_on_after(self.deadlines.close_s, shield=True):
            if self.is_open:
                with contextlib.suppress(ProviderError):
                    await self._write(CloseConnection(code))
                    while self._close_code is None:  # unread data would turn our close into a reset
                        await self._read()
                        self._messages.clear()
        self._close_code = self._close_code or code
        await trio.aclose_forcefully(self._stream)

    def _raise_unless_clean(self) -> None:
        if self._close_code not in CLEAN_CODES:
            reason = f"closed with {self._close_code} {self._close_reason}".rstrip()
            retryable = self._close_code not in FINAL_CODES
            raise ProviderError(self.provider, reason, retryable=retryable)

    async def _upgrade(self, request: Request, secret: Secret | None) -> None:
        """The opening handshake; under the deadline of :func:`connect`."""
        await self._stream.send_all(self._protocol.send(request))
        rejection, body = RejectConnection(status_code=0), b""
        while True:
            octets = await self._stream.receive_some(READ_BYTES)
            try:
                self._protocol.receive_data(bytes(octets) or None)
                events = list(self._protocol.events())
            except RemoteProtocolError as exc:
                raise ProviderError(self.provider, f"no WebSocket: {exc}", retryable=True) from exc
            for position, event in enumerate(events):
                if isinstance(event, AcceptConnection):
                    for early in events[position + 1 :]:
                        await self._take(early)
                    return
                if isinstance(event, RejectConnection):
                    rejection = event
                elif isinstance(event, RejectData):
                    body += event.data
            last = events[-1] if events else None
            if not octets or (isinstance(last, RejectData) and last.body_finished):
                break
            if isinstance(last, RejectConnection) and not last.has_body:
                break
        if not rejection.status_code:
            raise ProviderError(self.provider, "closed during the upgrade", retryable=True)
        headers = {k.decode().lower(): v.decode() for k, v in rejection.headers}
        raise refused(self.provider, rejection.status_code, headers, body, secret)

    async def _write(self, event: Event) -> None:
        async with self._sending:
            if not self.is_open:
                self._raise_unless_clean()
                raise ProviderError(self.provider, "the connection is over", retryable=True)
            await self._transmit(event)

    async def _transmit(self, event: Event) -> None:
        try:
            octets = self._protocol.send(event)
            with trio.move_on_after(self.deadlines.stall_s):
                await self._stream.send_all(octets)
                return
        except LocalProtocolError as exc:
            raise ProviderError(self.provider, "the connection is over", retryable=True) from exc
        except (trio.BrokenResourceError, trio.ClosedResourceError) as exc:
            raise ProviderError(self.provider, "connection lost", retryable=True) from exc
        except trio.Cancelled:
            self._is_torn = True
            raise
        self._is_torn = True
        raise timed_out(self.provider, "sending", self.deadlines.stall_s)

    async def _read(self) -> None:
        """Wait for octets, take what they mean."""
        try:
            octets = await self._stream.receive_some(READ_BYTES)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            octets = b""
        if not octets:
            self._closed_by_service(1006, "connection lost")
            return
        self.heard_s = trio.current_time()
        try:
            self._protocol.receive_data(bytes(octets))
            for event in self._protocol.events():
                await self._take(event)
        except RemoteProtocolError as exc:
            self._closed_by_service(1002, str(exc))

    async def _take(self, event: Event) -> None:
        if isinstance(event, TextMessage | BytesMessage):
            self._take_data(event)
        elif isinstance(event, Ping):
            await self._write(event.response())
        elif isinstance(event, CloseConnection):
            self._closed_by_service(event.code, event.reason or "")
            async with self._sending:
                with contextlib.suppress(ProviderError):
                    await self._transmit(event.response())

    def _take_data(self, event: TextMessage | BytesMessage) -> None:
        self._parts_bytes += len(event.data)
        if self._parts_bytes > MESSAGE_MAX_BYTES:
            self._closed_by_service(1009, f"a message longer than {MESSAGE_MAX_BYTES} octets")
            return
        self._parts.append(event.data if isinstance(event, TextMessage) else bytes(event.data))
        if event.message_finished:
            self._messages.append(_joined(self._parts))
            self._parts, self._parts_bytes = [], 0

    def _closed_by_service(self, code: int, reason: str) -> None:
        if self._close_code is None:
            self._close_code, self._close_reason = code, reason


def _joined(parts: list[str | bytes]) -> str | bytes:
    if len(parts) == 1:
        return parts[0]
    texts = [part for part in parts if isinstance(part, str)]
    return "".join(texts) if texts else b"".join(part for part in parts if isinstance(part, bytes))


def _transport_of(stream: trio.abc.Stream) -> trio.SocketStream:
    if isinstance(stream, trio.SSLStream):
        stream = stream.transport_stream
    assert isinstance(stream, trio.SocketStream)
    return stream


class SocketPool:
    """Idle connections of one service, the freshest taken first.

    Holds at most ``idle_max`` of them for at most ``idle_limit_s`` (less than the service
    does); needs no task, so connections that expire are closed by the next call here.
    """

    def __init__(
        self, open_one: Callable[[], Awaitable[WebSocket]], *, idle_max: int, idle_limit_s: float
    ) -> None:
        self._open_one = open_one
        self._idle_max = idle_max
        self._idle_limit_s = idle_limit_s
        self._idle: deque[tuple[WebSocket, float]] = deque()  # oldest first
        self._is_closed = False

    async def take(self) -> WebSocket:
        """A connection for one user alone: warm if there is one. Raises as :func:`connect`."""
        return (await self._take())[0]

    async def give(self, socket: WebSocket) -> None:
        """Take a connection back, or close it if it is over or one too many."""
        await self._give(socket, trio.current_time())

    async def warm(self) -> None:
        """Have a connection ready. Raises as :func:`connect`."""
        await self._give(*await self._take())

    async def aclose(self) -> None:
        """Close all that idle, and all that are given back from now on."""
        self._is_closed = True
        while self._idle:
            await self._idle.pop()[0].aclose()

    async def _take(self) -> tuple[WebSocket, float]:
        await self._drop_expired()
        while self._idle:
            socket, used_at = self._idle.pop()
            if await socket.is_alive():
                return socket, used_at
            await socket.aclose()
        return await self._open_one(), trio.current_time()

    async def _give(self, socket: WebSocket, used_at: float) -> None:
        if socket.is_open and not self._is_closed and len(self._idle) < self._idle_max:
            self._idle.append((socket, used_at))
        else:
            await socket.aclose()

    async def _drop_expired(self) -> None:
        oldest_at = trio.current_time() - self._idle_limit_s
        while self._idle and self._idle[0][1] < oldest_at:
            await self._idle.popleft()[0].aclose()
