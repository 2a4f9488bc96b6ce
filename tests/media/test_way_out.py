"""The way out, compiled and as its twin has it: the same messages to the peer at the same times."""

from __future__ import annotations

import socket
from random import Random
from typing import Any

import pytest
import trio
import trio.testing

from rtcore.errors import LocalProtocolError
from rtcore.media import _way_out_py, line
from rtcore.media._frames import FrameCodec
from rtcore.media.fast import FastSocket
from rtcore.media.limits import SocketLimits
from rtcore.media.pacer import Pacer
from rtcore.protocol import _media_py, plivo
from tests.twins import on_twin

Made = tuple[Any, Any]  # the line and its codec
COMPILED: Made = (line.Line, plivo.PlivoStream)
TWIN: Made = (
    on_twin(line, {"rtcore.media._way_out": _way_out_py}).Line,
    on_twin(plivo, {"rtcore.protocol._media": _media_py}).PlivoStream,
)
BOTH = pytest.mark.parametrize("made", [COMPILED, TWIN], ids=["compiled", "twin"])
LIMITS = SocketLimits(outbox_max_bytes=4096, send_stall_s=60)
SEND_BUFFER = 4608  # octets, the least Linux lets one have: a few pieces
FORMATS = {
    "mulaw": b'"encoding":"audio/x-mulaw"',
    "alaw": b'"encoding":"audio/x-alaw"',
    "l16": b'"encoding":"audio/x-l16","sampleRate":8000',
    "never usual": b'"encoding":"audio/x-l16","sampleRate":16000',
}
STOP = b'{"event":"stop"}'
SPEECH = Random(1).randbytes(16_000)  # a second


class Unwired:
    """A socket that is asked for each message."""

    def __init__(self, under: FastSocket) -> None:
        self._under = under

    def send(self, message: bytes, *, flush: bool = False) -> bool:
        return self._under.send(message, flush=flush)


class Rig:
    """A line over a real pair of sockets, and its peer."""

    def __init__(
        self, made: Made, nursery: trio.Nursery, *, is_wired: bool = True, lead_ms: int = 120
    ) -> None:
        kind, codec = made
        ours, self._peer = socket.socketpair()
        ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER)
        ours.setblocking(False)
        self._peer.setblocking(False)
        self._frames = FrameCodec(is_client=True, max_message_bytes=2**20)
        self.socket = FastSocket(ours, LIMITS, nursery, is_client=False)
        self.pacer = Pacer()
        self.line = kind(
            self.socket if is_wired else Unwired(self.socket),
            codec(),
            self.pacer,
            lead_ms=lead_ms,
            chunk_ms=40,
            unsent_max_ms=400,
        )

    def start(self, form: str = "mulaw") -> None:
        fields = b'{"event":"start","start":{"streamId":"s","mediaFormat":{%b}}}'
        self.line.events([fields % FORMATS[form]])

    def play(self, pcm: bytes, now_s: float = 0.0) -> None:
        self.line.append(pcm)
        self.line.write_due(now_s)

    async def read(self) -> list[bytes]:
        """All that comes, as long as something does."""
        messages = []
        while True:
            await trio.testing.wait_all_tasks_blocked()
            try:
                messages += self._frames.feed(self._peer.recv(2**16))
            except BlockingIOError:
                return messages

    async def end(self) -> None:
        self._peer.close()
        await self.socket.aclose()


