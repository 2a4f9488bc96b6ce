"""The HTTP client: TLS, deadlines that a drip cannot stretch, bounds, secrets."""

from __future__ import annotations

import contextlib
import gc
import ssl
import weakref

import pytest
import trio
import trustme

from rtcore.errors import ProviderError
from rtcore.providers._http import HttpClient
from rtcore.providers._settings import Deadlines, Secret
from tests.fakes._faults import Fault
from tests.fakes._http import FakeHttpServer, HttpRequest, Reply, sse
from tests.providers._harness import KEY

QUICK = Deadlines(connect_s=10, first_byte_s=0.2, stall_s=0.15, close_s=0.05)


class Fake(FakeHttpServer):
    """Sends ``events``, however they are cut."""

    def __init__(self, *events: bytes) -> None:
        super().__init__()
        self.events = events

    async def answer(self, request: HttpRequest, reply: Reply, fault: Fault) -> None:
        await self.play(reply, self.events, fault, error=b"", unknown=b"")


def _client(url: str) -> HttpClient:
    secret = Secret("THE_KEY", KEY)
    return HttpClient("p", url, headers={"x-key": KEY}, deadlines=QUICK, secret=secret)


async def test_over_tls(nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch) -> None:
    authority = trustme.CA()
    server_context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(server_context)
    client_context = ssl.create_default_context()
    authority.configure_trust(client_context)
    monkeypatch.setattr("rtcore.providers._http.tls_context", lambda: client_context)
    listeners = await trio.open_ssl_over_tcp_listeners(0, server_context, host="127.0.0.1")

    async def serve(stream: trio.SSLStream[trio.SocketStream]) -> None:
        with contextlib.suppress(trio.BrokenResourceError):
            while await stream.receive_some(4096):
                await stream.send_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nhi")

    nursery.start_soon(trio.serve_listeners, serve, listeners)
    port = listeners[0].transport_listener.socket.getsockname()[1]
    client = _client(f"https://localhost:{port}")
    for _ in range(2):
        async with await client.post("/", {}) as answer:
            assert await answer.read(10) == b"hi"
    await client.aclose()


async def test_signs_of_life_are_no_progress(nursery: trio.Nursery) -> None:
    """A service that only pings is stalled."""
    fake = Fake(sse({"n": 1}), *[b": alive\n\n", b"event: ping\ndata: {}\n\n"] * 50)
    fake.faults.add(Fault(gap_s=0.02))
    client = _client(await nursery.start(fake.serve))
    with trio.fail_after(1):
        async with await client.post("/", {}) as answer:
            assert await answer.event() is not None
            with pytest.raises(ProviderError, match=r"took longer than 0.15 s"):
                await answer.event()
    await client.aclose()


async def test_a_drip_of_octets_does_not_stretch_the_first_byte(nursery: trio.Nursery) -> None:
    async def drip(stream: trio.SocketStream) -> None:
        for octet in b"HTTP/1.1 200 OK\r\nx-drip: aaaaaaaaaaaaaaaaaaaa":
            await stream.send_all(bytes([octet]))
            await trio.sleep(0.02)

    async def serve(stream: trio.SocketStream) -> None:
        with contextlib.suppress(trio.BrokenResourceError):
            await drip(stream)

    listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
    nursery.start_soon(trio.serve_listeners, serve, listeners)
    client = _client(f"http://127.0.0.1:{listeners[0].socket.getsockname()[1]}")
    started_at = trio.current_time()
    with pytest.raises(ProviderError, match=r"first byte took longer than 0\.2 s"):
        await client.post("/", {})
    assert trio.current_time() - started_at < 0.5
    await client.aclose()


async def test_an_endless_body_is_refused(nursery: trio.Nursery) -> None:
    client = _client(await nursery.start(Fake(b"x" * 1000, b"y" * 1000).serve))
    with pytest.raises(ProviderError, match="longer than 1500"):
        async with await client.post("/", {}) as answer:
            await answer.read(1500)
    await client.aclose()


@pytest.mark.parametrize("status", [400, 401, 500])
async def test_a_key_the_service_repeats_is_censored(nursery: trio.Nursery, status: int) -> None:
    fake = Fake()
    fake.faults.add(Fault(status=status, error_body=f'{{"error": "bad key {KEY}"}}'.encode()))
    client = _client(await nursery.start(fake.serve))
    with pytest.raises(ProviderError) as caught:
        await client.post("/", {})
    assert KEY not in str(caught.value)
    assert str(status) in str(caught.value)
    await client.aclose()


async def test_an_answer_left_early_leaves_nothing_open(nursery: trio.Nursery) -> None:
    fake = Fake(*[sse({"n": n}) for n in range(100)])
    fake.faults.add(Fault(gap_s=0.01))
    client = _client(await nursery.start(fake.serve))
    async with await client.post("/", {}) as answer:
        assert await answer.event() is not None
    with trio.fail_after(1):
        while fake.open_connections:
            await trio.sleep(0.002)
    await client.aclose()


async def test_who_is_cancelled_as_they_leave_an_answer_closes_it(nursery: trio.Nursery) -> None:
    fake = Fake(*[sse({"n": n}) for n in range(100)])
    fake.faults.add(Fault(gap_s=0.02))
    client = _client(await nursery.start(fake.serve))
    with trio.CancelScope() as scope:
        async with await client.post("/", {}) as answer:
            assert await answer.event() is not None
            scope.deadline = trio.current_time() + 0.01  # its end is read for longer
    assert scope.cancelled_caught
    assert answer._response.is_closed
    await client.aclose()


@pytest.mark.parametrize("is_read", [True, False])
async def test_an_answer_is_freed_as_it_is_closed(nursery: trio.Nursery, is_read: bool) -> None:
    """And not by the garbage collector, which stops every call while it looks."""
    client = _client(await nursery.start(Fake(b"x" * 1000, b"y" * 1000).serve))
    gc.disable()
    try:
        async with await client.post("/", {}) as answer:
            freed = weakref.ref(answer._response)
            if is_read:
                assert len(await answer.read(3000)) == 2000
        del answer
        assert freed() is None
    finally:
        gc.enable()
    await client.aclose()
