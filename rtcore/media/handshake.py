"""The opening handshake (RFC 6455, section 4), with HTTP parsed and written by h11.

Both fillings of the media socket refuse by this one module, so that a wrong request gets the
same status from either.
"""

from __future__ import annotations

import binascii
from base64 import b64decode, b64encode
from collections.abc import Awaitable, Callable, Iterable
from http import HTTPStatus
from os import urandom

import h11
import msgspec
import trio
from wsproto.utilities import generate_accept_token

from rtcore.errors import RemoteProtocolError
from rtcore.media.limits import SocketLimits

__all__ = [
    "Authorise",
    "Rejection",
    "Upgrade",
    "UpgradeRefused",
    "UpgradeRequest",
    "admit",
    "drain",
    "request_upgrade",
]

READ_MAX_BYTES = 4096  # a head is read in pieces of at most this


class UpgradeRequest(msgspec.Struct, frozen=True, kw_only=True):
    """A well-formed request to become a WebSocket, for the application to judge."""

    path: str
    query: str  # as sent, without the question mark
    headers: dict[str, str]  # names in lower case; repeated ones joined by ", "
    remote: str  # the peer's address; empty if the stream has none


class Rejection(msgspec.Struct, frozen=True, kw_only=True):
    """An HTTP answer that is not an upgrade."""

    status: int
    body: str = ""
    content_type: str = "text/plain; charset=utf-8"
    headers: tuple[tuple[str, str], ...] = ()


Authorise = Callable[[UpgradeRequest], Awaitable[Rejection | None]]


class UpgradeRefused(RemoteProtocolError):
    """The server answered our request for a WebSocket with an HTTP status."""

    def __init__(self, status: int) -> None:
        super().__init__(f"upgrade refused with {status}")
        self.status = status


class _Refused(Exception):
    """Inside this module: the request is to be answered so."""

    def __init__(self, status: int, body: str, *headers: tuple[str, str]) -> None:
        super().__init__(body)
        self.rejection = Rejection(status=status, body=body, headers=headers)


class Upgrade:
    """A request that was read and found good, not yet answered."""

    def __init__(self, http: h11.Connection, request: UpgradeRequest, target: str) -> None:
        self._http = http
        self.request = request
        self.target = target
        self.key = request.headers["sec-websocket-key"].encode()

    def response(self) -> bytes:
        """The 101 that makes the connection a WebSocket."""
        headers = [
            (b"Upgrade", b"websocket"),
            (b"Connection", b"Upgrade"),
            (b"Sec-WebSocket-Accept", generate_accept_token(self.key)),
        ]
        event = h11.InformationalResponse(status_code=101, headers=headers)
        return self._http.send(event) or b""


# --- the server's side ------------------------------------------------------------------


async def admit(
    stream: trio.abc.Stream, authorise: Authorise, limits: SocketLimits
) -> Upgrade | None:
    """Read the request at the head of ``stream`` and have it judged; None: refused.

    A refusal has been answered with its status and the stream is closed: 400 malformed,
    405 not GET, 408 the head took over ``handshake_limit_s``, 426 not a WebSocket request,
    431 head over ``head_max_bytes``, or what ``authorise`` says (whose time is its own to
    bound). A peer that vanishes is None too. Cancelled, or if ``authorise`` raises: the
    stream is closed.
    """
    http = h11.Connection(h11.SERVER, max_incomplete_event_size=limits.head_max_bytes)
    try:
        try:
            upgrade = await _read_upgrade(stream, http, limits)
            rejection = None if upgrade is None else await authorise(upgrade.request)
        except _Refused as exc:
            upgrade, rejection = None, exc.rejection
        if upgrade is not None and rejection is None:
            return upgrade
        if rejection is not None:
            await _answer(stream, http, rejection, limits)
    except BaseException:
        await trio.aclose_forcefully(stream)
        raise
    await trio.aclose_forcefully(stream)
    return None


async def _read_upgrade(
    stream: trio.abc.Stream, http: h11.Connection, limits: SocketLimits
) -> Upgrade | None:
    with trio.move_on_after(limits.handshake_limit_s):
        try:
            event = await _next_event(stream, http)
            if not isinstance(event, h11.Request):
                return None
            return _judge(http, event, _remote(stream))
        except trio.BrokenResourceError:
            return None
        except h11.RemoteProtocolError as exc:
            raise _Refused(exc.error_status_hint, str(exc)) from exc
    raise _Refused(408, "the request took too long")


async def _next_event(stream: trio.abc.Stream, http: h11.Connection) -> object:
    while (event := http.next_event()) is h11.NEED_DATA:
        http.receive_data(bytes(await stream.receive_some(READ_MAX_BYTES)))
    return event


