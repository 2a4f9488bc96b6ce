"""What only the portable filling can do: any stream, so TLS and a simulated clock."""

from __future__ import annotations

import ssl
import struct

import pytest
import trio
import trio.testing
import trustme

from rtcore.errors import SocketClosed
from rtcore.media import portable
from rtcore.media._frames import PING, TEXT, FrameCodec
from rtcore.media.handshake import UpgradeRequest
from rtcore.media.limits import SocketLimits
from rtcore.media.portable import PortableSocket

LIMITS = SocketLimits()
REQUEST = (
    b"GET / HTTP/1.1\r\nHost: node\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)


async def let_in(request: UpgradeRequest) -> None:
    return None


def client() -> FrameCodec:
    return FrameCodec(is_client=True, max_message_bytes=2**20)


async def opened(
    stream: trio.abc.Stream, peer: trio.abc.Stream, nursery: trio.Nursery
) -> PortableSocket:
    await peer.send_all(REQUEST)
    sock = await portable.accept(stream, let_in, LIMITS, nursery)
    assert sock is not None
    assert bytes(await peer.receive_some()).startswith(b"HTTP/1.1 101")
    return sock


async def test_it_speaks_through_tls() -> None:
    authority = trustme.CA()
    ours, theirs = trio.testing.memory_stream_pair()
    server_context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("node").configure_cert(server_context)
    client_context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    authority.configure_trust(client_context)
    stream = trio.SSLStream(ours, server_context, server_side=True)
    peer = trio.SSLStream(theirs, client_context, server_hostname="node")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(stream.do_handshake)
        await peer.do_handshake()
        sock = await opened(stream, peer, nursery)
        await peer.send_all(client().encode(TEXT, b"hello"))
        assert await sock.receive() == [b"hello"]
        assert sock.send(b"hi")
        assert await peer.receive_some() == b"\x81\x02hi"
        nursery.start_soon(sock.aclose)
        assert await peer.receive_some() == b"\x88\x02" + struct.pack("!H", 1000)
        await peer.send_all(client().encode_close(1000))


async def test_the_default_stall_and_close_limits(autojump_clock: trio.testing.MockClock) -> None:
    ours, theirs = trio.testing.memory_stream_pair()
    writing = trio.Event()

    async def never_taken() -> None:
        writing.set()
        await trio.sleep_forever()

    async with trio.open_nursery() as nursery:
        sock = await opened(ours, theirs, nursery)
        ours.send_stream.send_all_hook = never_taken
        began = trio.current_time()
        assert sock.send(b"x")
        with pytest.raises(SocketClosed) as ending:
            await sock.receive()
        assert ending.value.code == 1006
        assert trio.current_time() - began == pytest.approx(LIMITS.send_stall_s)
        await sock.aclose()
    assert writing.is_set()

    ours, theirs = trio.testing.memory_stream_pair()
    async with trio.open_nursery() as nursery:
        sock = await opened(ours, theirs, nursery)
        began = trio.current_time()
        await sock.aclose()  # never answered
        assert trio.current_time() - began == pytest.approx(LIMITS.close_limit_s)


async def test_a_nursery_that_is_cancelled_first_still_lets_it_say_goodbye(
    autojump_clock: trio.testing.MockClock,
) -> None:
    ours, theirs = trio.testing.memory_stream_pair()
    async with trio.open_nursery() as nursery:
        sock = await opened(ours, theirs, nursery)
        nursery.cancel_scope.cancel()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(sock.aclose, 1001)
        assert await theirs.receive_some() == b"\x88\x02" + struct.pack("!H", 1001)
        await theirs.aclose()
    with pytest.raises(SocketClosed):
        await sock.receive()


async def test_a_ping_after_our_close_does_no_harm(autojump_clock: trio.testing.MockClock) -> None:
    ours, theirs = trio.testing.memory_stream_pair()
    async with trio.open_nursery() as nursery:
        sock = await opened(ours, theirs, nursery)
        nursery.start_soon(sock.aclose)
        await theirs.receive_some()
        await theirs.send_all(client().encode(PING, b"late"))
