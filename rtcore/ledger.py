"""The heard ledger: which words of ours the caller has heard, to the sample.

Three counts run along one line of samples (8000 Hz): what was *appended* to the playout, what
was *sent*, what was *heard*. Text is attached to the line in spans; history, transcript and
metrics are projections of it: what was not heard was not said.

The line's clock is the caller's own audio: each 20 ms the carrier sends us, it has also played
20 ms of what it holds. That keeps both directions in one clock domain, whatever the network or
our scheduling does, and is corrected at each checkpoint the carrier acknowledges.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from rtcore._far_end import HeardCount
from rtcore.audio import RATE_HZ

__all__ = ["Ledger", "Span", "TimedWord"]

LAG_LIMIT_SAMPLES = RATE_HZ  # a carrier more than 1 s behind is stalled, not distant
TYPICAL_CHARS_PER_S = 14.0  # English at a telephone agent's pace; used only inside a span that
# is cut while its synthesis is still unfinished and has no word times


@dataclass(slots=True, frozen=True)
class TimedWord:
    """A word of a span: its place in the text, and the sample of the span where it ends."""

    text_end: int  # index into the span's text just after the word
    end_sample: int


@dataclass(slots=True)
class Span:
    """A sentence on the line: heard up to ``heard_samples`` of its ``samples``."""

    group: tuple[int, int]  # (reply, step of its thought): what is heard is asked by these
    text: str
    start: int  # position on the line; moves when audio before it is repeated
    samples: int = 0
    heard_samples: int = 0
    is_complete: bool = False  # all of its audio has been appended
    words: list[TimedWord] = field(default_factory=list)

    def heard_text(self) -> str:
        """The words of this span that were heard: whole words, the last one begun counts not."""
        if self.is_complete and self.heard_samples >= self.samples:
            return self.text
        if self.words:
            ends = [w.text_end for w in self.words if w.end_sample <= self.heard_samples]
            return self.text[: max(ends, default=0)]
        whole = self.samples
        if not self.is_complete:
            whole = max(whole, int(len(self.text) / TYPICAL_CHARS_PER_S * RATE_HZ))
        if not whole:
            return ""
        cut = len(self.text) * self.heard_samples // whole
        if cut >= len(self.text):
            return self.text
        return self.text[: self.text.rfind(" ", 0, cut + 1)] if " " in self.text[: cut + 1] else ""


class Ledger(HeardCount):
    """One call's account of its own speech. Plain arithmetic: no clock, no I/O."""

    def __init__(self) -> None:
        super().__init__()
        self._spans: list[Span] = []
        self._checkpoints: dict[str, int] = {}  # name -> position; unresolved ones only

    @property
    def spans(self) -> list[Span]:
        """Those of the reply in progress, oldest first."""
        self._settle()
        return self._spans

    @property
    def is_drained(self) -> bool:
        """Whether all that was appended has been heard (or cleared)."""
        return self.heard >= self.appended

    @property
    def has_checkpoints(self) -> bool:
        """Whether the carrier still owes the acknowledgement of a checkpoint."""
        return bool(self._checkpoints)

    # --- what we do ---------------------------------------------------------------------

    def begin(self, group: tuple[int, int], text: str) -> Span:
        """Open a span for ``text``; the audio appended next belongs to it."""
        span = Span(group=group, text=text, start=self.appended)
        self._spans.append(span)
        return span

    def append(self, span: Span, samples: int) -> None:
        """Account for audio that went into the playout; ``span`` is the newest one."""
        assert span is self._spans[-1], "spans are spoken in order"
        span.samples += samples
        self.appended += samples

    def checkpoint(self, name: str) -> None:
        """Remember that acknowledging ``name`` proves all appended so far as heard."""
        self._checkpoints[name] = self.appended

    def repeat(self, samples: int) -> None:
        """The last ``samples`` sent will be played once more, before what is unsent.

        They lie within the span being heard: a resume goes back to a word, never further.
        """
        for span in self.spans:
            if span.start + span.samples > self.sent - samples:
                span.start += samples
        for name, position in self._checkpoints.items():
            if position > self.sent - samples:
                self._checkpoints[name] = position + samples
        self.appended += samples

    # --- what the line does -------------------------------------------------------------

    def acknowledge(self, name: str) -> bool:
        """The carrier says that checkpoint ``name`` was heard; False if it means nothing now."""
        position = self._checkpoints.pop(name, None)
        if position is None:
            return False  # late, after a clear, or never ours
        # our own count ran ahead by what the line delays: learn it for the next run
        self._lag = min(max(0, self._lag + self.heard - position), LAG_LIMIT_SAMPLES)
        for other in [n for n, p in self._checkpoints.items() if p <= position]:
            del self._checkpoints[other]  # what came before it was heard as well
        self._settle()  # as far as we thought, which may be further
        self.heard = position
        return True

    def cut(self) -> None:
        """The line was cleared: what has not been heard by now never will be."""
        self._settle()
        self._checkpoints.clear()
        self.appended = self.sent = self.heard
        self._lag_left = 0

    # --- projections --------------------------------------------------------------------

    def heard_text(self, group: tuple[int, int]) -> str:
        """What the caller heard of ``group``, in whole words."""
        parts = (span.heard_text().strip() for span in self.spans if span.group == group)
        return " ".join(part for part in parts if part)

    @property
    def heard_of_spans(self) -> int:
        """Samples heard of the replies that are not settled yet."""
        return sum(span.heard_samples for span in self.spans)

    def forget(self, reply: int) -> None:
        """Drop the spans of ``reply``: it is over and has been written into the history."""
        self._spans = [span for span in self.spans if span.group[0] != reply]

    def _settle(self) -> None:
        """Tell the spans what was heard of them: when they are asked, not with each frame."""
        for span in self._spans:
            reached = min(span.samples, self.heard - span.start)
            if reached > span.heard_samples:
                span.heard_samples = reached
