"""The mouth: sound that is there together goes to the line together, and counts as ever."""

from __future__ import annotations

import base64
from collections.abc import Callable
from random import Random

import msgspec
import pytest
import trio
import trio.testing

from rtcore.config import CallConfig
from rtcore.ledger import Ledger, Span
from rtcore.media.line import Line
from rtcore.media.pacer import Pacer
from rtcore.ports import SpeechAudio, WordTime
from rtcore.protocol.plivo import PlivoStream
from rtcore.reply import TOGETHER_MAX_BYTES, Mouth, Reply, _with_ready

START = (
    b'{"event":"start","start":{"streamId":"s",'
    b'"mediaFormat":{"encoding":"audio/x-l16","sampleRate":8000}}}'
)
WORDS = ["one", "two", "three", "four", "five", "six"]
LOUD, SILENT = b"\x00\x20\x00\xe0" * 40, bytes(160)  # 10 ms


class Carrier:
    """A socket that takes everything."""

    def __init__(self) -> None:
        self.messages: list[dict[str, object]] = []

    def send(self, message: bytes, *, flush: bool = False) -> bool:
        self.messages.append(msgspec.json.decode(message))
        return True

    @property
    def heard(self) -> list[object]:
        """Sound and marks in their order, however the sound was cut."""
        told: list[object] = []
        for message in self.messages:
            if message["event"] != "playAudio":
                told.append(message["name"])
                continue
            pcm = base64.b64decode(message["media"]["payload"])  # type: ignore[index]
            if told and isinstance(told[-1], bytes):
                pcm = told.pop() + pcm  # type: ignore[operator]
            told.append(pcm)
        return told


def spoken(seed: int) -> list[SpeechAudio]:
    """Three segments in pieces of any size: led by silence, cut at odd octets, some empty."""
    dice, pieces = Random(seed), list[SpeechAudio]()
    for segment in range(3):
        sound = SILENT * dice.randrange(4) + LOUD * dice.randrange(20, 60)
        words = iter(WORDS)
        while sound:
            cut = dice.choice([0, 160, 321, 800, 1600, 1601, len(sound)])
            named = next(words, None) if dice.random() < 0.5 else None
            at = dice.randrange(4000)
            pieces.append(
                SpeechAudio(
                    segment=segment,
                    pcm=sound[:cut],
                    is_last=not sound[cut:] and dice.random() < 0.5,
                    words=(WordTime(text=named, start_sample=0, end_sample=at),) if named else (),
                )
            )
            sound = sound[cut:]
        if not pieces[-1].is_last:
            pieces.append(SpeechAudio(segment=segment, pcm=b"", is_last=True))
    return pieces


class Said(Reply):
    """A reply whose text is known."""

    def segment(self, index: int) -> tuple[int, str]:
        return index, " ".join(WORDS)


class Rig:
    """A mouth, its line and its ledger."""

    def __init__(self, unsent_max_ms: int, on_audible: Callable[[Reply], None]) -> None:
        config = CallConfig(unsent_max_ms=unsent_max_ms)
        self.carrier, self.ledger = Carrier(), Ledger()
        self.line = Line(
            self.carrier,  # type: ignore[arg-type]
            PlivoStream(),
            Pacer(),
            lead_ms=config.lead_ms,
            chunk_ms=config.chunk_ms,
            unsent_max_ms=unsent_max_ms,
        )
        self.line.events([START])
        self.mouth = Mouth(self.line, self.ledger, config, on_audible)


async def play(batches: list[list[SpeechAudio]]) -> tuple[list[object], list[Span], list[float]]:
    """What the carrier got, what the ledger holds, and when the reply became audible."""
    audible = list[float]()
    rig = Rig(10_000, lambda _: audible.append(trio.current_time()))
    reply = Said(number=1)
    reply.committed.set()
    for batch in batches:
        await rig.mouth.play(reply, batch)
    assert reply.spoken_segments == 3
    now_s = trio.current_time()
    while rig.line.playout.unsent_samples:
        now_s += 0.04
        rig.line.pump(now_s)
    rig.ledger.note_sent(rig.line.playout.sent)
    assert rig.ledger.appended == rig.line.playout.end
    return rig.carrier.heard, rig.ledger.spans, audible


@pytest.mark.parametrize("seed", range(30))
async def test_pieces_played_together_are_those_played_one_by_one(
    autojump_clock: trio.testing.MockClock, seed: int
) -> None:
    pieces, dice = spoken(seed), Random(seed)
    alone = await play([[piece] for piece in pieces])
    assert await play([pieces]) == alone
    cut = dice.randrange(len(pieces))
    assert await play([pieces[:cut], pieces[cut:]]) == alone
    heard, spans, audible = alone
    assert [name for name in heard if isinstance(name, str)] == ["r1.0", "r1.1", "r1.2"]
    assert all(span.is_complete for span in spans)
    assert len(audible) == 1


async def test_what_is_ready_is_taken_together_up_to_a_second_and_nothing_is_waited_for() -> None:
    tx, rx = trio.open_memory_channel[SpeechAudio](100)
    half = SpeechAudio(segment=0, pcm=bytes(TOGETHER_MAX_BYTES // 2))
    assert _with_ready(half, rx) == [half]
    for _ in range(3):
        tx.send_nowait(half)
    assert _with_ready(half, rx) == [half, half]
    assert _with_ready(half, rx) == [half, half]
    tx.send_nowait(half)
    tx.close()
    assert _with_ready(SpeechAudio(segment=0, pcm=b""), rx)[1:] == [half, half]
    assert _with_ready(half, rx) == [half]


async def test_who_is_cancelled_appends_none_of_them(
    autojump_clock: trio.testing.MockClock,
) -> None:
    rig = Rig(200, lambda _: None)
    reply = Said(number=1)
    reply.committed.set()
    loud = SpeechAudio(segment=0, pcm=LOUD * 100)
    await rig.mouth.play(reply, [loud])
    held = rig.ledger.appended
    with trio.move_on_after(1) as waiting:  # nobody pumps: there is no room
        await rig.mouth.play(reply, [loud, loud])
    assert waiting.cancelled_caught
    assert rig.ledger.appended == rig.line.playout.end == held
