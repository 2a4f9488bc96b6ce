"""What of the caller's audio goes to the recogniser: speech with its pre-roll, in chunks.

Silence costs money and adds no words. The onset is found late, so the last few hundred
milliseconds before it are kept and go first; the tail is what the detector waited for before
it said that speech stopped.
"""

from __future__ import annotations

from collections import deque

from rtcore.audio import FRAME_MS, FRAME_SAMPLES

__all__ = ["SpeechGate"]


class SpeechGate:
    """Gathers frames into chunks. ``is_open`` from the onset of speech to its end."""

    def __init__(self, *, preroll_ms: int, chunk_ms: int, pass_all: bool) -> None:
        self._preroll: deque[bytes] = deque(maxlen=preroll_ms // FRAME_MS)
        self._chunk_frames = max(1, chunk_ms // FRAME_MS)
        self._frames: list[bytes] = []
        self._start_sample = 0
        self._now_samples = 0
        self._pass_all = pass_all
        self.is_open = pass_all

    def push(self, frame: bytes) -> tuple[int, bytes] | None:
        """Take one frame; return ``(start_sample, pcm)`` when a chunk is full."""
        self._now_samples += FRAME_SAMPLES
        if not self.is_open:
            self._preroll.append(frame)
            return None
        if not self._frames:
            self._start_sample = self._now_samples - FRAME_SAMPLES
        self._frames.append(frame)
        return self._take() if len(self._frames) >= self._chunk_frames else None

    def open(self) -> tuple[int, bytes] | None:
        """Speech has begun: return the pre-roll, to be sent at once."""
        if self.is_open:
            return None
        self.is_open = True
        self._frames.extend(self._preroll)
        self._preroll.clear()
        self._start_sample = self._now_samples - len(self._frames) * FRAME_SAMPLES
        return self._take()

    def close(self) -> tuple[int, bytes] | None:
        """Speech is over: return what is left of it."""
        self.is_open = self._pass_all
        return self._take()

    def _take(self) -> tuple[int, bytes] | None:
        if not self._frames:
            return None
        pcm = b"".join(self._frames)
        self._frames.clear()
        return self._start_sample, pcm
