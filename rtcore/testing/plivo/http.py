"""HTTP/1.1 for a service in a test: one handler, keep-alive, nothing else."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from urllib.parse import parse_qsl

import h11
import msgspec
import trio

__all__ = ["Handler", "Request", "Response", "serve_http"]

READ_MAX_BYTES = 65_536
BODY_MAX_BYTES = 1 << 20
REQUEST_LIMIT_S = 30.0


class Request(msgspec.Struct, frozen=True, kw_only=True):
    """A request, read whole."""

    method: str
    path: str
    query: str
    headers: dict[str, str]  # names in lower case
    body: bytes

    @property
    def fields(self) -> dict[str, str]:
        """The parameters of a GET or DELETE."""
        return dict(parse_qsl(self.query, keep_blank_values=True))


class Response(msgspec.Struct, frozen=True, kw_only=True):
    """An answer, written whole."""

    status: int = 200
    body: bytes = b""
    content_type: str = "application/json"


Handler = Callable[[Request], Awaitable[Response]]


async def serve_http(handler: Handler, stream: trio.SocketStream) -> None:
    """Answer requests on one connection until the client closes it."""
    http = h11.Connection(h11.SERVER)
    async with stream:
        try:
            while (request := await _read(http, stream)) is not None:
                await _write(http, stream, await handler(request))
                if http.our_state is not h11.DONE or http.their_state is not h11.DONE:
                    return
                http.start_next_cycle()
        except (h11.RemoteProtocolError, trio.BrokenResourceError, trio.TooSlowError):
            return


async def _read(http: h11.Connection, stream: trio.SocketStream) -> Request | None:
    head: h11.Request | None = None
    body = bytearray()
    while True:
        event = http.next_event()
        if event is h11.NEED_DATA:
            with trio.fail_after(REQUEST_LIMIT_S):
                http.receive_data(bytes(await stream.receive_some(READ_MAX_BYTES)))
        elif isinstance(event, h11.Request):
            head = event
        elif isinstance(event, h11.Data):
            body += event.data
            if len(body) > BODY_MAX_BYTES:
                return None
        elif isinstance(event, h11.EndOfMessage):
            assert head is not None
            path, _, query = head.target.decode().partition("?")
            return Request(
                method=head.method.decode(),
                path=path,
                query=query,
                headers={name.decode(): value.decode("latin-1") for name, value in head.headers},
                body=bytes(body),
            )
        else:
            return None


async def _write(http: h11.Connection, stream: trio.SocketStream, response: Response) -> None:
    headers = [("Content-Length", str(len(response.body)))]
    if response.body:
        headers.append(("Content-Type", response.content_type))
    events: list[h11.Event] = [h11.Response(status_code=response.status, headers=headers)]
    if response.body:
        events.append(h11.Data(data=response.body))
    events.append(h11.EndOfMessage())
    await stream.send_all(b"".join(http.send(event) or b"" for event in events))
