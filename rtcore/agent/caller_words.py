"""The words of the caller's open turn, gathered from a recogniser's segments and from keys."""

from __future__ import annotations

import msgspec

from rtcore.turn.events import Transcript

__all__ = ["CallerWords"]

REMEMBERED_SEGMENTS = 8  # a recogniser revises its last segment or two, not older ones


class CallerWords:
    """What has been recognised since the last turn was closed.

    A recogniser may go on extending a segment whose first words were answered already (its
    idea of a turn is not ours): then only what it adds is new, and only if the caller has
    spoken since.
    """

    def __init__(self) -> None:
        self._segments: dict[int, Transcript] = {}
        self._answered: dict[int, int] = {}  # segment -> its words that belong to closed turns
        self._keys = ""
        self._has_spoken = False

    @property
    def text(self) -> str:
        """The turn so far; keys pressed are told as such, so that a model knows."""
        parts = [self._segments[n].text.strip() for n in sorted(self._segments)]
        if self._keys:
            parts.append(f"(pressed {self._keys})")
        return " ".join(part for part in parts if part)

    def voice(self) -> None:
        """The caller's voice began."""
        self._has_spoken = True

    def keys(self, digits: str) -> None:
        """The caller pressed keys."""
        self._keys += digits

    def take_keys(self) -> str:
        """The keys pressed so far, as a model is told of them; :attr:`text` has them no more."""
        keys, self._keys = self._keys, ""
        return f"(pressed {keys})" if keys else ""

    def add(self, transcript: Transcript) -> Transcript | None:
        """Take a transcript; return what of it is new to this turn, None if nothing is."""
        answered = self._answered.get(transcript.segment, 0)
        if answered == 0 and self._answered and transcript.segment < max(self._answered):
            return None
        if answered:
            words = transcript.text.split()
            if len(words) <= answered or not self._has_spoken:
                return None
            transcript = msgspec.structs.replace(
                transcript, text=" ".join(words[answered:]), words=transcript.words[answered:]
            )
        self._segments[transcript.segment] = transcript
        return transcript

    def close(self) -> None:
        """The turn is over: what comes from now on is another's."""
        for number, transcript in self._segments.items():
            self._answered[number] = self._answered.get(number, 0) + len(transcript.text.split())
        for number in sorted(self._answered)[:-REMEMBERED_SEGMENTS]:
            del self._answered[number]
        self._segments.clear()
        self._keys = ""
        self._has_spoken = False
