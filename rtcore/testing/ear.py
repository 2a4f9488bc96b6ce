"""What the far end hears: a carrier's playback queue, played at real time. No clock, no I/O.

Positions are samples of the line since the stream began; the caller of each method says what
sample it is now.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

import msgspec

from rtcore.testing.line import LineFormat

__all__ = ["Ear", "Hole", "Run"]

BUFFER_MAX_MS = 40_000  # the carrier's own bound for what is queued and not yet played
RUN_PAUSE_MS = 400  # speech goes on after a pause this short: words, breath, a comma
HOLES_MAX = 10_000  # facts are bounded too; past this holes are only counted


class Run(msgspec.Struct, kw_only=True):
    """A stretch of audible sound, pauses up to 400 ms included."""

    start: int
    end: int


class Hole(msgspec.Struct, frozen=True, kw_only=True):
    """Nothing was left to play from ``start`` to ``end``, when more came."""

    start: int
    end: int
    is_boundary: bool  # a checkpoint or a clear stood there: speech was whole up to it


class Ear:
    """Plays what is pushed, in order, without a break as long as there is something to play.

    Args:
        tape: called with each piece as it is heard, silence included: what it was given joined
            together is the sound at the ear from sample 0.
    """

    def __init__(self, line: LineFormat, tape: Callable[[bytes], None] | None = None) -> None:
        self.runs: list[Run] = []
        self.holes: list[Hole] = []
        self.hole_count = 0
        self._line = line
        self._tape = tape
        self._queue: deque[tuple[int, bytes]] = deque()  # where each begins, in order
        self._heard = 0  # all before this sample has been heard
        self._end = 0  # what is queued ends here
        self._is_boundary = True  # no speech is cut where the queue ends now
        self._checkpoints: deque[tuple[int, str]] = deque()
        self._buffer_max = BUFFER_MAX_MS * line.rate_hz // 1000
        self._run_pause = RUN_PAUSE_MS * line.rate_hz // 1000
        self._run_open = False

    def queued(self, now: int) -> int:
        """How many samples wait to be played."""
        return max(self._end - now, 0)

    def is_audible(self, now: int) -> bool:
        """Whether somebody is speaking here: a pause between words does not end it."""
        return self._run_open and now - self.runs[-1].end <= self._run_pause

    def push(self, payload: bytes, now: int) -> bool:
        """Queue ``payload``; False: the buffer is full, it is lost."""
        samples = len(payload) // self._line.sample_bytes
        if self.queued(now) + samples > self._buffer_max:
            return False
        if now > self._end:
            if self._end:  # before the first sound nothing was missing
                self._note_hole(now)
            self._end = now
        self._queue.append((self._end, payload))
        self._end += samples
        self._is_boundary = False
        return True

    def checkpoint(self, name: str, now: int) -> None:
        """Mark the end of what is queued; :meth:`played` names it once that was heard."""
        self._checkpoints.append((max(self._end, now), name))
        self._is_boundary = True

    def played(self) -> list[str]:
        """The checkpoints that have been reached since it was last asked."""
        names = []
        while self._checkpoints and self._checkpoints[0][0] <= self._heard:
            names.append(self._checkpoints.popleft()[1])
        return names

    def clear(self, now: int) -> None:
        """Drop all that has not been heard; its checkpoints are never reached."""
        self.advance(now)
        self._queue.clear()
        self._checkpoints.clear()
        self._end = now
        self._is_boundary = True
        self._run_open = False

    def advance(self, now: int) -> None:
        """Hear everything up to ``now``."""
        size = self._line.sample_bytes
        while self._queue and self._queue[0][0] < now:
            start, payload = self._queue.popleft()
            self._hear_silence(start)
            room = (now - start) * size
            if len(payload) > room:
                self._queue.appendleft((now, payload[room:]))
                payload = payload[:room]
            self._hear(payload)
        self._hear_silence(now)

    def _hear_silence(self, until: int) -> None:
        if until > self._heard:
            if self._tape is not None:
                self._tape(self._line.silence(until - self._heard))
            self._heard = until

    def _hear(self, payload: bytes) -> None:
        if self._tape is not None:
            self._tape(payload)
        if (span := self._line.loud_span(payload)) is not None:
            start, end = self._heard + span[0], self._heard + span[1]
            if self._run_open and start - self.runs[-1].end <= self._run_pause:
                self.runs[-1].end = end
            else:
                self.runs.append(Run(start=start, end=end))
                self._run_open = True
        self._heard += len(payload) // self._line.sample_bytes

    def _note_hole(self, now: int) -> None:
        self.hole_count += 1
        if len(self.holes) < HOLES_MAX:
            self.holes.append(Hole(start=self._end, end=now, is_boundary=self._is_boundary))
