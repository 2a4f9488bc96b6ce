"""The caller's words of one turn: which count, how far they reach, how complete they are."""

from __future__ import annotations

from rtcore.turn.completeness import (
    FREE,
    completeness,
    fuse,
    is_backchannel,
    normal,
    real_words,
)
from rtcore.turn.events import Transcript
from rtcore.turn.language import language
from rtcore.turn.vad import VoiceSpell

__all__ = ["TurnWords"]

INTERIM_LAG_SAMPLES = 2400  # an interim transcript is about 300 ms behind the voice
COVER_SAMPLES = 1600  # words that end within 200 ms of the voice's end are the last ones


class TurnWords:
    """Segments in order, newest text of each; those of turns gone by are ignored."""

    __slots__ = (
        "_answered",
        "_closed_segment",
        "_covered_until",
        "_end_of_turn",
        "_segments",
        "_table",
        "expected",
        "is_streaming",
        "voiced_frames",
    )

    def __init__(self, language_tag: str) -> None:
        self._table = language(language_tag)
        self._segments: dict[int, str] = {}
        self._closed_segment = -1  # up to here they belong to turns that are over
        self._covered_until = 0
        self._end_of_turn: float | None = None
        self._answered = FREE
        self.expected = FREE
        self.is_streaming = False  # words have come in this call while the caller was talking
        self.voiced_frames = 0  # of this turn

    def begin_turn(self) -> None:
        """A new turn: words so far belong to what was before."""
        self._closed_segment = max(self._segments, default=self._closed_segment)
        self._segments.clear()
        self._end_of_turn = None
        self.voiced_frames = 0

    def end_turn(self) -> None:
        """The turn is over: what was expected has been answered."""
        self._answered, self.expected = self.expected, FREE

    def reopen(self) -> None:
        """The caller goes on after all: the words stay, and so does what was asked."""
        if self.expected == FREE:
            self.expected = self._answered
        self._end_of_turn = None

    def add(self, transcript: Transcript, now: int, spell: VoiceSpell) -> bool:
        """Take a transcript; say whether the words of the turn changed."""
        if transcript.segment <= self._closed_segment:
            return False
        if spell.active and not transcript.is_final:
            self.is_streaming = True
        before = normal(self.text)
        self._segments[transcript.segment] = transcript.text
        self._end_of_turn = transcript.end_of_turn
        if transcript.words:
            self._covered_until = transcript.words[-1].end_sample
        else:
            self._covered_until = now if transcript.is_final else now - INTERIM_LAG_SAMPLES
        return normal(self.text) != before

    @property
    def text(self) -> str:
        return " ".join(self._segments[key] for key in sorted(self._segments)).strip()

    @property
    def has_words(self) -> bool:
        return bool(normal(self.text))

    @property
    def real_words(self) -> int:
        return real_words(self.text, self._table)

    @property
    def is_backchannel(self) -> bool:
        return is_backchannel(self.text, self._table)

    def completeness(self, voice_end_sample: int) -> float:
        """How complete they are, if they reach to where the voice ended; else unsure."""
        if self._covered_until < voice_end_sample - COVER_SAMPLES:
            return 0.5
        vote = completeness(self.text, self.expected, self._table)
        return vote if self._end_of_turn is None else fuse(vote, self._end_of_turn)