async def life(made: Made, form: str, seed: int, *, is_wired: bool = True) -> list[object]:
    """What a line tells us and its peer while a reply is fed, held, dropped and read, or not."""
    dice, now_s, told = Random(seed), 100.0, list[object]()
    async with trio.open_nursery() as nursery:
        rig = Rig(made, nursery, is_wired=is_wired)
        line, playout = rig.line, rig.line.playout
        rig.start(form)
        for number in range(300):
            if number == 250:
                line.events([STOP])
            match dice.randrange(14):
                case 0 | 1:
                    rig.play(dice.randbytes(2 * dice.randrange(3000)), now_s)
                case 2:
                    told.append(line.checkpoint(f"r{number}"))
                    line.write_due(now_s)
                case 3 if dice.random() < 0.3:
                    line.pause()
                case 4:
                    told.append(line.resume(now_s, dice.choice([0, 480])))
                case 5 if dice.random() < 0.3:
                    line.clear(max(0, playout.sent - dice.randrange(2000)))
                case 6 if dice.random() < 0.3:
                    told.append(line.send_dtmf("1"))
                case 7:
                    told.append(await rig.read())
                case _:
                    now_s += dice.choice([0.02, 0.04, 0.04, 0.3])
                    if line.due_s <= now_s:
                        line.pump(now_s)
            told.append((line.due_s, playout.sent, playout.end, rig.socket.dropped_messages))
            told.append(rig.pacer.speaking)
        told.append(await rig.read())
        await rig.end()
    return told


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("seed", range(5))
async def test_a_line_is_the_same_on_the_twin_and_over_a_socket_without_a_wire(
    form: str, seed: int
) -> None:
    told = await life(COMPILED, form, seed)
    assert told == await life(TWIN, form, seed)
    assert told == await life(COMPILED, form, seed, is_wired=False)
    assert told == await life(TWIN, form, seed, is_wired=False)


@BOTH
@pytest.mark.parametrize("form", ["mulaw", "alaw", "l16"])
async def test_the_usual_piece_goes_past_the_line(
    made: Made, form: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with trio.open_nursery() as nursery:
        rig, asked = Rig(made, nursery), list[object]()
        rig.start(form)
        monkeypatch.setattr(rig.line, "_write", asked.append)
        rig.play(SPEECH)
        rig.line.pump(0.04)
        assert len(await rig.read()) == 2
        assert asked == []
        rig.line.events([STOP])
        rig.line.pump(0.08)
        assert asked == [SPEECH[160 * 16 : 200 * 16]]
        assert await rig.read() == []
        await rig.end()


@BOTH
async def test_what_may_not_be_sent_is_said_as_ever(made: Made) -> None:
    async with trio.open_nursery() as nursery:
        rig = Rig(made, nursery, lead_ms=10_000)
        with pytest.raises(LocalProtocolError, match="before start"):
            rig.play(SPEECH)
        rig.start()
        with pytest.raises(LocalProtocolError, match="message of"):
            rig.play(SPEECH * 10)
        rig.line.clear(0)
        rig.line.playout.append(b"\0")  # half a sample
        rig.line.playout.end = 1
        with pytest.raises(LocalProtocolError, match="half a sample"):
            rig.line.pump(20.0)
        await rig.end()


@BOTH
async def test_a_peer_that_does_not_read_costs_pieces_and_they_are_counted(made: Made) -> None:
    async with trio.open_nursery() as nursery:
        rig = Rig(made, nursery)
        rig.start()
        rig.play(SPEECH)
        for number in range(1, 22):
            rig.line.pump(number * 0.04)
        dropped = rig.socket.dropped_messages
        assert 0 < dropped < 22
        assert len(await rig.read()) == 22 - dropped  # the rest was kept, and goes in its order
        rig.line.pump(0.88)
        assert len(await rig.read()) == 1  # at once again
        assert rig.socket.dropped_messages == dropped
        await rig.end()


@BOTH
async def test_a_line_whose_peer_is_gone_is_pumped_without_a_word(made: Made) -> None:
    async with trio.open_nursery() as nursery:
        rig = Rig(made, nursery)
        rig.start()
        await rig.end()
        rig.play(SPEECH)
        rig.line.pump(0.04)
        lost = Rig(made, nursery)
        lost.start()
        lost._peer.close()
        lost.play(SPEECH)
        lost.line.pump(0.04)
        assert not lost.socket.send(b"x")
        assert (rig.socket.dropped_messages, lost.socket.dropped_messages) == (0, 0)
        await lost.socket.aclose()


@BOTH
async def test_who_waits_for_room_is_woken_when_half_has_gone(made: Made) -> None:
    async with trio.open_nursery() as nursery:
        rig, woken = Rig(made, nursery), list[float]()
        rig.start()
        rig.play(SPEECH[: 16 * 600])  # 480 ms unsent, of 400

        async def feed() -> None:
            await rig.line.room()
            woken.append(rig.line.playout.unsent_samples / 8)

        nursery.start_soon(feed)
        for number in range(1, 13):
            await trio.testing.wait_all_tasks_blocked()
            rig.line.pump(number * 0.04)
            await rig.read()
        assert woken == [200]
        await rig.end()
