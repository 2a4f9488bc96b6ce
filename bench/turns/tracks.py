"""Labelled caller tracks: what the detector hears, and what is true of it.

A track is open-loop: the agent speaks when the script says so, whatever the detector decides,
so every detector hears the same bytes. The labels follow from how a track is built. The
conditions and what is laid on a track are in :mod:`bench.turns.scenes`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from bench.turns.labels import Samples, Span, gaps, ms
from bench.turns.sounds import echo_of, noise_bed, through_mulaw
from bench.turns.sources import Split
from bench.turns.words import Script, script_of
from rtcore.audio import FRAME_SAMPLES
from rtcore.turn.completeness import FREE, Expectation
from rtcore.turn.events import Transcript

__all__ = ["PAUSE_SAMPLES", "Line", "Timeline", "Track", "Turn"]

PAUSE_SAMPLES = ms(200)  # a shorter silence inside a turn is articulation, not a pause
QUIET_FLOOR_DBFS = -65.0


@dataclass(frozen=True)
class Turn:
    """What the caller says before it is the agent's turn again."""

    speech: tuple[Span, ...]
    answered: int  # until then the agent is silent: a commit after that is a missed one

    @property
    def start(self) -> int:
        return self.speech[0].start

    @property
    def end(self) -> int:
        return self.speech[-1].end

    @property
    def pauses(self) -> list[Span]:
        return gaps(self.speech, PAUSE_SAMPLES)


@dataclass(frozen=True)
class Line:
    """What lies between the two mouths: noise, echo, and how late our reference is."""

    floor_dbfs: float = QUIET_FLOOR_DBFS
    noise_dbfs: float | None = None  # a recorded noise on top of the floor
    echo_loss_db: tuple[float, float] | None = None  # drawn for each thing the agent says
    echo_delay_ms: tuple[float, float] = (40.0, 200.0)
    echo_clipped: bool = False
    reference_ahead_ms: float = 0.0  # the detector is told of our audio that much too early


@dataclass(frozen=True)
class Track:
    """One caller track at 8000 Hz and its labels, all positions in samples."""

    condition: str
    split: Split
    caller: NDArray[np.int16]
    far: NDArray[np.int16]  # what the detector is told the caller hears
    speaking: tuple[Span, ...]  # when it is told so: outside, ``far`` is None
    audible: tuple[Span, ...]  # when the caller does hear the agent
    speech: tuple[Span, ...]
    turns: tuple[Turn, ...]
    barge_ins: tuple[Span, ...]
    backchannels: tuple[Span, ...]
    events: tuple[tuple[Span, str], ...]
    script: Script
    expected: Expectation  # what the agent asks for, each time it has spoken

    @property
    def frames(self) -> int:
        return len(self.caller) // FRAME_SAMPLES


@dataclass
class Timeline:
    """A track in the making: parts are laid on it, then the line is put between."""

    split: Split
    rng: Generator
    cursor: int = 0
    expected: Expectation = FREE
    _near: list[tuple[int, Samples]] = field(default_factory=list)
    _far: list[tuple[int, Samples]] = field(default_factory=list)
    _speech: list[Span] = field(default_factory=list)
    _turns: list[Turn] = field(default_factory=list)
    _barge_ins: list[Span] = field(default_factory=list)
    _backchannels: list[Span] = field(default_factory=list)
    _events: list[tuple[Span, str]] = field(default_factory=list)
    _script: list[tuple[int, Transcript]] = field(default_factory=list)
    _segments: int = 0

    def wait(self, shortest_ms: float, longest_ms: float | None = None) -> None:
        """Let time pass; with two bounds, a random time between them."""
        longest_ms = shortest_ms if longest_ms is None else longest_ms
        self.cursor += ms(self.rng.uniform(shortest_ms, longest_ms))

    def caller(self, pcm: Samples, at: int) -> None:
        self._near.append((at, pcm))
        self.cursor = max(self.cursor, at + len(pcm))

    def agent(self, pcm: Samples, at: int) -> Span:
        self._far.append((at, pcm))
        self.cursor = max(self.cursor, at + len(pcm))
        return Span(at, at + len(pcm))

    def says(self, spans: Sequence[Span], texts: Sequence[str]) -> None:
        """Label speech and script its words, one text for each span."""
        self._speech.extend(spans)
        self._script.extend(script_of(spans, texts, self._segments))
        self._segments += len(spans)

    def turn(self, spans: Sequence[Span], answered: int) -> None:
        self._turns.append(Turn(tuple(spans), answered))

    def barge_in(self, span: Span) -> None:
        self._barge_ins.append(span)

    def backchannel(self, span: Span) -> None:
        self._backchannels.append(span)

    def event(self, pcm: Samples, at: int, kind: str) -> None:
        self.caller(pcm, at)
        self._events.append((Span(at, at + len(pcm)), kind))

    def finish(self, condition: str, line: Line, noise: Samples | None = None) -> Track:
        """Mix, add the line's share, pass it through µ-law; the labels stay as they are."""
        length = -(-(self.cursor + ms(500)) // FRAME_SAMPLES) * FRAME_SAMPLES
        heard = np.zeros(length)  # the agent, as it leaves the caller's earpiece
        mixed = noise_bed(length, line.floor_dbfs, self.rng, None)
        if line.noise_dbfs is not None:
            mixed += noise_bed(length, line.noise_dbfs, self.rng, noise)
        for start, pcm in self._near:
            _add(mixed, start, pcm)
        for start, pcm in self._far:
            _add(heard, start, pcm)
            if line.echo_loss_db is not None:
                loss_db = self.rng.uniform(*line.echo_loss_db)
                delay = ms(self.rng.uniform(*line.echo_delay_ms))
                _add(mixed, start, echo_of(pcm, loss_db, delay, clipped=line.echo_clipped))
        ahead = ms(line.reference_ahead_ms)
        audible = _merged(Span(start, start + len(pcm)) for start, pcm in self._far)
        known = np.concatenate((heard[ahead:], np.zeros(ahead)))
        return Track(
            condition=condition,
            split=self.split,
            caller=through_mulaw(mixed),
            far=through_mulaw(known),
            speaking=tuple(span.shifted(-ahead) for span in audible),
            audible=audible,
            speech=tuple(sorted(self._speech)),
            turns=tuple(self._turns),
            barge_ins=tuple(self._barge_ins),
            backchannels=tuple(self._backchannels),
            events=tuple(self._events),
            script=tuple(sorted(self._script, key=lambda arrival: arrival[0])),
            expected=self.expected,
        )


def _add(into: Samples, start: int, pcm: Samples) -> None:
    end = min(len(into), start + len(pcm))
    into[start:end] += pcm[: end - start]


def _merged(spans: Iterable[Span]) -> tuple[Span, ...]:
    """Spans in order, those that touch or overlap as one."""
    merged: list[Span] = []
    for span in sorted(spans):
        if merged and span.start <= merged[-1].end:
            merged[-1] = Span(merged[-1].start, max(merged[-1].end, span.end))
        else:
            merged.append(span)
    return tuple(merged)
