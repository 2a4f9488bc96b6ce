"""What a bench node tells about itself, on files beside the calls: lag, records, CPU by stage.

JSON lines. ``records``: one :class:`rtcore.call.CallRecord` as each call ends. ``stats``: every
100 ms what the node's pacer knows, and, where stages are sampled, how often each was met so far.
"""

from __future__ import annotations

import signal
import time
from collections import Counter
from pathlib import Path
from types import CodeType, FrameType
from typing import IO

import msgspec
import trio

from rtcore.call import CallRecord
from rtcore.node import Node
from rtcore.recording import Recordings

__all__ = ["STAGES", "Probe", "Stages", "Stat"]

EVERY_S = 0.1
SAMPLE_S = 0.0037  # odd against the 20 ms of the media: no stage is met by its rhythm
IDLE = "EpollIOManager.get_events"  # trio, waiting; its own cost goes unseen
# the innermost frame of a sample that is in one of these owns it; compiled code belongs to the
# Python that called it
STAGES = {
    "/rtcore/media/fast": "socket",
    "/rtcore/media/portable": "socket",
    "/rtcore/media/outbox": "socket",
    "/rtcore/media/handshake": "socket",
    "/trio_websocket/": "socket",
    "/wsproto/": "socket",
    "/rtcore/protocol/": "messages",
    "/rtcore/turn/": "turn-taking",
    "/rtcore/media/": "playout",
    "/rtcore/reply": "playout",
    "/rtcore/ledger": "playout",
    "/rtcore/testing/": "scripted providers",
    "/bench/": "scripted providers",
    "/rtcore/": "call",
    "/trio/": "scheduler",
}


class Stat(msgspec.Struct, frozen=True, kw_only=True):
    """The node at one moment; counts since its start."""

    at_s: float  # CLOCK_MONOTONIC, as time.perf_counter tells it
    calls: int
    lag_ms: float
    ticks: int
    late_ticks: int
    failed: int
    dropped_samples: int = 0  # of recordings
    stages: dict[str, dict[str, int]] = {}  # samples of the CPU: stage, function -> how many


class Stages:
    """Samples which stage is spending the CPU.

    By the clock and not by CPU time: that timer goes with the kernel's tick, and the media with
    it. A sample that finds the node waiting for sockets counts for nothing.
    """

    def __init__(self) -> None:
        self.counts: Counter[tuple[str, CodeType]] = Counter()
        self._stage_of: dict[CodeType, str | None] = {}

    def start(self) -> None:
        signal.signal(signal.SIGALRM, self._sample)
        signal.setitimer(signal.ITIMER_REAL, SAMPLE_S, SAMPLE_S)

    def stop(self) -> None:
        signal.setitimer(signal.ITIMER_REAL, 0)

    def _sample(self, number: int, frame: FrameType | None) -> None:
        if frame is None or frame.f_code.co_qualname == IDLE:
            return
        while frame is not None:
            stage = self.stage_of(frame.f_code)
            if stage is not None:
                self.counts[stage, frame.f_code] += 1
                return
            frame = frame.f_back

    def table(self) -> dict[str, dict[str, int]]:
        """How often each function of each stage was met."""
        found: dict[str, dict[str, int]] = {}
        for (stage, code), count in list(self.counts.items()):  # samples are taken meanwhile
            path = Path(code.co_filename)
            found.setdefault(stage, {})[f"{path.parent.name}/{path.name}:{code.co_qualname}"] = (
                count
            )
        return found

    def stage_of(self, code: CodeType) -> str | None:
        """The stage that ``code`` belongs to; None: to its caller's."""
        if code not in self._stage_of:
            name = code.co_filename
            self._stage_of[code] = next((s for part, s in STAGES.items() if part in name), None)
        return self._stage_of[code]


class Probe:
    """Writes what is asked for; nothing is opened and nothing runs for what is not."""

    def __init__(self, records: Path | None, stats: Path | None, *, samples_stages: bool) -> None:
        self._records: IO[bytes] | None = None if records is None else records.open("wb")
        self._stats: IO[bytes] | None = None if stats is None else stats.open("wb")
        self._stages = Stages() if samples_stages else None

    def on_record(self, record: CallRecord) -> None:
        """Write one call's record."""
        if self._records is not None:
            self._records.write(msgspec.json.encode(record) + b"\n")
            self._records.flush()

    async def run(self, node: Node, recordings: Recordings | None = None) -> None:
        """Write stats until cancelled."""
        if self._stats is None:
            return
        if self._stages is not None:
            self._stages.start()
        try:
            while True:
                self._write_stat(node, recordings)
                await trio.sleep(EVERY_S)
        finally:
            if self._stages is not None:
                self._stages.stop()

    def _write_stat(self, node: Node, recordings: Recordings | None) -> None:
        assert self._stats is not None
        stat = Stat(
            at_s=time.perf_counter(),
            calls=len(node.calls),
            lag_ms=node.pacer.lag_ms,
            ticks=node.pacer.ticks,
            late_ticks=node.pacer.late_ticks,
            failed=node.stats.failed,
            dropped_samples=0 if recordings is None else recordings.stats.dropped_samples,
            stages={} if self._stages is None else self._stages.table(),
        )
        self._stats.write(msgspec.json.encode(stat) + b"\n")
        self._stats.flush()
