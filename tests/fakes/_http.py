"""A real HTTP/1.1 server on loopback (h11 over trio) that sees its clients disconnect."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import h11
import msgspec
import trio

from tests.fakes._faults import Fault, FaultScript


@dataclass(frozen=True)
class HttpRequest:
    """What a client sent, whole."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes

    def json(self) -> Any:
        return msgspec.json.decode(self.body)


class Dropped(Exception):
    """The script breaks the connection here."""


class Reply:
    """The answer to one request."""

    def __init__(self, stream: trio.SocketStream, connection: h11.Connection, fault: Fault) -> None:
        self._stream, self._connection, self._fault = stream, connection, fault
        self.ended = False

    async def start(self, status: int = 200, **headers: str) -> None:
        pairs = [(name.replace("_", "-"), value) for name, value in headers.items()]
        await self._write(h11.Response(status_code=status, headers=pairs))

    async def send(self, octets: bytes) -> None:
        await self._write(h11.Data(data=octets))

    async def end(self) -> None:
        await self._write(h11.EndOfMessage())
        self.ended = True

    async def whole(self, status: int, body: bytes, content_type: str, **headers: str) -> None:
        length = str(len(body))
        await self.start(status, content_type=content_type, content_length=length, **headers)
        await self.send(body)
        await self.end()

    async def _write(self, event: Any) -> None:
        octets = self._connection.send(event) or b""
        step = self._fault.fragment_bytes or max(1, len(octets))
        for start in range(0, len(octets), step):
            await self._stream.send_all(octets[start : start + step])
            if step < len(octets):
                await trio.lowlevel.checkpoint()  # TCP_NODELAY: a segment each


class FakeHttpServer(ABC):
    """Subclasses answer one request at a time; ``faults`` says how it goes wrong."""

    def __init__(self) -> None:
        self.requests: list[HttpRequest] = []
        self.faults = FaultScript()
        self.disconnects = 0  # answers whose client left before their end
        self.connections = 0  # ever accepted
        self.open_connections = 0
        self.answering = 0  # requests whose answer is under way
        self.kills_reused = False  # a connection's second request finds it dead

    async def serve(self, task_status: trio.TaskStatus[str] = trio.TASK_STATUS_IGNORED) -> None:
        """Serve on a free port of 127.0.0.1; start with its base URL."""
        listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
        port = listeners[0].socket.getsockname()[1]
        await trio.serve_listeners(
            self._connection,
            listeners,
            task_status=_Started(task_status, f"http://127.0.0.1:{port}"),
        )

    @abstractmethod
    async def answer(self, request: HttpRequest, reply: Reply, fault: Fault) -> None:
        """Answer well; refusals and delays are done."""

    async def play(
        self,
        reply: Reply,
        events: Sequence[bytes],
        fault: Fault,
        *,
        error: bytes,
        unknown: bytes,
        content_type: str = "text/event-stream",
        malformed: bytes = b"data: {\n\n",
    ) -> None:
        """Send the events of a stream, and what the fault wants instead."""
        await reply.start(200, content_type=content_type)
        await trio.sleep(fault.first_delay_s)
        for position, event in enumerate(events):
            if position == fault.drop_after:
                raise Dropped
            if position == fault.stall_after:
                await trio.sleep_forever()
            if position == fault.error_after:
                await reply.send(error)
                break
            await trio.sleep(fault.gap_s)
            if fault.unknown_messages:
                await reply.send(unknown)
            await reply.send(malformed if position == fault.malformed_after else event)
        await reply.end()

    async def _connection(self, stream: trio.SocketStream) -> None:
        self.connections += 1
        self.open_connections += 1
        connection = h11.Connection(h11.SERVER)
        try:
            while (request := await _next_request(stream, connection)) is not None:
                await self._exchange(request, stream, connection)
                if connection.our_state is not h11.DONE or connection.their_state is not h11.DONE:
                    break
                connection.start_next_cycle()
                if self.kills_reused:
                    await stream.receive_some(1)
                    break
        except (trio.BrokenResourceError, h11.RemoteProtocolError):
            pass
        finally:
            self.open_connections -= 1
            await trio.aclose_forcefully(stream)

    async def _exchange(
        self, request: HttpRequest, stream: trio.SocketStream, connection: h11.Connection
    ) -> None:
        self.requests.append(request)
        if request.method == "HEAD":  # somebody warms a connection
            await Reply(stream, connection, Fault()).whole(404, b"", "text/plain")
            return
        fault = self.faults.next()
        reply = Reply(stream, connection, fault)
        self.answering += 1
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._watch, stream, reply, nursery.cancel_scope)
                try:
                    await self._answer(request, reply, fault)
                except Dropped:
                    pass
                except trio.BrokenResourceError:
                    self.disconnects += 1
                nursery.cancel_scope.cancel()
        finally:
            self.answering -= 1

    async def _answer(self, request: HttpRequest, reply: Reply, fault: Fault) -> None:
        if fault.status is None:
            await self.answer(request, reply, fault)
            return
        await trio.sleep(fault.first_delay_s)
        more = {"retry_after": fault.retry_after} if fault.retry_after else {}
        await reply.whole(fault.status, fault.error_body, "application/json", **more)

    async def _watch(
        self, stream: trio.SocketStream, reply: Reply, scope: trio.CancelScope
    ) -> None:
        """Nothing more is expected of the client: what comes now is its leaving."""
        try:
            gone = not await stream.receive_some(1)
        except trio.BrokenResourceError:
            gone = True
        if gone and not reply.ended:
            self.disconnects += 1
            scope.cancel()


class _Started:
    """Passes the URL on when the listeners are up."""

    def __init__(self, task_status: trio.TaskStatus[str], url: str) -> None:
        self._task_status, self._url = task_status, url

    def started(self, _listeners: object = None) -> None:
        self._task_status.started(self._url)


async def _next_request(
    stream: trio.SocketStream, connection: h11.Connection
) -> HttpRequest | None:
    head: h11.Request | None = None
    body = bytearray()
    while True:
        event = connection.next_event()
        if event is h11.NEED_DATA:
            connection.receive_data(await stream.receive_some(1 << 16))
        elif isinstance(event, h11.Request):
            head = event
        elif isinstance(event, h11.Data):
            body += event.data
        elif isinstance(event, h11.EndOfMessage):
            assert head is not None
            headers = {name.decode().lower(): value.decode() for name, value in head.headers}
            return HttpRequest(head.method.decode(), head.target.decode(), headers, bytes(body))
        else:
            return None


def sse(data: object, name: str = "") -> bytes:
    """One event of an event stream."""
    text = data if isinstance(data, bytes) else msgspec.json.encode(data)
    return (f"event: {name}\n".encode() if name else b"") + b"data: " + text + b"\n\n"


async def eventually(condition: Any, limit_s: float = 2.0) -> None:
    """Wait until the other end of a socket has seen what we did."""
    with trio.fail_after(limit_s):
        while not condition():
            await trio.sleep(0.002)
