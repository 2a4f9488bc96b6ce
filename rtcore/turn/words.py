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
        "_final",
        "_normal",
        "_segments",
        "_table",
        "expected",
        "is_streaming",
        "voiced_frames",
    )

    def __init__(self, language_tag: str) -> None:
        self.configure(language_tag)
        self._segments: dict[int, str] = {}
        self._normal = ""  # of the text, kept: it is compared with each transcript
        self._final = -1  # the newest segment whose words will not change
        self._closed_segment = -1  # up to here they belong to turns that are over
        self._covered_until = 0
        self._end_of_turn: float | None = None
        self._answered = FREE
        self.expected = FREE
        self.is_streaming = False  # a recogniser has given words in this call
        self.voiced_frames = 0  # of this turn

    def configure(self, language_tag: str) -> None:
        """The language spoken; of one without tables nothing is known of any word."""
        self._table = language(language_tag)

    def forget(self) -> None:
        """The agent has the floor: what is final by now belongs to what is over."""
        self._closed_segment = max(self._final, self._closed_segment)
        self._segments = {k: v for k, v in self._segments.items() if k > self._closed_segment}
        self._normal = normal(self.text)
        self._end_of_turn = None
        self._answered = FREE

    def open_turn(self) -> None:
        """A turn opens. Nobody else spoke since the last: it goes on, with what was asked."""
        self.voiced_frames = 0
        if self.expected == FREE:
            self.expected = self._answered

    def end_turn(self) -> None:
        """The turn is over: what was expected has been answered."""
        self._answered, self.expected = self.expected, FREE

    def add(self, transcript: Transcript, now: int) -> bool:
        """Take a transcript; say whether the words of the turn changed."""
        self.is_streaming = True
        if transcript.segment <= self._closed_segment:
            return False
        before = self._normal
        self._segments[transcript.segment] = transcript.text
        self._normal = normal(self.text)
        if transcript.is_final:
            self._final = max(self._final, transcript.segment)
        self._end_of_turn = transcript.end_of_turn
        if transcript.words:
            self._covered_until = transcript.words[-1].end_sample
        else:
            self._covered_until = now if transcript.is_final else now - INTERIM_LAG_SAMPLES
        return self._normal != before

    @property
    def text(self) -> str:
        return " ".join(self._segments[key] for key in sorted(self._segments)).strip()

    @property
    def has_words(self) -> bool:
        return bool(self._normal)

    def real_words(self, transcript: Transcript) -> int:
        """How many of its words take the floor; none if they belong to what is over."""
        if transcript.segment <= self._closed_segment:
            return 0
        return real_words(transcript.text, self._table)

    def is_backchannel(self, transcript: Transcript) -> bool:
        return is_backchannel(transcript.text, self._table)

    def completeness(self, voice_end_sample: int) -> float:
        """How complete they are, if they reach to where the voice ended; else unsure."""
        if self.lags(voice_end_sample):
            return 0.5
        vote = completeness(self.text, self.expected, self._table)
        return vote if self._end_of_turn is None else fuse(vote, self._end_of_turn)

    def lags(self, voice_end_sample: int) -> bool:
        """Whether a recogniser is at work and its words do not reach to the voice's end."""
        return self.is_streaming and self._covered_until < voice_end_sample - COVER_SAMPLES