def _judge(http: h11.Connection, event: h11.Request, remote: str) -> Upgrade:
    """Hold a request against RFC 6455, section 4.2.1."""
    headers: dict[str, str] = {}
    for name, value in event.headers:  # h11 gives names in lower case
        key, text = name.decode("ascii"), value.decode("latin-1")
        headers[key] = f"{headers[key]}, {text}" if key in headers else text
    if event.method != b"GET":
        raise _Refused(405, "", ("Allow", "GET"))  # no body: it may have been HEAD
    if (
        event.http_version < b"1.1"
        or "websocket" not in _tokens(headers.get("upgrade", ""))
        or "upgrade" not in _tokens(headers.get("connection", ""))
    ):
        raise _Refused(
            426, "this is a WebSocket", ("Upgrade", "websocket"), ("Connection", "Upgrade")
        )
    if headers.get("sec-websocket-version") != "13":
        raise _Refused(426, "WebSocket version 13 only", ("Sec-WebSocket-Version", "13"))
    if not _is_key(headers.get("sec-websocket-key", "")):
        raise _Refused(400, "Sec-WebSocket-Key is not 16 octets in base64")
    # a client must wait for the answer before it sends on, and a request for an upgrade has
    # no body: whatever follows the head is not ours to guess at
    if http.trailing_data[0] or not isinstance(http.next_event(), h11.EndOfMessage):
        raise _Refused(400, "data before the handshake was answered")
    target = event.target.decode("ascii")
    path, _, query = target.partition("?")
    return Upgrade(
        http, UpgradeRequest(path=path, query=query, headers=headers, remote=remote), target
    )


def _tokens(value: str) -> list[str]:
    return [token.strip().lower() for token in value.split(",")]


def _is_key(value: str) -> bool:
    try:
        return len(b64decode(value, validate=True)) == 16
    except (binascii.Error, ValueError):  # not base64; not even ASCII
        return False


async def _answer(
    stream: trio.abc.Stream, http: h11.Connection, rejection: Rejection, limits: SocketLimits
) -> None:
    """Write ``rejection`` and let it arrive; a peer that does not read it is not waited for."""
    body = rejection.body.encode()
    response = h11.Response(
        status_code=rejection.status,
        reason=_phrase(rejection.status),
        headers=[
            *rejection.headers,
            ("Content-Type", rejection.content_type),
            ("Content-Length", str(len(body))),
            ("Connection", "close"),
        ],
    )
    data = b"".join(
        http.send(event) or b"" for event in (response, h11.Data(data=body), h11.EndOfMessage())
    )
    with trio.move_on_after(limits.close_limit_s):
        try:
            await stream.send_all(data)
            await drain(stream)
        except trio.BrokenResourceError:
            return


def _phrase(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return ""


async def drain(stream: trio.abc.Stream) -> None:
    """Half-close, then read until the peer has closed: the caller bounds the wait.

    Closing with octets unread makes the kernel reset the connection, which can overtake and
    destroy the answer just written.
    """
    if isinstance(stream, trio.SocketStream):
        await stream.send_eof()
    while await stream.receive_some(READ_MAX_BYTES):
        pass


def _remote(stream: trio.abc.Stream) -> str:
    while isinstance(stream, trio.SSLStream):
        stream = stream.transport_stream
    if not isinstance(stream, trio.SocketStream):
        return ""
    try:
        return str(stream.socket.getpeername()[0])
    except OSError:  # gone already
        return ""


# --- the client's side ------------------------------------------------------------------


async def request_upgrade(
    stream: trio.abc.Stream,
    host: str,
    target: str,
    headers: Iterable[tuple[str, str]],
    limits: SocketLimits,
) -> bytes:
    """Ask the server at ``stream`` for a WebSocket; return what it has sent beyond its 101.

    Raises:
        UpgradeRefused: it answered with another status.
        RemoteProtocolError: it did not speak HTTP, or not in ``handshake_limit_s``.

    The stream stays the caller's to close.
    """
    http = h11.Connection(h11.CLIENT, max_incomplete_event_size=limits.head_max_bytes)
    key = b64encode(urandom(16)).decode()
    request = h11.Request(
        method="GET",
        target=target,
        headers=[
            ("Host", host),
            ("Upgrade", "websocket"),
            ("Connection", "Upgrade"),
            ("Sec-WebSocket-Key", key),
            ("Sec-WebSocket-Version", "13"),
            *headers,
        ],
    )
    with trio.move_on_after(limits.handshake_limit_s):
        try:
            await stream.send_all(http.send(request) or b"")
            http.send(h11.EndOfMessage())
            event = await _next_event(stream, http)
        except trio.BrokenResourceError as exc:
            raise RemoteProtocolError("connection lost in the handshake") from exc
        except h11.RemoteProtocolError as exc:
            raise RemoteProtocolError(f"not a WebSocket server: {exc}") from exc
        if not isinstance(event, h11.InformationalResponse | h11.Response):
            raise RemoteProtocolError("connection closed in the handshake")
        if event.status_code != 101:
            raise UpgradeRefused(event.status_code)
        if dict(event.headers).get(b"sec-websocket-accept") != generate_accept_token(key.encode()):
            raise RemoteProtocolError("Sec-WebSocket-Accept does not answer our key")
        return http.trailing_data[0]
    raise RemoteProtocolError("the handshake took too long")
