"""The WebSocket client: whole messages, bounded waits, TLS, and a pool that keeps what is good."""

from __future__ import annotations

import ssl
from collections.abc import Awaitable, Callable

import pytest
import trio
import trustme
from trio_websocket import ConnectionClosed, WebSocketConnection, WebSocketRequest, serve_websocket

from rtcore.errors import ProviderError
from rtcore.providers._settings import Deadlines
from rtcore.providers._ws import MESSAGE_MAX_BYTES, SocketPool, WebSocket, connect, ws_url
from tests.fakes._http import eventually

LIMIT_S = 20.0  # for what takes milliseconds
QUICK = Deadlines(connect_s=10, stall_s=0.2, close_s=0.05)
Session = Callable[[WebSocketConnection], Awaitable[None]]


class Server:
    """Runs ``session`` for each connection and counts those that are open."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self.opened = self.open = 0
        self.close_codes: list[int | None] = []

    async def serve(
        self,
        tls: ssl.SSLContext | None = None,
        task_status: trio.TaskStatus[str] = trio.TASK_STATUS_IGNORED,
    ) -> None:
        async with trio.open_nursery() as nursery:
            server = await nursery.start(serve_websocket, self._accept, "127.0.0.1", 0, tls)
            task_status.started(f"ws{'s' if tls else ''}://localhost:{server.port}")

    async def _accept(self, request: WebSocketRequest) -> None:
        socket = await request.accept()
        self.opened += 1
        self.open += 1
        try:
            await self._session(socket)
        except ConnectionClosed:
            pass
        finally:
            self.open -= 1
            self.close_codes.append(socket.closed.code if socket.closed else None)


async def echo(socket: WebSocketConnection) -> None:
    while True:
        await socket.send_message(await socket.get_message())


async def _connect(url: str) -> WebSocket:
    return await connect("p", url, headers={"x-test": "1"}, deadlines=QUICK)


@pytest.fixture
async def echoing(nursery: trio.Nursery) -> tuple[Server, str]:
    server = Server(echo)
    return server, await nursery.start(server.serve, None)


async def test_text_and_octets_come_whole(echoing: tuple[Server, str]) -> None:
    socket = await _connect(echoing[1])
    for message in ("Grüße", b"\x00\xff", "", "x" * 200_000, b"y" * 300_000):
        await socket.send(message)
        assert await socket.receive(LIMIT_S) == message
    await socket.aclose()
    await eventually(lambda: echoing[0].close_codes == [1000])


@pytest.mark.parametrize("scheme", ["wss", "https"])
async def test_over_tls(
    nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch, scheme: str
) -> None:
    authority = trustme.CA()
    server_context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(server_context)
    client_context = ssl.create_default_context()
    authority.configure_trust(client_context)
    monkeypatch.setattr("rtcore.providers._ws.tls_context", lambda: client_context)
    server = Server(echo)
    url = await nursery.start(server.serve, server_context)
    url = url.replace("wss", scheme)
    pool = SocketPool(lambda: _connect(url), idle_max=2, idle_limit_s=5)
    for word in ("one", "two"):
        socket = await pool.take()
        await socket.send(word)
        assert await socket.receive(LIMIT_S) == word
        await pool.give(socket)
    assert server.opened == 1
    await pool.aclose()
    await eventually(lambda: server.open == 0)


async def test_a_stranger_is_not_trusted(nursery: trio.Nursery) -> None:
    server_context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    trustme.CA().issue_cert("localhost").configure_cert(server_context)
    url = await nursery.start(Server(echo).serve, server_context)
    with pytest.raises(ProviderError, match="cannot connect"):
        await _connect(url)


@pytest.mark.parametrize("url", ["ftp://localhost", "localhost:9", "//localhost"])
async def test_an_address_of_another_kind_is_not_tried_in_the_clear(url: str) -> None:
    with pytest.raises(ProviderError, match="an address begins with") as caught:
        await _connect(url)
    assert not caught.value.retryable


async def test_pings_are_answered_while_waiting(nursery: trio.Nursery) -> None:
    async def ping(socket: WebSocketConnection) -> None:
        for _ in range(3):
            with trio.fail_after(LIMIT_S):
                await socket.ping()
        await socket.send_message("alive")
        await trio.sleep_forever()

    socket = await _connect(await nursery.start(Server(ping).serve, None))
    assert await socket.receive(LIMIT_S) == "alive"
    await socket.aclose()


async def test_nothing_in_time_is_an_error(echoing: tuple[Server, str]) -> None:
    socket = await _connect(echoing[1])
    with pytest.raises(ProviderError, match=r"took longer than 0\.05 s"):
        await socket.receive(0.05)
    await socket.send("still open")
    assert await socket.receive(LIMIT_S) == "still open"
    await socket.aclose()


async def test_a_cancelled_receive_loses_nothing(echoing: tuple[Server, str]) -> None:
    socket = await _connect(echoing[1])
    for number in range(50):
        await socket.send(str(number))
        with trio.move_on_after(0.0001 * (number % 5)):
            assert await socket.receive() == str(number)
            continue
        assert await socket.receive(LIMIT_S) == str(number)
    await socket.aclose()


async def test_a_peer_that_reads_nothing_stalls_us_no_longer_than_told(
    nursery: trio.Nursery,
) -> None:
    async def deaf(_socket: WebSocketConnection) -> None:
        _socket._reader_running = False
        await trio.sleep_forever()

    socket = await _connect(await nursery.start(Server(deaf).serve, None))
    with trio.fail_after(LIMIT_S), pytest.raises(ProviderError, match="sending took longer"):
        await _fill(socket)
    assert not socket.is_open
    with pytest.raises(ProviderError):
        await socket.send("more")
    with trio.fail_after(LIMIT_S):
        await socket.aclose()


async def _fill(socket: WebSocket) -> None:
    for _ in range(1000):
        await socket.send(b"x" * 100_000)


async def test_an_endless_message_is_refused(nursery: trio.Nursery) -> None:
    async def flood(socket: WebSocketConnection) -> None:
        await socket.send_message(b"x" * (MESSAGE_MAX_BYTES + 1))
        await trio.sleep_forever()

    socket = await _connect(await nursery.start(Server(flood).serve, None))
    with pytest.raises(ProviderError, match="1009"):
        await socket.receive(LIMIT_S)
    await socket.aclose()


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nhi",
        b"SSH-2.0-x\r\n",
        b"HTTP/1.1 403 Forbidden\r\ncontent-length: 0\r\n\r\n",
    ],
)
async def test_what_is_no_websocket_is_an_error(nursery: trio.Nursery, answer: bytes) -> None:
    async def serve(stream: trio.SocketStream) -> None:
        async with stream:
            await stream.receive_some(4096)
            await stream.send_all(answer)

    listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
    nursery.start_soon(trio.serve_listeners, serve, listeners)
    port = listeners[0].socket.getsockname()[1]
    with trio.fail_after(LIMIT_S), pytest.raises(ProviderError):
        await _connect(f"ws://127.0.0.1:{port}/")


async def test_the_pool_keeps_the_freshest_and_no_more_than_told(
    echoing: tuple[Server, str],
) -> None:
    server, url = echoing
    pool = SocketPool(lambda: _connect(url), idle_max=2, idle_limit_s=0.2)
    sockets = [await pool.take() for _ in range(3)]
    for socket in sockets:
        await pool.give(socket)
    await eventually(lambda: server.open == 2)
    assert await pool.take() is sockets[1]
    await trio.sleep(0.25)
    fresh = await pool.take()  # the other one was too old
    assert fresh not in sockets
    await eventually(lambda: server.open == 2)
    for socket in (sockets[1], fresh):
        await socket.aclose()
    await pool.aclose()
    await eventually(lambda: server.open == 0)


async def test_a_closed_pool_keeps_nothing(echoing: tuple[Server, str]) -> None:
    server, url = echoing
    pool = SocketPool(lambda: _connect(url), idle_max=2, idle_limit_s=5)
    socket = await pool.take()
    await pool.aclose()
    await pool.give(socket)
    await eventually(lambda: server.open == 0)


async def test_a_warm_pool_opens_nothing_in_the_turn(echoing: tuple[Server, str]) -> None:
    server, url = echoing
    pool = SocketPool(lambda: _connect(url), idle_max=2, idle_limit_s=5)
    async with trio.open_nursery() as nursery:
        for _ in range(3):
            nursery.start_soon(pool.warm)
    opened = server.opened
    await pool.give(await pool.take())
    assert server.opened == opened
    await pool.aclose()


def test_a_query_repeats_lists_and_leaves_out_what_is_unset() -> None:
    query = {"a": True, "b": None, "c": ("x y", "z"), "d": (), "e": 0.5}
    assert ws_url("wss://h", "/p", query) == "wss://h/p?a=true&c=x+y&c=z&e=0.5"
