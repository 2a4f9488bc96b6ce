"""The twin of ``_paced``: the same class, slow and obvious. It is the specification."""

from __future__ import annotations

from collections import deque

from rtcore.audio import FRAME_BYTES, FRAME_SAMPLES, RATE_HZ
from rtcore.protocol.events import Checkpoint

__all__ = ["PacedSound"]

HISTORY_SAMPLES = RATE_HZ
EARLY_SAMPLES = RATE_HZ // 100
TRIM_SAMPLES = RATE_HZ


class PacedSound:
    """See ``_paced.PacedSound``."""

    def __init__(self, lead_ms: int, chunk_ms: int) -> None:
        self._buffer = bytearray()
        self._base = self.sent = self.end = 0
        self._marks: deque[tuple[int, str]] = deque()
        self._lead = lead_ms * RATE_HZ // 1000
        self._least = max(FRAME_SAMPLES, chunk_ms * RATE_HZ // 1000 - EARLY_SAMPLES)
        self._run_started_s: float | None = None
        self._run_samples = 0
        self.is_paused = False
        self.underruns = self.underrun_samples = 0

    @property
    def unsent_samples(self) -> int:
        return self.end - self.sent

    @property
    def is_waiting(self) -> bool:
        return not self.is_paused and (self.end > self.sent or bool(self._marks))

    def append(self, pcm: bytes) -> None:
        self._buffer += pcm
        self.end += len(pcm) >> 1

    def due(self, now_s: float) -> list[bytes | Checkpoint]:
        if not self.is_waiting:
            return []
        lead = self._lead_at(now_s)
        if lead < 0:
            if self._run_started_s is not None and self.end > self.sent:
                self.underruns += 1
                self.underrun_samples -= lead
            self._run_started_s, self._run_samples, lead = now_s, 0, 0
        room = self._lead - lead
        out: list[bytes | Checkpoint] = []
        if room >= self._least or self.end == self.sent:
            stop = min(self.end, self.sent + room)
            while self._marks and self._marks[0][0] <= stop:
                position, name = self._marks.popleft()
                self._write_until(position, out)
                out.append(Checkpoint(name=name))
            self._write_until(stop, out)
            self._trim()
        return out

    @property
    def due_s(self) -> float:
        if self._run_started_s is None:
            return 0.0
        wanted = self._run_samples - self._lead + self._least - 0.5
        return self._run_started_s + wanted / RATE_HZ

    def heard_frame(self, heard: int) -> bytes | None:
        at = (heard - FRAME_SAMPLES - self._base) * 2
        if at < 0:
            return None
        return bytes(self._buffer[at : at + FRAME_BYTES])

    def end_run(self) -> None:
        self._run_started_s = None

    def _lead_at(self, now_s: float) -> int:
        if self._run_started_s is None:
            return -1
        return self._run_samples - int((now_s - self._run_started_s) * RATE_HZ + 0.5)

    def _write_until(self, position: int, out: list[bytes | Checkpoint]) -> None:
        if position > self.sent:
            at = (self.sent - self._base) * 2
            until = (position - self._base) * 2
            out.append(bytes(self._buffer[at:until]))
            self._run_samples += position - self.sent
            self.sent = position

    def _trim(self) -> None:
        excess = self.sent - self._base - HISTORY_SAMPLES
        if excess > TRIM_SAMPLES:
            del self._buffer[: excess * 2]
            self._base += excess
