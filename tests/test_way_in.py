"""The way in, compiled and as its twin has it: the same call gives the same log."""

from __future__ import annotations

from itertools import pairwise

import pytest
import trio

from rtcore import _way_in_py, call
from rtcore.journal import Journal
from rtcore.media._frames import FrameCodec
from rtcore.media._wire import Wire
from rtcore.recording import SILENT_FRAME
from rtcore.testing import (
    L16_16K,
    MULAW_8K,
    FakeCarrier,
    LineFaults,
    LineFormat,
    memory_sockets,
    simulate,
)
from tests.test_call import busy_script, scripted
from tests.twins import on_twin


class Tape:
    """Both sides of a call, frame by frame."""

    def __init__(self) -> None:
        self.frames: list[tuple[bytes, bytes]] = []

    def push(self, caller: bytes, agent: bytes | None) -> None:
        self.frames.append((caller, SILENT_FRAME if agent is None else agent))

    def close(self) -> None:
        self.frames.append((b"", b""))


class Asked(Wire):
    """Of no socket; notes when the next frame is wanted at once, and when no more."""

    def __init__(self) -> None:
        codec = FrameCodec(is_client=False, max_message_bytes=1)
        super().__init__(-1, codec, bytearray(1), 1, lambda: None)
        self.asked: list[tuple[bool, float]] = []

    def hurry(self, is_urgent: bool) -> None:
        if not self.asked or self.asked[-1][0] != is_urgent:
            self.asked.append((is_urgent, trio.current_time()))


async def made(kind: type[call.Call], line: LineFormat) -> tuple[bytes, Tape, Asked]:
    """The log and the sound of a call over a bad line."""
    here, there = memory_sockets()
    faults = LineFaults(seed=3, loss=0.02, reorder=0.05, jitter_ms=30)
    carrier = FakeCarrier(busy_script(), line=line, faults=faults)
    journal, tape, wire = Journal(), Tape(), Asked()

    def on_start(begun: call.Call) -> None:
        begun._wire = wire

    with trio.fail_after(600):
        async with trio.open_nursery() as nursery:

            async def node() -> None:
                await call.run_call(
                    there,
                    scripted(),
                    journal=journal,
                    on_start=on_start,
                    recorder=tape,
                    kind=kind,
                )

            nursery.start_soon(node)
            await carrier.call(here)
    return journal.to_jsonl(), tape, wire


@pytest.mark.parametrize("line", [MULAW_8K, L16_16K], ids=["usual", "never usual"])
def test_a_call_is_the_same_on_the_twin(line: LineFormat) -> None:
    log, tape, wire = simulate(made, call.Call, line, seed=5)
    slow_log, slow_tape, slow_wire = simulate(
        made, on_twin(call, {"rtcore._way_in": _way_in_py}).Call, line, seed=5
    )
    assert log == slow_log
    assert tape.frames == slow_tape.frames
    assert wire.asked == slow_wire.asked
    assert len(tape.frames) > 300
    hurried_s = sum(
        end_s - start_s for (is_urgent, start_s), (_, end_s) in pairwise(wire.asked) if is_urgent
    )
    assert 0 < hurried_s * 50 < len(tape.frames) / 10  # few frames are
