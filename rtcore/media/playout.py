"""What is still to be played on one line, and when each piece is due: no clock, no I/O.

One buffer holds the line's recent past and its future::

    base ............ sent ................. end
    (history, heard)      (not yet written)

Pieces are due against absolute time: a run starts when the first piece is written, and from
then on the line has played exactly the time that passed. We stay ``lead_ms`` ahead of that, no
more: enough to hide a stall of ours, little enough that a barge-in silences the agent by
merely not writing on.
"""

from __future__ import annotations

from collections import deque

from rtcore.audio import FRAME_BYTES, FRAME_SAMPLES, RATE_HZ, frame_power
from rtcore.protocol.events import Checkpoint, PlayAudio

__all__ = ["Playout"]

HISTORY_SAMPLES = RATE_HZ  # 1 s behind the write position: enough for resume and the far end
TRIM_SAMPLES = RATE_HZ  # and this much slack, so that trimming is rare
QUIET_POWER = 200.0**2  # mean square below which a frame of our own speech is a pause
SILENT_FRAME = bytes(FRAME_BYTES)


class Playout:
    """The playout of one call. Positions are samples on the line, at 8000 Hz."""

    def __init__(self, *, lead_ms: int = 120, chunk_ms: int = 40) -> None:
        self._buffer = bytearray()
        self._base = 0  # position of the buffer's first sample
        self.sent = 0  # position up to which audio was written
        self.end = 0  # position up to which audio was appended
        self._marks: deque[tuple[int, str]] = deque()
        self._lead = lead_ms * RATE_HZ // 1000
        self._chunk = chunk_ms * RATE_HZ // 1000
        self._run_started_s: float | None = None
        self._run_samples = 0
        self.is_paused = False
        self.underruns = 0  # times the line ran dry inside a reply, and for how long in all
        self.underrun_samples = 0

    @property
    def unsent_samples(self) -> int:
        return self.end - self.sent

    @property
    def is_waiting(self) -> bool:
        """Whether there is something to write as soon as it is due."""
        return not self.is_paused and (self.end > self.sent or bool(self._marks))

    def append(self, pcm: bytes) -> None:
        """Queue audio; a remainder shorter than a frame is padded by :meth:`align`."""
        self._buffer += pcm
        self.end += len(pcm) >> 1

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
            self._run_started_s = None

    def due(self, now_s: float) -> list[PlayAudio | Checkpoint]:
        """What is to be written now; it counts as written once returned."""
        if not self.is_waiting:
            return []
        lead = self._lead_at(now_s)
        if lead < 0:
            if self._run_started_s is not None and self.end > self.sent:
                self.underruns += 1
                self.underrun_samples -= lead
            self._run_started_s, self._run_samples, lead = now_s, 0, 0
        room = self._lead - lead
        out: list[PlayAudio | Checkpoint] = []
        if room >= self._chunk or self.end == self.sent:
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
        """When :meth:`due` will have something, if nothing is appended before."""
        if self._run_started_s is None:
            return 0.0
        wanted = self._run_samples - self._lead + self._chunk - 0.5  # half a sample: rounding
        return self._run_started_s + wanted / RATE_HZ

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
        self._run_started_s = None
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
        self._run_started_s = None
        return dropped

    def heard_frame(self, heard: int) -> bytes | None:
        """The frame that ends at position ``heard``; None where nothing was playing."""
        at = (heard - FRAME_SAMPLES - self._base) * 2
        if at < 0:
            return None
        return bytes(self._buffer[at : at + FRAME_BYTES])

    def _lead_at(self, now_s: float) -> int:
        if self._run_started_s is None:
            return -1
        return self._run_samples - int((now_s - self._run_started_s) * RATE_HZ + 0.5)

    def _write_until(self, position: int, out: list[PlayAudio | Checkpoint]) -> None:
        if position > self.sent:
            at = (self.sent - self._base) * 2
            until = (position - self._base) * 2
            out.append(PlayAudio(pcm=bytes(self._buffer[at:until])))
            self._run_samples += position - self.sent
            self.sent = position

    def _trim(self) -> None:
        excess = self.sent - self._base - HISTORY_SAMPLES
        if excess > TRIM_SAMPLES:
            del self._buffer[: excess * 2]
            self._base += excess

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
