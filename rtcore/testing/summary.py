"""Many calls in a few numbers."""

from __future__ import annotations

import math
from collections.abc import Sequence

import msgspec

from rtcore.testing.report import CarrierReport

__all__ = ["Summary", "nearest_rank", "summarise"]


class Summary(msgspec.Struct, frozen=True, kw_only=True):
    """What a set of calls came to; milliseconds, None where there was nothing to measure."""

    calls: int
    answered: int
    turns: int
    responses: int
    response_p50_ms: float | None
    response_p95_ms: float | None
    response_max_ms: float | None
    cut_ins: int
    barge_ins: int
    silence_p50_ms: float | None  # from the caller's first voiced sample to silence at the ear
    silence_max_ms: float | None
    gaps: int
    gap_max_ms: float | None
    stale_messages: int
    violations: int


def summarise(reports: Sequence[CarrierReport]) -> Summary:
    """All turns, barge-ins and gaps of ``reports``, taken together."""
    turns = [turn for report in reports for turn in report.turns]
    responses = [turn.response_ms for turn in turns if turn.response_ms is not None]
    barge_ins = [barge_in for report in reports for barge_in in report.barge_ins]
    silences = [b.silence_ms for b in barge_ins if b.silence_ms is not None]
    gaps = [gap.gap_ms for report in reports for gap in report.gaps]
    return Summary(
        calls=len(reports),
        answered=sum(report.is_answered for report in reports),
        turns=len(turns),
        responses=len(responses),
        response_p50_ms=nearest_rank(responses, 0.5),
        response_p95_ms=nearest_rank(responses, 0.95),
        response_max_ms=max(responses, default=None),
        cut_ins=sum(turn.cut_in_sample is not None for turn in turns),
        barge_ins=len(barge_ins),
        silence_p50_ms=nearest_rank(silences, 0.5),
        silence_max_ms=max(silences, default=None),
        gaps=len(gaps),
        gap_max_ms=max(gaps, default=None),
        stale_messages=sum(report.counts.stale_messages for report in reports),
        violations=sum(len(report.violations) for report in reports),
    )


def nearest_rank(values: Sequence[float], share: float) -> float | None:
    """The smallest value that ``share`` (over 0, up to 1) of all do not exceed."""
    return sorted(values)[math.ceil(share * len(values)) - 1] if values else None
