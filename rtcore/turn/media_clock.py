"""The caller's audio as a steady row of 20 ms frames: reordered, gaps concealed, counted.

Time here is a count of samples. The carrier's timestamps are never used (its documents
disagree on what they mean); its chunk numbers are, to see what is missing.

An orderly line is not delayed at all: a frame whose number is the next one passes at once. One
that comes early waits for what is missing, no longer than the window: 20 ms at first, grown
toward 50 ms by late frames that would have made it, shrunk again by order.
"""

from __future__ import annotations

from rtcore.audio import FRAME_MS, FRAME_SAMPLES
from rtcore.turn._every_frame import STALL_MS, InOrder

__all__ = ["MediaClock"]

WINDOW_MAX_MS = 50
RENUMBERED_AFTER = 500  # a jump of more than 10 s is a new count, not a loss
HELD_MAX_FRAMES = 10


class MediaClock(InOrder):
    """Puts the frames of one call in order. No clock of its own: time is handed in.

    A frame in order passes in :meth:`push`, which is inherited; :meth:`_sort` takes the others.
    """

    def __init__(self) -> None:
        super().__init__()
        self.lost_frames = 0  # never came in time: concealed
        self.late_frames = 0  # came after they had been concealed: dropped
        self.reordered_frames = 0  # came early and were put right
        self.inserted_frames = 0  # silence put in while the line stalled

    @property
    def now_samples(self) -> int:
        return self.frames * FRAME_SAMPLES

    @property
    def window_ms(self) -> float:
        return self._window_ms

    def _sort(self, frame: bytes, chunk: int | None, now_s: float) -> list[bytes]:
        """Take a frame that is not the one expected, or comes while others are held."""
        if chunk is None or chunk == self._expected:
            if chunk is not None:
                self._expected = chunk + 1
            out = [self._concealer.good(frame)]
            self._release_held(out)
            return self._passed(out, now_s)
        ahead = chunk - self._expected
        if ahead < 0 and -ahead <= RENUMBERED_AFTER:
            self.late_frames += 1
            self._window_ms = min(WINDOW_MAX_MS, self._window_ms + 10)
            return []
        if abs(ahead) > RENUMBERED_AFTER:
            out = self._flush()
            self._expected = chunk + 1
            out.append(self._concealer.good(frame))
            return self._passed(out, now_s)
        if not self._held:
            self._held_since_s = now_s
        self._held[chunk] = frame
        if len(self._held) >= HELD_MAX_FRAMES:
            return self._passed(self._flush(), now_s)
        return []

    def tick(self, now_s: float) -> list[bytes]:
        """Let time pass: what waited too long goes on, a stalled line becomes silence."""
        if not self.is_due(now_s):
            return []
        if self._held:
            return self._passed(self._flush(), now_s)
        missing = int((now_s - self._last_s) * 1000 - STALL_MS) // FRAME_MS + 1
        self._last_s += missing * FRAME_MS / 1000
        self.inserted_frames += missing
        self.frames += missing
        return [self._concealer.lost() for _ in range(missing)]

    def _passed(self, out: list[bytes], now_s: float) -> list[bytes]:
        self.frames += len(out)
        self._last_s = now_s
        return out

    def _release_held(self, out: list[bytes]) -> None:
        while (frame := self._held.pop(self._expected, None)) is not None:
            self.reordered_frames += 1
            self._expected += 1
            out.append(self._concealer.good(frame))

    def _flush(self) -> list[bytes]:
        """Give up on what is missing: conceal it, and let go of all that waited behind it."""
        out: list[bytes] = []
        for chunk in sorted(self._held):
            for _ in range(chunk - self._expected):
                self.lost_frames += 1
                out.append(self._concealer.lost())
            out.append(self._concealer.good(self._held[chunk]))
            self._expected = chunk + 1
        self._held.clear()
        return out
