"""What a fake carrier saw and heard, as facts that can be compared."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Literal

import msgspec

from rtcore.audio import RATE_HZ
from rtcore.testing.caller import Caller, Stretch
from rtcore.testing.ear import Ear, Hole, Run
from rtcore.testing.line import LineFormat

__all__ = [
    "BargeIn",
    "CarrierEvent",
    "CarrierReport",
    "Counts",
    "EndedBy",
    "Gap",
    "Turn",
    "report_on",
]

EndedBy = Literal["caller", "node", "limit"]

GAP_MAX_MS = 2000  # a longer silence is the end of a reply, not a hole in it
HOLD_BEFORE_MS = 1000  # speech that ended so long before a hole may have been what held the agent


class CarrierEvent(msgspec.Struct, frozen=True, kw_only=True):
    """Something that happened on the line; audio is not listed, it is counted."""

    at_sample: int
    kind: str
    detail: str = ""


class Turn(msgspec.Struct, frozen=True, kw_only=True):
    """What the caller said in one go, and when the answer to it was first heard.

    ``response_onset_sample`` is None if nothing new was heard before the caller spoke again.
    ``cut_in_sample`` is where the agent began to speak before the caller had finished.
    """

    start_sample: int
    end_sample: int
    response_onset_sample: int | None
    response_ms: float | None  # from the last voiced sample to the first audible one at the ear
    cut_in_sample: int | None


class BargeIn(msgspec.Struct, frozen=True, kw_only=True):
    """The caller began to speak while the agent was heard."""

    start_sample: int
    silence_sample: int | None  # the agent fell silent at the ear; None: not before the call's end
    silence_ms: float | None
    clear_sample: int | None  # when ``clearAudio`` arrived, if it did


class Gap(msgspec.Struct, frozen=True, kw_only=True):
    """Nothing to play in the middle of a sentence, and nobody had interrupted it."""

    start_sample: int
    gap_ms: float


class Counts(msgspec.Struct, kw_only=True):
    """What a carrier only counts."""

    sent_frames: int = 0
    refused_messages: int = 0  # ours, that the socket did not take
    lost_messages: int = 0  # ours, that the faults of the line kept
    audio_messages: int = 0
    audio_samples: int = 0  # received, heard or not; at the line's rate
    overflow_messages: int = 0  # past the carrier's buffer, so lost
    stale_messages: int = 0  # audio of the old reply after its clear
    clears: int = 0
    checkpoints: int = 0
    played_checkpoints: int = 0


class CarrierReport(msgspec.Struct, frozen=True, kw_only=True):
    """One call as its carrier and its caller knew it.

    Samples count at 8000 Hz from the stream's beginning, for both directions.
    """

    call_id: str
    ended_by: EndedBy
    close_code: int
    duration_ms: float
    turns: tuple[Turn, ...]
    barge_ins: tuple[BargeIn, ...]
    gaps: tuple[Gap, ...]
    pauses: tuple[Gap, ...]  # the same where a sentence ends, and speech is whole
    agent_runs: tuple[tuple[int, int], ...]  # where the agent was audible
    missed_interruptions: int  # the agent never spoke long enough to be interrupted
    counts: Counts
    dtmf: str  # keys the agent sent
    violations: tuple[str, ...]  # what no carrier would accept, in words
    events: tuple[CarrierEvent, ...]

    @property
    def is_answered(self) -> bool:
        """Whether the agent was heard at all."""
        return bool(self.agent_runs)


def report_on(
    *,
    call_id: str,
    ended_by: EndedBy,
    close_code: int,
    line: LineFormat,
    duration_samples: int,
    ear: Ear,
    caller: Caller,
    clears: Sequence[int],
    counts: Counts,
    dtmf: str,
    violations: Sequence[str],
    events: Sequence[CarrierEvent],
) -> CarrierReport:
    """Put the facts of one call together; positions at the line's rate become 8000 Hz."""

    def at_8k(sample: int) -> int:
        return sample * RATE_HZ // line.rate_hz

    runs = [Run(start=at_8k(run.start), end=at_8k(run.end)) for run in ear.runs]
    holes = [
        Hole(start=at_8k(hole.start), end=at_8k(hole.end), is_boundary=hole.is_boundary)
        for hole in ear.holes
    ]
    stretches, end = caller.stretches, at_8k(duration_samples)
    return CarrierReport(
        call_id=call_id,
        ended_by=ended_by,
        close_code=close_code,
        duration_ms=_ms(end),
        turns=tuple(_turns(stretches, runs)),
        barge_ins=tuple(_barge_ins(stretches, runs, [at_8k(at) for at in clears], end)),
        gaps=tuple(_gaps(holes, stretches, at_boundary=False)),
        pauses=tuple(_gaps(holes, stretches, at_boundary=True)),
        agent_runs=tuple((run.start, run.end) for run in runs),
        missed_interruptions=caller.missed_interruptions,
        counts=counts,
        dtmf=dtmf,
        violations=tuple(violations),
        events=tuple(events),
    )


def _turns(stretches: Sequence[Stretch], runs: Sequence[Run]) -> Iterator[Turn]:
    """Match each stretch with the first run that began after it and before the next one."""
    for number, stretch in enumerate(stretches):
        until = stretches[number + 1].start if number + 1 < len(stretches) else None
        onset = next(
            (
                run.start
                for run in runs
                if run.start >= stretch.end and (until is None or run.start < until)
            ),
            None,
        )
        yield Turn(
            start_sample=stretch.start,
            end_sample=stretch.end,
            response_onset_sample=onset,
            response_ms=None if onset is None else _ms(onset - stretch.end),
            cut_in_sample=next(
                (run.start for run in runs if stretch.start < run.start < stretch.end), None
            ),
        )


def _barge_ins(
    stretches: Sequence[Stretch], runs: Sequence[Run], clears: Sequence[int], end: int
) -> Iterator[BargeIn]:
    """Those stretches that began inside a run, and how long the run went on."""
    for stretch in stretches:
        run = next((run for run in runs if run.start <= stretch.start < run.end), None)
        if run is None:
            continue
        silence = run.end if run.end < end else None
        clear = next((at for at in clears if stretch.start <= at), None)
        following = next((later.start for later in runs if later.start >= run.end), end)
        yield BargeIn(
            start_sample=stretch.start,
            silence_sample=silence,
            silence_ms=None if silence is None else _ms(silence - stretch.start),
            clear_sample=clear if clear is not None and clear <= following else None,
        )


def _gaps(
    holes: Sequence[Hole], stretches: Sequence[Stretch], *, at_boundary: bool
) -> Iterator[Gap]:
    """The holes in the agent's speech that are the agent's own fault."""
    hold = HOLD_BEFORE_MS * RATE_HZ // 1000
    for hole in holes:
        gap_ms = _ms(hole.end - hole.start)
        is_answer_or_hold = any(
            stretch.start <= hole.end and stretch.end >= hole.start - hold for stretch in stretches
        )
        if hole.is_boundary == at_boundary and gap_ms <= GAP_MAX_MS and not is_answer_or_hold:
            yield Gap(start_sample=hole.start, gap_ms=gap_ms)


def _ms(samples: int) -> float:
    return samples * 1000 / RATE_HZ
