"""The real two-party call: whose turn it was follows from who spoke next.

A silence inside one party's speech is a mid-turn pause when the other did not use it. One that
nobody used for long may as well be a lapse: the turn had ended and the other was free to speak.
Where the line lies was chosen with the call's silences in view, and verdicts hang on it: pauses
cut at 1.0, 1.5, 2.0, 2.5 and 5.0 s were 1.9, 8.6, 10.2, 13.1 and 14.5 % without words, and 1.9, 0,
1.7, 4.9 and 6.5 % with them. So both readings are played and judged: ``LAPSE_SAMPLES`` and
``NO_LAPSE_SAMPLES``. Either way a pause is a silence of 0.2 s or more (``PAUSE_SAMPLES``).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from bench.turns.labels import Span, ms, speech_spans
from bench.turns.sources import Call

__all__ = ["LAPSE_SAMPLES", "NO_LAPSE_SAMPLES", "Heard", "label_call", "merge"]

FLOOR_SAMPLES = ms(1000)  # somebody silent for less still holds the floor
BACKCHANNEL_SAMPLES = (ms(150), ms(1000))
MONOLOGUE_SAMPLES = ms(2000)  # a backchannel answers somebody who holds the floor this long
LAPSE_SAMPLES = ms(1500)  # gives a plain timer the cut-offs published for such calls
NO_LAPSE_SAMPLES = ms(5000)  # every silence of the call is a pause, as in eot-bench
TAKES_FLOOR_SAMPLES = ms(200)  # of speech in the caller's silence make it the other's turn


@dataclass(frozen=True)
class Heard:
    """A call's labels: the caller's turns and backchannels, the other party's floor."""

    turns: list[list[Span]]
    backchannels: list[Span]
    other: list[Span]


def merge(spans: Sequence[Span], shorter_than: int) -> list[Span]:
    """Spans with the silences shorter than ``shorter_than`` between them closed."""
    merged: list[Span] = []
    for span in spans:
        if merged and span.start - merged[-1].end < shorter_than:
            span = Span(merged.pop().start, span.end)
        merged.append(span)
    return merged


def _is_backchannel(span: Span, floors: Sequence[Span]) -> bool:
    shortest, longest = BACKCHANNEL_SAMPLES
    return shortest <= span.end - span.start <= longest and any(
        floor.end - floor.start >= MONOLOGUE_SAMPLES
        and floor.start < span.start
        and span.end < floor.end
        for floor in floors
    )


def _overlap(one: Span, two: Span) -> int:
    return max(0, min(one.end, two.end) - max(one.start, two.start))


def label_call(call: Call, lapse_samples: int = LAPSE_SAMPLES) -> Heard:
    """Split the caller's speech into turns (with pauses) and backchannels."""
    caller, other = speech_spans(call.caller), speech_spans(call.other)
    floors = merge(other, FLOOR_SAMPLES)
    own_floors = merge(caller, FLOOR_SAMPLES)
    backchannels = [span for span in caller if _is_backchannel(span, floors)]
    answers = [span for span in other if not _is_backchannel(span, own_floors)]
    # what is too short to be a word and lies under the other's speech is cross-talk
    words = [
        span
        for span in caller
        if span not in backchannels
        and not (
            span.end - span.start < BACKCHANNEL_SAMPLES[0]
            and any(_overlap(span, floor) for floor in floors)
        )
    ]
    turns: list[list[Span]] = []
    for span in words:
        silence = Span(turns[-1][-1].end, span.start) if turns else None
        if (
            silence is None
            or silence.end - silence.start > lapse_samples
            or any(_overlap(silence, answer) >= TAKES_FLOOR_SAMPLES for answer in answers)
        ):
            turns.append([span])
        else:
            turns[-1].append(span)
    return Heard(turns, backchannels, floors)
