"""One port for media, webhooks and API: who gets which connection, and how it empties."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
import trio

from api import serve
from api.calls import live, telephony
from api.calls.records import StoredCall
from api.plivo import webhooks
from api.store.errors import StoreUnavailable
from api.web.problems import CONTENT_TYPE, Problem
from rtcore.admission import MEDIA_PATH, MediaGate
from rtcore.media.handshake import Rejection, UpgradeRequest
from rtcore.node import NodeConfig
from rtcore.testing import FakePlivo, Phone, hang_up, wait
from rtcore.tokens import MediaToken, issue
from tests.api.telephone import CALLER, OURS, SECRET, Node, serving

HEALTH = b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"
PATIENT = NodeConfig(lag_max_ms=10_000, drain_s=20)
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
    async with serving(sqlite_url, config=PATIENT, plivo=plivo) as node:
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


async def test_a_node_that_is_stopped_has_written_what_became_of_its_calls(
    sqlite_url: str,
) -> None:
    plivo = FakePlivo()
    async with serving(sqlite_url, config=PATIENT, plivo=plivo, linger_s=3) as node:
        await node.bound()
        hook = {"name": "office", "url": "https://office.example.com/x", "events": ["call.ended"]}
        webhook = await node.ask("POST", "/v1/webhooks", hook, 201)
        held = plivo.ring(CALLER, OURS, Phone(scripts=[[wait(60_000)]]))
        await node.until(lambda: node.line.live)
        node.line.node.drain()
        await trio.sleep(0.1)
        assert node.line.live
        node.line.node.stop()
        await node.until(held.over.is_set)
    async with serving(sqlite_url) as next_node:  # the one that was stopped answers no more
        (call,) = (await next_node.ask("GET", "/v1/calls"))["items"]
        (stream,) = (await next_node.ask("GET", f"/v1/calls/{call['id']}/metrics"))["streams"]
        assert stream["ended_by"] == "cancelled"
        assert call["state"] == "completed"
        told = await next_node.ask("GET", f"/v1/webhooks/{webhook['id']}/deliveries")
        assert [each["event"] for each in told["items"]] == ["call.ended"]


async def test_media_may_have_a_port_of_its_own(sqlite_url: str) -> None:
    async with serving(sqlite_url, splits=True) as node:
        await node.bound()
        call = node.plivo.ring(CALLER, OURS, Phone(scripts=[[wait(600), hang_up()]]))
        await node.until(call.over.is_set)
        assert call.reports[0].is_answered
        made = [each.url for each in node.plivo.callbacks.made]
        assert all(url.startswith(node.url) for url in made)
        assert node.line.media_url not in (node.url, "")


async def test_a_store_that_is_away_is_no_fault_of_the_token(sqlite_url: str) -> None:
    """503, in the words of the API; and the token is as good as before once the store is back."""

    def away(*_: Any) -> StoredCall | None:
        raise StoreUnavailable("the database did not answer")

    async with serving(sqlite_url) as node:
        gate = MediaGate({}, find=node.line._find, secret=SECRET)
        token = MediaToken(call_id="uuid", agent_id="agt", expires_s=2**40, nonce="n")
        request = UpgradeRequest(
            path=f"{MEDIA_PATH}{issue(SECRET, token)}", query="", headers={}, remote=""
        )
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(telephony, "open_stream", away)
            for _ in range(2):
                refused = await gate.admit(request)
                assert isinstance(refused, Rejection)
                assert (refused.status, refused.content_type) == (503, CONTENT_TYPE)
                assert ("Retry-After", "1") in refused.headers
                problem = msgspec.json.decode(refused.body, type=Problem)
                assert (problem.status, problem.detail) == (503, "the database did not answer")
        again = await gate.admit(request)
        assert isinstance(again, Rejection)
        assert (again.status, again.body) == (
            403,
            "the media token is not valid: spent, or its call is over",
        )


@pytest.mark.parametrize("is_listening", [False, True])
async def test_what_is_asked_of_a_call_that_has_just_failed_is_refused(
    sqlite_url: str, monkeypatch: pytest.MonkeyPatch, is_listening: bool
) -> None:
    """Its record keeper lets go of it half a second later: until then it looks as if it went on."""
    monkeypatch.setattr(live, "KEEP_EVERY_S", 60)
    asked, stream_again = trio.Event(), webhooks._stream_again

    async def fail() -> None:
        raise RuntimeError("a fault of ours")

    async def stream_later(*args: Any) -> bytes | None:
        await asked.wait()  # the carrier would bring the call back meanwhile
        return await stream_again(*args)

    monkeypatch.setattr(webhooks, "_stream_again", stream_later)

    async with serving(sqlite_url) as node:
        agent_id = await node.bound(**({"listening": {}} if is_listening else {}))
        call = node.plivo.ring(CALLER, OURS, Phone(scripts=[[wait(20_000)]]))
        await node.until(lambda: node.line.live)
        ((call_id, held),) = node.line.live.items()
        await node.until(lambda: held.call._nursery is not None)
        held.call.start(fail)
        await node.until(lambda: held.call.is_over)
        assert node.line.live[call_id] is held
        path = f"/v1/calls/{call_id}"
        for command, body in (
            ("say", {"text": "hello"}),
            ("mute", None),
            ("unmute", None),
            ("whisper", {"text": "hello"}),
            ("agent", {"agent_id": agent_id, "says_welcome": True}),
        ):
            problem = await node.ask("POST", f"{path}/{command}", body, 409)
            assert "not talking" in problem["detail"] or "is over" in problem["detail"]
        asked.set()
        call.hang_up()
        await node.until(call.over.is_set)
