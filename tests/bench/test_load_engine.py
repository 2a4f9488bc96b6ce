"""The load generator over real sockets, against a server of a few lines."""

from __future__ import annotations

import socket
import threading
from base64 import b64encode
from collections.abc import Iterator

import msgspec
import pytest
from wsproto.utilities import generate_accept_token

from bench.load import Load, LoadError, Network, Plan
from bench.load.voice import question
from rtcore.media._frames import TEXT, FrameCodec

LIMIT_S = 30.0
PIECE = (
    b'{"event":"playAudio","media":{"contentType":"audio/x-mulaw","sampleRate":8000,'
    b'"payload":"%b"}}'
)


class Server:
    """Takes one call, keeps what it says, and says what it is told at the first frame of it."""

    def __init__(self, *says: bytes, status: bytes = b"101 Switching Protocols") -> None:
        self.heard: list[dict[str, object]] = []
        self._says, self._status = says, status
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._listener.settimeout(LIMIT_S)
        self.url = f"ws://127.0.0.1:{self._listener.getsockname()[1]}/a?b=c"
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def close(self) -> None:
        self._thread.join(LIMIT_S)
        self._listener.close()
        assert not self._thread.is_alive()

    def _serve(self) -> None:
        sock, _ = self._listener.accept()
        with sock:
            sock.settimeout(LIMIT_S)
            request = b""
            while b"\r\n\r\n" not in request:
                request += sock.recv(4096)
            key = request.partition(b"Sec-WebSocket-Key: ")[2].partition(b"\r\n")[0]
            sock.sendall(
                b"HTTP/1.1 %b\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                b"Sec-WebSocket-Accept: %b\r\n\r\n" % (self._status, generate_accept_token(key))
            )
            codec = FrameCodec(is_client=False, max_message_bytes=1 << 16)
            while not codec.close_code and (data := sock.recv(4096)):
                for message in codec.feed(data):
                    self.heard.append(msgspec.json.decode(message))
                    if len(self.heard) == 2:
                        for said in self._says:
                            sock.sendall(codec.encode(TEXT, said))


@pytest.fixture
def loads() -> Iterator[list[Load]]:
    made: list[Load] = []
    yield made
    for load in made:
        load.close()


def test_a_call_says_start_and_then_a_frame_every_20_ms(loads: list[Load]) -> None:
    server = Server()
    load = Load(server.url, Plan(speech=question(1)))
    loads.append(load)
    load.grow(1)
    step = load.measure(0.3)
    load.close()
    loads.clear()
    server.close()
    first, *frames = server.heard
    assert first["event"] == "start"
    assert {frame["event"] for frame in frames} == {"media"}
    assert [frame["media"]["chunk"] for frame in frames] == [*range(1, len(frames) + 1)]  # type: ignore[index]
    assert step.counts.frames == pytest.approx(step.seconds * 50, abs=3)
    assert step.calls == 1
    assert 0 < step.core_share < 1
    assert step.counts.lost_calls == 0
    assert len(step.heard.lateness_ms) == pytest.approx(step.seconds * 5000, rel=0.2)


def test_checkpoints_and_clears_are_answered(loads: list[Load]) -> None:
    server = Server(
        PIECE % b64encode(b"\x00" * 160),
        b'{"event":"checkpoint","streamId":"call-0-stream","name":"one"}',
        b'{"event":"clearAudio","streamId":"call-0-stream"}',
        b"no message of any carrier",
    )
    load = Load(server.url, Plan(speech=question(1)))
    loads.append(load)
    load.grow(1)
    step = load.measure(1.0)
    load.close()
    loads.clear()
    server.close()
    assert step.counts.pieces == 1
    assert len(step.heard.cleared) == 1
    assert "clearedAudio" in {message["event"] for message in server.heard}


def test_a_question_that_waits_at_the_end_is_told_if_it_waits_longer_than_any_answered(
    loads: list[Load],
) -> None:
    server = Server()
    load = Load(server.url, Plan(speech=question(1)), spread_s=0.0, greeting_s=0.0)
    loads.append(load)
    load.grow(1)
    assert load.measure(0.6).heard.overdue_ms == []  # nothing was answered to compare it with
    (waited_ms,) = load._overdue_ms(50.0)
    assert 50 < waited_ms < 800
    assert load._overdue_ms(waited_ms + 60_000) == []
    load.close()
    loads.clear()
    server.close()


def test_a_network_delays_what_passes_it(loads: list[Load]) -> None:
    server = Server(b'{"event":"clearAudio","streamId":"call-0-stream"}')
    load = Load(server.url, Plan(speech=question(1)), Network(delay_ms=50, jitter_ms=10))
    loads.append(load)
    load.grow(1)
    step = load.measure(1.0)
    load.close()
    loads.clear()
    server.close()
    ((_, cleared_s),) = step.heard.cleared
    opened_s = load.opened_s[0]
    # its second message is the first frame, 0 to 20 ms after the start
    assert 0.1 <= cleared_s - opened_s < 0.9  # 140 ms, and what the machine is late by


def test_a_server_that_refuses_is_told_of(loads: list[Load]) -> None:
    server = Server(status=b"403 Forbidden")
    load = Load(server.url, Plan(speech=question(1)))
    loads.append(load)
    with pytest.raises(LoadError, match="no call was taken"):
        load.grow(1)
    assert load.counts.lost_calls == 1
    load.close()
    loads.clear()
    server.close()


def test_nobody_there_is_told_of(loads: list[Load]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    load = Load(f"ws://127.0.0.1:{port}/", Plan(speech=question(1)))
    loads.append(load)
    with pytest.raises(LoadError, match=str(port)):
        load.grow(1)


@pytest.mark.parametrize("url", ["http://host/", "ws://", "ws:/path"])
def test_an_address_that_cannot_be_called_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match="ws://host:port/path"):
        Load(url, Plan(speech=question(1)))
