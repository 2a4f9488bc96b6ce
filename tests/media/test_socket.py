"""Both fillings of the media socket, over real loopback sockets, against a raw peer.

The peer writes octets by hand, so that it can be as wrong as a peer can be.
"""

from __future__ import annotations

import socket
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import msgspec
import pytest
import trio
import trio.testing

from rtcore.errors import LocalProtocolError, RemoteProtocolError, SocketClosed
from rtcore.media import fast, portable
from rtcore.media._frames import BINARY, PING, PONG, TEXT, FrameCodec
from rtcore.media.handshake import Rejection, UpgradeRequest
from rtcore.media.limits import SocketLimits
from rtcore.ports import MediaSocket

CLOSE = 8
LIMIT_S = 30.0  # for what takes milliseconds: a machine that others use may stand still for seconds
LIMITS = SocketLimits(handshake_limit_s=LIMIT_S, send_stall_s=LIMIT_S, close_limit_s=LIMIT_S)
HASTY_S = 0.3  # of a limit that a test waits out
HASTY_TO_CLOSE = msgspec.structs.replace(LIMITS, close_limit_s=HASTY_S)
REQUEST = (
    b"GET /media/x?a=1&b=2 HTTP/1.1\r\nHost: node\r\nUpgrade: websocket\r\n"
    b"Connection: keep-alive, Upgrade\r\nSec-WebSocket-Version: 13\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
    b"X-Forwarded-For: a\r\nx-forwarded-for: b\r\n\r\n"
)
Accept = Callable[..., Awaitable[MediaSocket | None]]
BOTH = pytest.mark.parametrize("accept", [fast.accept, portable.accept], ids=["fast", "portable"])
pytestmark = BOTH


async def let_in(request: UpgradeRequest) -> Rejection | None:
    return None


class Peer:
    """A client whose every octet is the test's choice."""

    def __init__(self, stream: trio.SocketStream) -> None:
        self.stream = stream
        self.codec = FrameCodec(is_client=True, max_message_bytes=2**20)
        self.unread = b""

    async def write(self, *pieces: bytes) -> None:
        await self.stream.send_all(b"".join(pieces))

    def frame(self, opcode: int, payload: bytes = b"") -> bytes:
        return self.codec.encode(opcode, payload)

    def close_frame(self, code: int, reason: bytes = b"") -> bytes:
        return self.codec.encode(CLOSE, struct.pack("!H", code) + reason)

    async def exactly(self, size: int) -> bytes:
        while len(self.unread) < size:
            got = await self.stream.receive_some()
            if not got:
                raise EOFError
            self.unread += got
        out, self.unread = self.unread[:size], self.unread[size:]
        return out

    async def read_frame(self) -> tuple[int, bytes]:
        with trio.fail_after(LIMIT_S):
            first, size = await self.exactly(2)
            if size > 125:
                size = int.from_bytes(await self.exactly(2 if size == 126 else 8))
            assert first & 0xF0 == 0x80
            return first & 0x0F, await self.exactly(size)

    async def read_until_close(self) -> tuple[int, list[tuple[int, bytes]]]:
        """The close code, and every frame before it."""
        frames = []
        while (frame := await self.read_frame())[0] != CLOSE:
            frames.append(frame)
        return int.from_bytes(frame[1][:2]), frames

    async def read_response(self) -> tuple[int, bytes]:
        with trio.fail_after(LIMIT_S):
            while b"\r\n\r\n" not in self.unread:
                got = await self.stream.receive_some()
                if not got:
                    break
                self.unread += bytes(got)
        head, _, self.unread = self.unread.partition(b"\r\n\r\n")
        return int(head.split()[1]), head

    async def at_end(self) -> bool:
        with trio.fail_after(LIMIT_S):
            try:
                return not await self.stream.receive_some()
            except trio.BrokenResourceError:
                return True


