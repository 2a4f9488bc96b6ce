"""Behind a real server: what a client on a socket sees."""

from __future__ import annotations

import trio

from tests.api.live import serving

POST = b"POST /v1/nothing HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\nContent-Type: a/b\r\n\r\n"
GET = b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"


async def until(stream: trio.SocketStream, text: bytes) -> bytes:
    """What comes until ``text`` does."""
    seen = b""
    with trio.fail_after(10):
        while text not in seen:
            piece = await stream.receive_some()
            assert piece, seen
            seen += piece
    return seen


async def test_a_body_that_comes_late_does_not_silence_the_connection(
    nursery: trio.Nursery, sqlite_url: str
) -> None:
    address, _ = await nursery.start(serving, sqlite_url)
    host, port = address.removeprefix("http://").split(":")
    stream = await trio.open_tcp_stream(host, int(port))
    async with stream:
        for _ in range(3):
            await stream.send_all(POST)
            await trio.sleep(0.05)
            await stream.send_all(b"body")
            assert b" 404 " in await until(stream, b"there is nothing at this address")
            await stream.send_all(GET)
            assert b" 200 " in await until(stream, b'{"status":"ok"}')
    nursery.cancel_scope.cancel()


async def test_a_body_that_never_comes_ends_the_connection(
    nursery: trio.Nursery, sqlite_url: str
) -> None:
    address, _ = await nursery.start(serving, sqlite_url)
    host, port = address.removeprefix("http://").split(":")
    stream = await trio.open_tcp_stream(host, int(port))
    async with stream:
        await stream.send_all(POST)
        answer = await until(stream, b"there is nothing at this address")
        assert b"connection: close" in answer.lower()
    nursery.cancel_scope.cancel()
