"""Where speech is in a clean recording: offline energy labels, no detector involved.

Two thresholds below the loud parts of the recording itself: a stretch counts when it rises
above the upper one, and reaches as far as the level stays above the lower one. Checked elsewhere
against four hand-labelled clean files: 87 % of 10 ms frames agree, onsets +7 ms and ends -11 ms
(medians of 15 boundaries), so medians of latencies are good to about +-20 ms, not better.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

__all__ = ["RATE_HZ", "Samples", "Span", "active_dbfs", "gaps", "levels_dbfs", "ms", "speech_spans"]

RATE_HZ = 8000
HOP_SAMPLES = 80  # 10 ms: the resolution of every label
UPPER_DB, LOWER_DB = 25.0, 35.0  # below the 95th percentile of what is active
FLOOR_MARGIN_DB = 8.0  # the lower threshold keeps this distance from the recording's own floor
CLOSE_SAMPLES = 800  # gaps under 100 ms are stop consonants, not pauses
SHORTEST_SAMPLES = 640  # 80 ms: shorter stretches on these recordings are ticks and cross-talk
SILENCE_DBFS = -60.0

Samples = NDArray[np.float64]


class Span(NamedTuple):
    """A stretch of the caller's audio, in samples: ``start`` included, ``end`` not."""

    start: int
    end: int

    def shifted(self, samples: int) -> Span:
        return Span(self.start + samples, self.end + samples)


def ms(milliseconds: float) -> int:
    """Milliseconds as samples."""
    return round(milliseconds * RATE_HZ / 1000)


def levels_dbfs(pcm: Samples) -> Samples:
    """The level of each whole 10 ms of ``pcm`` (int16 scale), floored at -100 dBFS."""
    hops = len(pcm) // HOP_SAMPLES
    power = (pcm[: hops * HOP_SAMPLES].reshape(hops, HOP_SAMPLES) ** 2).mean(axis=1)
    levels: Samples = 10.0 * np.log10(power / 32768.0**2 + 1e-10)
    return levels


def active_dbfs(pcm: Samples) -> float:
    """The level of the loud half of what is not silence: what a gain is aimed at."""
    levels = levels_dbfs(pcm)
    active = levels[levels > SILENCE_DBFS]
    return float(np.percentile(active, 75)) if len(active) else -100.0


def speech_spans(pcm: Samples) -> list[Span]:
    """The labelled speech of one clean recording (int16 scale, 8000 Hz), in order."""
    levels = levels_dbfs(pcm)
    active = levels[levels > SILENCE_DBFS]
    if not len(active):
        return []
    loud, floor = float(np.percentile(active, 95)), float(np.percentile(levels, 10))
    lower = max(loud - LOWER_DB, floor + FLOOR_MARGIN_DB)
    upper = max(loud - UPPER_DB, lower)
    edges = np.diff(np.concatenate(([0], (levels > lower).astype(np.int8), [0])))
    closed: list[Span] = []
    for first, last in zip(np.flatnonzero(edges == 1), np.flatnonzero(edges == -1), strict=True):
        if levels[first:last].max() <= upper:
            continue
        span = Span(int(first) * HOP_SAMPLES, int(last) * HOP_SAMPLES)
        if closed and span.start - closed[-1].end < CLOSE_SAMPLES:
            span = Span(closed.pop().start, span.end)
        closed.append(span)
    return [span for span in closed if span.end - span.start >= SHORTEST_SAMPLES]


def gaps(spans: Sequence[Span], shortest_samples: int) -> list[Span]:
    """The silences between consecutive spans that last at least ``shortest_samples``."""
    return [
        Span(left.end, right.start)
        for left, right in pairwise(spans)
        if right.start - left.end >= shortest_samples
    ]
