"""One port for media, webhooks and API: who gets which connection, and how it empties."""

from __future__ import annotations

import pytest
import trio

from api import serve
from rtcore.node import NodeConfig
from rtcore.testing import FakePlivo, Phone, hang_up, wait
from tests.api.telephone import CALLER, OURS, Node, serving

HEALTH = b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"
MEDIA = b"GET /plivo/media/nonsense HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\n\r\n"


async def dial(node: Node) -> trio.SocketStream:
    return await trio.open_tcp_stream("127.0.0.1", int(node.url.rpartition(":")[2]))


async def answer(stream: trio.SocketStream) -> bytes:
    """The head of the answer, or nothing if the connection ended."""
    got = b""
    with trio.fail_after(5):
        while b"\r\n\r\n" not in got:
            try:
                piece = bytes(await stream.receive_some(4096))
            except trio.BrokenResourceError:  # closed with octets unread
                break
            if not piece:
                break
            got += piece
    return got


@pytest.mark.parametrize("size", [1, 3, 1000])
async def test_a_head_may_come_in_pieces(sqlite_url: str, size: int) -> None:
    async with serving(sqlite_url) as node:
        for request, status in ((HEALTH, b" 200 "), (MEDIA, b" 426 ")):
            async with await dial(node) as stream:
                for at in range(0, len(request), size):
                    await stream.send_all(request[at : at + size])
                    await trio.sleep(0.001)
                assert status in (await answer(stream)).split(b"\r\n")[0]


async def test_other_requests_for_media_are_the_apis(sqlite_url: str) -> None:
    async with serving(sqlite_url) as node:
        for request in (b"POST /plivo/media/x", b"GET /plivo/medix/xxx", b"OPTIONS * HTTP/1.1\r\n"):
            async with await dial(node) as stream:
                await stream.send_all(
                    request + b" HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n"
                )
                assert (await answer(stream)).startswith(b"HTTP/1.1 4")
        assert node.line.node.stats.refused_request == 0


async def test_a_connection_without_a_request_is_closed(
    sqlite_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(serve, "HEAD_LIMIT_S", 0.05)
    async with serving(sqlite_url) as node:
        async with await dial(node) as silent, await dial(node) as slow:
            await slow.send_all(b"GET /")
            assert await answer(silent) == b""
            assert await answer(slow) == b""
        async with await dial(node):
            pass  # and one that goes at once
        assert (await node.ask("GET", "/healthz"))["status"] == "ok"


async def test_a_drain_answers_the_carrier_until_the_last_call_is_over(sqlite_url: str) -> None:
    plivo = FakePlivo()
    config = NodeConfig(lag_max_ms=10_000, drain_s=20)
    async with serving(sqlite_url, config=config, plivo=plivo) as node:
        await node.bound()
        held = plivo.ring(CALLER, OURS, Phone(scripts=[[wait(1500), hang_up()]]))
        await node.until(lambda: node.line.live)
        node.line.node.drain()
        refused = plivo.ring("14155550101", OURS, Phone())
        await node.until(refused.over.is_set)
        assert refused.hangup is not None
        assert refused.hangup.code == 3010  # a busy tone, while we are still here
        async with await dial(node) as stream:
            await stream.send_all(
                b"GET /plivo/media/x HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\n"
                b"Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
                b"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
            )
            assert b" 503 " in await answer(stream)
        await node.until(held.over.is_set)
        assert held.reports[0].ended_by == "caller"
        assert [made.status for made in plivo.callbacks.made if made.kind == "hangup"] == [200, 200]


async def test_media_may_have_a_port_of_its_own(sqlite_url: str) -> None:
    async with serving(sqlite_url, splits=True) as node:
        await node.bound()
        call = node.plivo.ring(CALLER, OURS, Phone(scripts=[[wait(600), hang_up()]]))
        await node.until(call.over.is_set)
        assert call.reports[0].is_answered
        made = [each.url for each in node.plivo.callbacks.made]
        assert all(url.startswith(node.url) for url in made)
        assert node.line.media_url not in (node.url, "")
