"""A socket's octets, over a real pair of them: read, written, lost, left."""

from __future__ import annotations

import select
import socket
import struct
from collections.abc import Iterator

import pytest

from rtcore.media._beats import Pump
from rtcore.media._frames import TEXT, FrameCodec
from rtcore.media._wire import Wire

LIMIT_S = 30.0  # for what takes milliseconds


class Pair:
    """A wire, and the peer at its other end."""

    def __init__(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            self.peer = socket.create_connection(listener.getsockname())
            self.sock, _ = listener.accept()
        self.sock.setblocking(False)
        self.codec = FrameCodec(is_client=True, max_message_bytes=2**20)
        self.ours = FrameCodec(is_client=False, max_message_bytes=2**20)
        self.pump = Pump()
        self.later = 0  # times the wire asked for
        self.wire = Wire(self.sock.fileno(), self.ours, bytearray(4096), 4096, self.note_later)

    def note_later(self) -> None:
        self.later += 1

    def say(self, *messages: bytes) -> None:
        self.peer.sendall(b"".join(self.codec.encode(TEXT, each) for each in messages))
        self.sock.setblocking(True)
        self.sock.recv(1, socket.MSG_PEEK)  # it has come
        self.sock.setblocking(False)

    def reset(self) -> None:
        self.peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.peer.close()


@pytest.fixture
def pair() -> Iterator[Pair]:
    made = Pair()
    yield made
    made.wire.leave()
    made.pump.close()
    made.sock.close()
    made.peer.close()


def test_what_has_come_is_read_and_nothing_is_waited_for(pair: Pair) -> None:
    assert pair.wire.receive() == []
    pair.say(b"one", b"two")
    assert pair.wire.receive() == [b"one", b"two"]
    assert pair.wire.receive() == []
    assert pair.wire.lost is None


def test_an_end_and_a_reset_are_told_apart(pair: Pair) -> None:
    pair.peer.shutdown(socket.SHUT_WR)
    pair.sock.setblocking(True)
    pair.sock.recv(1, socket.MSG_PEEK)
    assert pair.wire.receive() == []
    assert pair.wire.lost == "connection ended without a close"
    other = Pair()
    other.reset()
    assert other.wire.receive() == []
    assert other.wire.lost == "connection lost: Connection reset by peer"
    assert not other.wire.write(b"x")  # nothing more goes
    other.sock.close()


def test_a_peer_that_does_not_read_gets_what_the_kernel_takes_and_the_rest_later(
    pair: Pair,
) -> None:
    frame = bytes(range(256)) * 2**15
    assert not pair.wire.write(frame)
    assert pair.wire.has_begun
    assert not pair.wire.write_on()
    assert pair.wire.lost is None
    got = b""
    while len(got) < len(frame):
        got += pair.peer.recv(2**20)
        is_written = pair.wire.write_on()
    assert is_written
    assert not pair.wire.has_begun
    assert got == frame


def test_a_text_goes_at_once_or_not_at_all(pair: Pair) -> None:
    assert pair.wire.send_text(b"small")
    assert pair.codec.feed(pair.peer.recv(100)) == [b"small"]
    assert pair.later == 0
    large = b"x" * 8 * 2**20
    assert pair.wire.send_text(large)
    assert pair.later == 1
    assert not pair.wire.send_text(b"between")  # its octets
    octets = 0
    while not pair.wire.write_on():
        octets += len(pair.peer.recv(2**20))
    assert pair.wire.send_text(b"behind")
    pair.sock.shutdown(socket.SHUT_WR)
    while piece := pair.peer.recv(2**20):
        octets += len(piece)
    assert octets == len(large) + 10 + len(b"behind") + 2
    assert pair.later == 1


def test_no_text_goes_after_a_close_of_either_side(pair: Pair) -> None:
    pair.peer.sendall(pair.codec.encode_close(1000))
    pair.sock.setblocking(True)
    pair.wire.receive()
    assert not pair.wire.send_text(b"x")
    other = Pair()
    other.ours.encode_close(1000)
    assert not other.wire.send_text(b"x")
    other.sock.close()
    other.peer.close()


def test_a_text_that_is_lost_on_its_way_is_told(pair: Pair) -> None:
    pair.sock.shutdown(socket.SHUT_WR)
    assert pair.wire.send_text(b"x")
    assert pair.later == 1
    assert pair.wire.lost == "connection lost: Broken pipe"
    assert not pair.wire.send_text(b"y")
    assert pair.later == 1


def test_a_broken_pipe_is_lost_and_not_raised(pair: Pair) -> None:
    pair.sock.shutdown(socket.SHUT_WR)
    assert not pair.wire.write(b"x")
    assert pair.wire.lost == "connection lost: Broken pipe"


def test_a_closed_socket_is_lost_and_not_raised(pair: Pair) -> None:
    pair.sock.close()
    assert pair.wire.receive() == []
    assert pair.wire.lost == "connection lost: Bad file descriptor"


def test_a_wire_that_was_given_up_leaves_whoever_has_the_number_alone(pair: Pair) -> None:
    pair.say(b"not for you")
    pair.wire.lose("closed")
    pair.wire.lose("a second time")
    assert pair.wire.lost == "closed"
    assert pair.wire.receive() == []
    assert not pair.wire.write(b"x")
    assert not pair.wire.has_begun
    assert pair.sock.recv(100)  # still there
    pair.sock.close()
    assert pair.peer.recv(100) == b""  # nothing was written


def test_messages_before_a_close_are_handed_on_after_the_close_was_seen(pair: Pair) -> None:
    seen: list[object] = []

    def look() -> None:
        seen.append("looked")
        pair.wire.leave()

    pair.wire.attend(seen.append, look, seen.append, pair.pump)
    pair.peer.sendall(pair.codec.encode(TEXT, b"last") + pair.codec.encode_close(1000))
    pair.sock.setblocking(True)
    pair.sock.recv(1, socket.MSG_PEEK)
    pair.wire.read()
    pair.wire.read()  # nobody attends any more
    assert seen == ["looked", [b"last"]]


def test_what_a_handler_raises_is_told_once_and_ends_the_reading(pair: Pair) -> None:
    told: list[BaseException] = []

    def refuse(messages: list[bytes]) -> None:
        raise ZeroDivisionError

    pair.wire.attend(refuse, lambda: None, told.append, pair.pump)
    pair.say(b"x")
    pair.wire.read()
    pair.say(b"y")
    pair.wire.read()
    assert [type(each) for each in told] == [ZeroDivisionError]


def test_what_a_handler_raises_is_told_though_nobody_attends_any_more(pair: Pair) -> None:
    told: list[BaseException] = []

    def refuse(messages: list[bytes]) -> None:
        pair.wire.leave()
        raise ZeroDivisionError

    pair.wire.attend(refuse, lambda: None, told.append, pair.pump)
    pair.say(b"x")
    pair.wire.read()
    assert [type(each) for each in told] == [ZeroDivisionError]


def test_a_buffer_that_is_too_small_is_not_written_past() -> None:
    made = Pair()
    codec = FrameCodec(is_client=False, max_message_bytes=2**20)
    with pytest.raises(ValueError, match="octets"):
        Wire(made.sock.fileno(), codec, bytearray(10), 11, made.note_later)
    made.sock.close()
    made.peer.close()


def has_come(pump: Pump) -> bool:
    """Whether there is something that is to be read at once, or comes to be."""
    return bool(select.select([pump.fileno()], [], [], 0.05)[0])


@pytest.fixture
def heard(pair: Pair) -> list[bytes]:
    """What the pump has read."""
    got: list[bytes] = []
    pair.wire.attend(got.extend, lambda: None, got.append, pair.pump)
    return got


def test_what_is_urgent_is_read_at_once_and_all_else_with_the_others(
    pair: Pair, heard: list[bytes]
) -> None:
    pair.say(b"one")
    assert not has_come(pair.pump)
    pair.pump.read_at_once()
    assert heard == []
    pair.pump.read()
    assert heard == [b"one"]
    pair.wire.hurry(True)
    pair.wire.hurry(True)  # again: no matter
    pair.say(b"two")
    assert has_come(pair.pump)
    pair.pump.read_at_once()
    assert heard == [b"one", b"two"]
    pair.say(b"six")
    pair.wire.hurry(False)
    assert not has_come(pair.pump)
    pair.wire.hurry(True)  # it has come already
    assert has_come(pair.pump)
    pair.pump.read()
    assert heard == [b"one", b"two", b"six"]


def test_what_has_come_can_be_had_at_any_time(pair: Pair, heard: list[bytes]) -> None:
    pair.say(b"one")
    pair.wire.read()
    assert heard == [b"one"]


@pytest.mark.parametrize("is_urgent", [False, True])
def test_nobody_reads_what_was_left(pair: Pair, heard: list[bytes], is_urgent: bool) -> None:
    pair.wire.hurry(is_urgent)
    pair.wire.leave()
    assert pair.pump.sockets == 0
    pair.say(b"one")
    assert not has_come(pair.pump)
    pair.pump.read()
    pair.wire.hurry(True)
    assert not has_come(pair.pump)
    assert heard == []
    assert pair.wire.receive() == [b"one"]


def test_who_reads_is_not_read_by_what_it_reads(pair: Pair) -> None:
    got: list[list[bytes]] = []

    def catch_up(messages: list[bytes]) -> None:
        got.append(messages)
        if len(got) == 1:
            pair.say(b"two")
            pair.wire.read()

    pair.wire.attend(catch_up, lambda: None, got.append, pair.pump)
    pair.say(b"one")
    pair.wire.read()
    assert got == [[b"one"]]
    pair.wire.read()
    assert got == [[b"one"], [b"two"]]
