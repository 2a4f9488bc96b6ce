"""What one caller hears: a carrier's playback queue on a real clock, at the cost of one call.

Times are seconds on the generator's clock. Unlike :class:`rtcore.testing.Ear` it keeps no sound
and is not told of time passing: what was heard follows from when each piece came.
"""

from __future__ import annotations

from collections import deque

from rtcore.audio import RATE_HZ
from rtcore.testing import MULAW_8K

__all__ = ["Ear"]

QUIET_S = 0.4  # speech goes on after a pause this short: words, breath, a comma
GAP_MAX_S = 2.0  # a longer silence is the end of a reply, not a hole in it


class Ear:
    """Plays pieces in order, without a break for as long as there is something to play.

    Attributes:
        onset_s: when the first audible sample of the present run of speech was heard.
        until_s: up to when the agent is audible, as far as is known now.
        gaps_s: of each piece after the first of a reply, how late it came (0: in time).
        pieces: how many pieces of audio came.
        is_marked: a checkpoint follows the last piece: the server has said all of it.
    """

    def __init__(self) -> None:
        self.onset_s: float | None = None
        self.until_s = 0.0
        self.gaps_s: list[float] = []
        self.pieces = 0
        self.is_marked = False
        self.end_s = 0.0  # what is queued ends here
        self._is_whole = True  # no speech is cut where the queue ends now
        self._loud: deque[tuple[float, float]] = deque()  # audible spans that may yet be cleared
        self._heard_until_s = 0.0  # the end of the last audible span that no clear can take back
        self._marks: deque[tuple[float, str]] = deque()

    def push(self, payload: bytes, now_s: float) -> None:
        """Queue ``payload``, µ-law at 8000 Hz."""
        self.pieces += 1
        start_s = self.end_s
        if now_s > start_s:
            if not self._is_whole and now_s - start_s < GAP_MAX_S:
                self.gaps_s.append(now_s - start_s)
            start_s = now_s
        elif not self._is_whole:
            self.gaps_s.append(0.0)
        self._is_whole = self.is_marked = False
        self.end_s = start_s + len(payload) / RATE_HZ
        span = MULAW_8K.loud_span(payload)
        if span is None:
            return
        first_s, last_s = start_s + span[0] / RATE_HZ, start_s + span[1] / RATE_HZ
        if self.onset_s is None or first_s - self.until_s > QUIET_S:
            self.onset_s = first_s
        self.until_s = last_s
        while self._loud and self._loud[0][1] < now_s:
            self._heard_until_s = self._loud.popleft()[1]
        self._loud.append((first_s, last_s))

    def end_of_speech(self) -> None:
        """What comes next is not missed if it comes late."""
        self._is_whole = True

    def checkpoint(self, name: str, now_s: float) -> None:
        """Mark the end of what is queued."""
        self._marks.append((max(self.end_s, now_s), name))
        self._is_whole = self.is_marked = True

    def played(self, now_s: float) -> str | None:
        """The next checkpoint that has been heard by now, each named once."""
        if self._marks and self._marks[0][0] <= now_s:
            return self._marks.popleft()[1]
        return None

    def clear(self, now_s: float) -> None:
        """Drop all that has not been heard; its checkpoints are never reached."""
        self._marks.clear()
        self._is_whole = True
        self.end_s = min(self.end_s, now_s)
        while self._loud and self._loud[-1][0] >= now_s:
            self._loud.pop()
        last_s = self._loud[-1][1] if self._loud else self._heard_until_s
        self.until_s = min(self.until_s, last_s, now_s)

    def is_audible(self, now_s: float) -> bool:
        """Whether somebody is speaking here: a pause between words does not end it."""
        return self.onset_s is not None and now_s >= self.onset_s and now_s < self.until_s + QUIET_S
