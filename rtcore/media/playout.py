"""What is still to be played on one line: no clock, no I/O.

Which piece is due when is :mod:`rtcore.media._paced`; here is what happens to a reply as a whole:
it is marked, held and taken up again, or dropped.
"""

from __future__ import annotations

from collections import deque

from rtcore.audio import FRAME_BYTES, FRAME_SAMPLES, frame_power
from rtcore.media._paced import PacedSound

__all__ = ["Playout"]

QUIET_POWER = 200.0**2  # mean square below which a frame of our own speech is a pause
SILENT_FRAME = bytes(FRAME_BYTES)


class Playout(PacedSound):
    """The playout of one call. Positions are samples on the line, at 8000 Hz."""

    def __init__(self, *, lead_ms: int = 120, chunk_ms: int = 40) -> None:
        super().__init__(lead_ms, chunk_ms)

    def align(self) -> int:
        """Fill the last frame up with silence; return the samples added (0 to 159)."""
        missing = -self.end % FRAME_SAMPLES
        self._buffer += SILENT_FRAME[: missing * 2]
        self.end += missing
        return missing

    def mark(self, name: str) -> None:
        """Put a checkpoint behind all that has been appended."""
        self._marks.append((self.end, name))

    def start_anew(self) -> None:
        """The next piece starts a run: what was dry before it is a pause, not an underrun."""
        if self.end == self.sent:
            self.end_run()

    def pause(self) -> None:
        """Write nothing more for now; what is unsent is kept."""
        self.is_paused = True

    def resume(self, now_s: float, rewind_limit: int = 0) -> int:
        """Go on; return how many sent samples (at most ``rewind_limit``) will be repeated.

        Where the line has run dry, playing goes back to the last pause in our own speech, so
        that it begins with a word and not inside a syllable.
        """
        self.is_paused = False
        if self._lead_at(now_s) > 0:
            return 0  # the caller has not even noticed
        self.end_run()
        if self.end == self.sent:
            return 0
        rewind = self._back_to_pause(min(rewind_limit, self.sent - self._base))
        if rewind:
            at = (self.sent - self._base) * 2
            self._buffer[at:at] = self._buffer[at - rewind * 2 : at]
            self.end += rewind
            self._marks = deque((position + rewind, name) for position, name in self._marks)
        return rewind

    def clear(self, heard: int) -> int:
        """Drop all after position ``heard``; return the samples dropped."""
        dropped = self.end - heard
        del self._buffer[max(0, heard - self._base) * 2 :]
        self._base = min(self._base, heard)
        self.sent = self.end = heard
        self._marks.clear()
        self.is_paused = False
        self.end_run()
        return dropped

    def _back_to_pause(self, limit: int) -> int:
        """Samples from the write position back to the nearest pause within ``limit``.

        Where there is none, to the quietest frame: the dip between two syllables.
        """
        at = (self.sent - self._base) * 2
        best, best_power = 0, float("inf")
        for rewind in range(FRAME_SAMPLES, limit + 1, FRAME_SAMPLES):
            start = at - rewind * 2
            power = frame_power(self._buffer[start : start + FRAME_BYTES])
            if power < QUIET_POWER:
                return rewind - FRAME_SAMPLES
            if power < best_power:
                best, best_power = rewind, power
        return best