@asynccontextmanager
async def wire() -> AsyncIterator[tuple[trio.SocketStream, Peer]]:
    """Two ends of a TCP connection; the first is the server's."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        ours = await trio.open_tcp_stream("127.0.0.1", listener.getsockname()[1])
        theirs, _ = listener.accept()
    server = trio.SocketStream(trio.socket.from_stdlib_socket(theirs))
    async with server, ours:
        yield server, Peer(ours)


@asynccontextmanager
async def opened(accept: Accept, limits: SocketLimits = LIMITS) -> AsyncIterator[tuple[Any, Peer]]:
    async with wire() as (stream, peer), trio.open_nursery() as nursery:
        await peer.write(REQUEST)
        sock = await accept(stream, let_in, limits, nursery)
        assert sock is not None
        status, head = await peer.read_response()
        assert status == 101
        assert b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo=" in head  # RFC 6455, section 1.3
        try:
            yield sock, peer
        finally:
            await peer.stream.aclose()
            with trio.fail_after(LIMIT_S):
                await sock.aclose()
        await trio.testing.wait_all_tasks_blocked()
        assert not nursery.child_tasks


async def receive_n(sock: MediaSocket, count: int) -> list[bytes]:
    got: list[bytes] = []
    with trio.fail_after(LIMIT_S):
        while len(got) < count:
            got += await sock.receive()
    return got


# --- the handshake ----------------------------------------------------------------------


def without(header: bytes) -> bytes:
    return b"\r\n".join(
        line for line in REQUEST.split(b"\r\n") if not line.lower().startswith(header)
    )


REFUSED = {
    "not a WebSocket request": (b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", 426),
    "no upgrade": (without(b"upgrade"), 426),
    "no connection": (without(b"connection"), 426),
    "HTTP/1.0": (REQUEST.replace(b"HTTP/1.1", b"HTTP/1.0"), 426),
    "version 8": (REQUEST.replace(b"Version: 13", b"Version: 8"), 426),
    "no version": (without(b"sec-websocket-version"), 426),
    "no key": (without(b"sec-websocket-key"), 400),
    "short key": (REQUEST.replace(b"dGhlIHNhbXBsZSBub25jZQ==", b"c2hvcnQ="), 400),
    "key not base64": (REQUEST.replace(b"dGhlIHNhbXBsZSBub25jZQ==", b"\xff" * 24), 400),
    "no host": (without(b"host"), 400),
    "not HTTP": (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", 400),
    "POST": (REQUEST.replace(b"GET", b"POST"), 405),
    "HEAD": (REQUEST.replace(b"GET", b"HEAD"), 405),
    "a body": (REQUEST.replace(b"Host", b"Content-Length: 4\r\nHost") + b"body", 400),
    "frames before the answer": (REQUEST + b"\x81\x80\x00\x00\x00\x00", 400),
    "a head without end": (b"GET / HTTP/1.1\r\nX: " + b"x" * 70_000, 431),
    "a head that trickles": (REQUEST[:-1], 408),
    "nothing": (b"", 408),
}


@pytest.mark.parametrize(("request_", "status"), REFUSED.values(), ids=REFUSED.keys())
async def test_a_wrong_request_is_told_its_status(
    accept: Accept, request_: bytes, status: int
) -> None:
    hasty = status == 408  # the only one that is told because time is up
    limits = msgspec.structs.replace(LIMITS, handshake_limit_s=HASTY_S if hasty else LIMIT_S)
    async with wire() as (stream, peer), trio.open_nursery() as nursery:

        async def refuse() -> None:
            with trio.fail_after(LIMIT_S):
                assert await accept(stream, let_in, limits, nursery) is None
            assert stream.socket.fileno() == -1

        nursery.start_soon(refuse)
        nursery.start_soon(peer.write, request_)
        assert (await peer.read_response())[0] == status
        await peer.stream.aclose()


async def test_the_application_judges_the_request(accept: Accept) -> None:
    seen: list[UpgradeRequest] = []

    async def authorise(request: UpgradeRequest) -> Rejection:
        seen.append(request)
        return Rejection(status=404, body="no such path", headers=(("X-Why", "path"),))

    async with wire() as (stream, peer), trio.open_nursery() as nursery:
        await peer.write(REQUEST)
        nursery.start_soon(accept, stream, authorise, LIMITS, nursery)
        status, head = await peer.read_response()
        assert status == 404
        assert b"X-Why: path" in head
        assert peer.unread == b"no such path"
        await peer.stream.aclose()
    [request] = seen
    assert (request.path, request.query, request.remote) == ("/media/x", "a=1&b=2", "127.0.0.1")
    assert request.headers["host"] == "node"
    assert request.headers["x-forwarded-for"] == "a, b"


async def test_a_peer_that_vanishes_in_the_handshake(accept: Accept) -> None:
    async with wire() as (stream, peer), trio.open_nursery() as nursery:
        await peer.write(REQUEST[:50])
        await peer.stream.aclose()
        assert await accept(stream, let_in, LIMITS, nursery) is None


async def test_cancelling_the_handshake_closes_the_stream(accept: Accept) -> None:
    async def never(request: UpgradeRequest) -> None:
        await trio.sleep_forever()

    for request_ in (REQUEST[:-1], REQUEST):
        async with wire() as (stream, peer), trio.open_nursery() as nursery:
            await peer.write(request_)
            with trio.move_on_after(0.05):
                await accept(stream, never, LIMITS, nursery)
            assert await peer.at_end()
            assert stream.socket.fileno() == -1
            assert not nursery.child_tasks


# --- messages ---------------------------------------------------------------------------


async def test_text_and_binary_are_handed_up_as_octets(accept: Accept) -> None:
    async with opened(accept) as (sock, peer):
        await peer.write(peer.frame(TEXT, "grün".encode()), peer.frame(BINARY, b"\xff\x00"))
        assert await receive_n(sock, 2) == ["grün".encode(), b"\xff\x00"]
        assert sock.send(b'{"event":"x"}')
        assert await peer.read_frame() == (TEXT, b'{"event":"x"}')


async def test_many_messages_in_any_pieces_keep_their_order(accept: Accept) -> None:
    expected = [b"%d" % n * 40 for n in range(300)]
    async with opened(accept) as (sock, peer), trio.open_nursery() as nursery:
        data = b"".join(peer.frame(TEXT, message) for message in expected)

        async def write() -> None:
            for at in range(0, len(data), 3001):
                await peer.write(data[at : at + 3001])

        nursery.start_soon(write)
        assert await receive_n(sock, len(expected)) == expected


async def test_a_cancelled_receive_loses_nothing(accept: Accept) -> None:
    async with opened(accept) as (sock, peer):
        for n in range(20):
            with trio.move_on_after(0) as scope:
                await sock.receive()
            assert scope.cancelled_caught
            await peer.write(peer.frame(TEXT, b"%d" % n))
            with trio.move_on_after(0):
                assert await sock.receive() == []
        assert await receive_n(sock, 20) == [b"%d" % n for n in range(20)]


async def test_a_flood_leaves_others_their_turn(accept: Accept) -> None:
    async with opened(accept) as (sock, peer), trio.open_nursery() as nursery:
        data = peer.frame(TEXT, b"x" * 50) * 1000

        async def flood() -> None:
            while True:
                await peer.write(data)

        async def listen() -> None:
            while True:
                await sock.receive()

        nursery.start_soon(flood)
        nursery.start_soon(listen)
        turns = 0
        with trio.move_on_after(0.2):
            while True:
                await trio.lowlevel.checkpoint()
                turns += 1
        assert turns > 50
        nursery.cancel_scope.cancel()


async def test_a_ping_is_answered(accept: Accept) -> None:
    async with opened(accept) as (sock, peer), trio.open_nursery() as nursery:
        nursery.start_soon(receive_n, sock, 1)
        await peer.write(peer.frame(PING, b"are you there"))
        assert await peer.read_frame() == (PONG, b"are you there")
        await peer.write(peer.frame(TEXT, b"x"))


async def read_all(peer: Peer) -> None:
    while True:
        await peer.read_frame()


# --- bad input --------------------------------------------------------------------------

BROKEN = {
    "oversized": (lambda p: p.frame(TEXT, b"x" * 70_000), 1009),
    "unmasked": (lambda p: b"\x81\x01x", 1002),
    "reserved bit": (lambda p: b"\xc1\x80\x00\x00\x00\x00", 1002),
    "unknown opcode": (lambda p: b"\x83\x80\x00\x00\x00\x00", 1002),
    "not UTF-8": (lambda p: p.frame(TEXT, b"\xff"), 1007),
    "reserved close code": (lambda p: p.close_frame(1006), 1002),
}


@pytest.mark.parametrize(("make", "code"), BROKEN.values(), ids=BROKEN.keys())
async def test_a_fault_is_told_to_both_sides(
    accept: Accept, make: Callable[[Peer], bytes], code: int
) -> None:
    async with opened(accept) as (sock, peer), trio.open_nursery() as nursery:
        await peer.write(peer.frame(TEXT, b"before"))
        assert await receive_n(sock, 1) == [b"before"]
        # more behind it, unread when the socket is closed: the close must arrive all the same
        nursery.start_soon(peer.write, make(peer) + peer.frame(TEXT, b"after") * 20)
        with trio.fail_after(LIMIT_S), pytest.raises(RemoteProtocolError) as fault:
            await sock.receive()
        assert fault.value.close_code == code
        nursery.start_soon(sock.aclose)
        assert (await peer.read_until_close())[0] == code
        await peer.stream.aclose()
        with pytest.raises(SocketClosed) as ending:
            await sock.receive()
        assert ending.value.code == code
        assert not sock.send(b"x")


async def test_a_peer_that_closes(accept: Accept) -> None:
    async with opened(accept) as (sock, peer):
        await peer.write(peer.frame(TEXT, b"last"), peer.close_frame(4001, b"bye"))
        assert await receive_n(sock, 1) == [b"last"]
        for _ in range(2):
            with trio.fail_after(LIMIT_S), pytest.raises(SocketClosed) as ending:
                await sock.receive()
            assert (ending.value.code, ending.value.reason) == (4001, "bye")
        assert await peer.read_until_close() == (4001, [])
        assert not sock.send(b"x")
        assert sock.dropped_messages == 0


async def test_a_peer_that_vanishes(accept: Accept) -> None:
    async with opened(accept) as (sock, peer):
        await peer.write(peer.frame(TEXT, b"half a message")[:9])
        await peer.stream.aclose()
        for _ in range(2):
            with trio.fail_after(LIMIT_S), pytest.raises(SocketClosed) as ending:
                await sock.receive()
            assert ending.value.code == 1006
        assert not sock.send(b"x")


async def test_a_peer_that_resets(accept: Accept) -> None:
    async with opened(accept) as (sock, peer):
        peer.stream.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        await peer.stream.aclose()
        with trio.fail_after(LIMIT_S):
            while sock.send(b"x" * 1000):
                await trio.lowlevel.checkpoint()
            with pytest.raises(SocketClosed) as ending:
                await sock.receive()
        assert ending.value.code == 1006


# --- a peer that does not read ----------------------------------------------------------


async def back_up(sock: MediaSocket, message: bytes = b"old" * 2000) -> int:
    """Send until it is refused though whoever writes has written all they can; count the taken."""
    taken = 0
    while True:
        while sock.send(message):
            taken += 1
        await trio.testing.wait_all_tasks_blocked(0.005)
        if not sock.send(message):
            return taken
        taken += 1


async def test_a_peer_that_never_reads_is_refused_then_given_up(accept: Accept) -> None:
    limits = msgspec.structs.replace(LIMITS, send_stall_s=1.0)
    async with opened(accept, limits) as (sock, _), opened(accept) as (other, other_peer):
        await back_up(sock)
        dropped = sock.dropped_messages
        assert dropped >= 2
        assert not sock.send(b"x" * 10_000)
        assert sock.dropped_messages == dropped + 1
        assert other.send(b"goes on")
        assert await other_peer.read_frame() == (TEXT, b"goes on")
        began = trio.current_time()
        with trio.fail_after(LIMIT_S), pytest.raises(SocketClosed) as ending:
            await sock.receive()
        assert ending.value.code == 1006
        assert trio.current_time() - began < LIMIT_S
        assert not sock.send(b"x")
        assert sock.dropped_messages == dropped + 1  # closed is not the same as backed up


async def test_what_was_taken_arrives_whole_and_in_order(accept: Accept) -> None:
    async with opened(accept) as (sock, peer):
        taken = await back_up(sock)
        assert [await peer.read_frame() for _ in range(taken)] == [(TEXT, b"old" * 2000)] * taken
        assert sock.send(b"again")
        assert await peer.read_frame() == (TEXT, b"again")


async def test_a_flush_overtakes_all_that_is_not_begun(accept: Accept) -> None:
    async with opened(accept) as (sock, peer):
        taken = await back_up(sock)
        assert sock.send(b"clear", flush=True)
        assert sock.send(b"new")
        frames = []
        while (frame := await peer.read_frame()) != (TEXT, b"new"):
            frames.append(frame)
        assert frames[-1] == (TEXT, b"clear")
        assert set(frames[:-1]) == {(TEXT, b"old" * 2000)}  # the one begun is whole
        queued = LIMITS.outbox_max_bytes // len(b"old" * 2000)
        assert taken - queued <= len(frames) - 1 < taken


async def test_a_flush_is_taken_on_an_idle_socket(accept: Accept) -> None:
    async with opened(accept) as (sock, peer):
        assert sock.send(b"clear", flush=True)
        assert await peer.read_frame() == (TEXT, b"clear")


async def test_a_ping_is_answered_ahead_of_a_backlog(accept: Accept) -> None:
    async with opened(accept) as (sock, peer), trio.open_nursery() as nursery:
        nursery.start_soon(receive_n, sock, 1)
        taken = await back_up(sock)
        await peer.write(peer.frame(PING, b"p"), peer.frame(TEXT, b"end"))
        await trio.testing.wait_all_tasks_blocked(0.01)
        frames = [await peer.read_frame() for _ in range(taken + 1)]
        assert frames.count((PONG, b"p")) == 1
        # only what had been begun, or lay in the kernel, came first
        assert len(frames) - frames.index((PONG, b"p")) >= 5


# --- closing ----------------------------------------------------------------------------


async def test_closing_writes_what_is_queued_then_the_close(accept: Accept) -> None:
    async with opened(accept) as (sock, peer), trio.open_nursery() as nursery:
        taken = await back_up(sock)
        nursery.start_soon(sock.aclose, 1001, "drain")
        code, frames = await peer.read_until_close()
        assert (code, len(frames)) == (1001, taken)
        await peer.write(peer.close_frame(1001))
        assert await peer.at_end()
        with trio.fail_after(LIMIT_S), pytest.raises(SocketClosed) as ending:
            await sock.receive()
        assert (ending.value.code, ending.value.reason) == (1001, "drain")
        assert not sock.send(b"x")


async def test_closing_ends_a_receive_that_waits(accept: Accept) -> None:
    async with opened(accept) as (sock, peer), trio.open_nursery() as nursery:

        async def listen() -> None:
            with pytest.raises(SocketClosed) as ending:
                await sock.receive()
            assert ending.value.code == 4000

        nursery.start_soon(listen)
        await trio.testing.wait_all_tasks_blocked()
        nursery.start_soon(sock.aclose, 4000)
        assert (await peer.read_until_close())[0] == 4000
        await peer.write(peer.close_frame(4000))


async def test_closing_twice_and_at_once(accept: Accept) -> None:
    async with opened(accept) as (sock, peer), trio.open_nursery() as nursery:
        nursery.start_soon(sock.aclose)
        nursery.start_soon(sock.aclose)
        assert await peer.read_until_close() == (1000, [])
        await peer.write(peer.close_frame(1000))
        assert await peer.at_end()


async def test_closing_with_a_code_that_cannot_be_sent(accept: Accept) -> None:
    async with opened(accept) as (sock, peer):
        with pytest.raises(LocalProtocolError):
            await sock.aclose(1006)
        assert sock.send(b"still open")
        assert await peer.read_frame() == (TEXT, b"still open")


async def test_closing_a_peer_that_never_answers_is_bounded(accept: Accept) -> None:
    async with opened(accept, HASTY_TO_CLOSE) as (sock, peer):
        await back_up(sock)
        with trio.fail_after(LIMIT_S / 2):  # and not what else would end it
            await sock.aclose()
        await peer.stream.aclose()


async def test_a_cancelled_close_still_says_goodbye(accept: Accept) -> None:
    async with opened(accept, HASTY_TO_CLOSE) as (sock, peer):
        with trio.CancelScope() as scope:
            scope.cancel()
            await sock.aclose(1001)
        assert (await peer.read_until_close())[0] == 1001


async def test_cancelling_everything_leaves_nothing_open(accept: Accept) -> None:
    async with wire() as (stream, peer):
        with trio.fail_after(LIMIT_S), trio.CancelScope() as scope:
            async with trio.open_nursery() as nursery:
                await peer.write(REQUEST)
                sock = await accept(stream, let_in, HASTY_TO_CLOSE, nursery)
                assert sock is not None
                await peer.read_response()
                await back_up(sock, b"x" * 60_000)
                try:
                    scope.cancel()
                    await sock.receive()
                finally:
                    await sock.aclose()
        assert scope.cancelled_caught
        assert stream.socket.fileno() == -1
        with pytest.raises((EOFError, trio.BrokenResourceError)):
            await read_all(peer)


async def test_a_cancel_at_any_turn_leaves_nothing_open(accept: Accept) -> None:
    async def life(stream: trio.SocketStream, nursery: trio.Nursery) -> None:
        sock = await accept(stream, let_in, LIMITS, nursery)
        assert sock is not None
        try:
            sock.send(b"x" * 60_000)
            sock.send(b"x" * 60_000)
            while True:
                await sock.receive()
        finally:
            await sock.aclose()

    async def answer(peer: Peer) -> None:
        try:
            await peer.read_response()
            await peer.write(peer.frame(TEXT, b"hello"), peer.frame(PING))
            assert (await peer.read_until_close())[0] == 1000
            await peer.write(peer.close_frame(1000))
        except (IndexError, EOFError, trio.BrokenResourceError):
            pass  # cut off before its answer, or before its close
        await peer.stream.aclose()

    for turns in range(40):
        async with wire() as (stream, peer):
            await peer.write(REQUEST)
            with trio.fail_after(LIMIT_S):
                async with trio.open_nursery() as outer:
                    outer.start_soon(answer, peer)
                    async with trio.open_nursery() as nursery:
                        nursery.start_soon(life, stream, nursery)
                        for _ in range(turns):
                            await trio.lowlevel.checkpoint()
                        nursery.cancel_scope.cancel()
            assert stream.socket.fileno() == -1
