"""What the callers of one load found out, and how many of it there were."""

from __future__ import annotations

import math
from collections.abc import Sequence

import msgspec

from bench.report import Budget, Table, budget, percentile

__all__ = ["LATENESS_P99_MS", "Counts", "Heard", "Step", "fault_budgets", "fault_table"]

LATENESS_P99_MS = 2.0  # of the generator: past it what it measured may be its own


class Heard(msgspec.Struct):
    """Samples of all calls since they were last taken; ms unless the name says otherwise.

    ``turns`` and ``interruptions`` keep what belongs together: (call, when it was spoken in s,
    ms). A gap of 0 is a piece of audio that came in time.
    """

    response_ms: list[float] = []
    gap_ms: list[float] = []  # one a piece of audio that follows another
    worst_gap_ms: list[float] = []  # one a reply: the longest hole in it
    clear_ms: list[float] = []  # caller's first voiced sample to clearAudio
    silence_ms: list[float] = []  # the same to the agent's last audible sample
    lateness_ms: list[float] = []  # the generator's own: one each 0.2 ms
    turns: list[tuple[int, float, float]] = []
    interruptions: list[tuple[int, float, float]] = []
    overdue_ms: list[float] = []  # waited by questions still open at the end, past all answers
    cleared: list[tuple[int, float]] = []  # (call, when clearAudio came)

    @property
    def waits_ms(self) -> list[float]:
        """How long questions waited: until they were answered, or the window ended."""
        return self.response_ms + self.overdue_ms

    @property
    def is_late(self) -> bool:
        """Whether the generator did not keep up, so that these times may be its own."""
        return (percentile(self.lateness_ms, 0.99) or 0.0) > LATENESS_P99_MS


class Counts(msgspec.Struct):
    """What is only counted, since the load began.

    What is not answered, or stalls until the caller goes on, has no time: it is found here only.
    """

    frames: int = 0
    refused_frames: int = 0  # the server took so little that the socket was full
    pieces: int = 0
    turns: int = 0
    paused_turns: int = 0  # with a pause inside, in which nobody should answer
    unanswered: int = 0  # by nothing, or by the rest of a reply that had stalled
    interruptions: int = 0
    uninterrupted: int = 0  # the agent went on over the caller, or after a stall with no clear
    ended_alone: int = 0  # the reply ended by itself before it was cleared: no barge-in to time
    sized_replies: int = 0  # answers whose length is known: of others none is known to stall
    stalled: int = 0  # of these, those that fell silent half said, until the caller went on
    cut_offs: int = 0  # it answered while the caller was still speaking
    stale_pieces: int = 0  # audio of the old reply after its clear
    lost_calls: int = 0  # closed by the server, or never begun

    @property
    def talked_over(self) -> str:
        """Of the interruptions, those that did not stop the agent; as text."""
        return f"{self.uninterrupted}/{self.interruptions}" if self.interruptions else "none"


class Step(msgspec.Struct, frozen=True, kw_only=True):
    """One measured window."""

    calls: int
    seconds: float
    heard: Heard
    counts: Counts  # within the window; calls lost: until its end
    core_share: float = 0.0  # of its core, what the generator took

    @property
    def silences_ms(self) -> list[float]:
        """How long the agent talked on over each caller: where it did not stop, for ever."""
        return self.heard.silence_ms + [math.inf] * self.counts.uninterrupted

    @property
    def held_calls(self) -> int:
        """What a cost is shared by: a call that was lost has none, and would make others cheap."""
        return max(1, self.calls - self.counts.lost_calls)


def fault_table(counts: Sequence[tuple[str, Counts]]) -> Table:
    """What went wrong for callers, which no percentile of times can tell."""
    return Table(
        title="What went wrong",
        columns=[
            "", "spoken", "unanswered", "spoken into", "stalled", "talked over", "ended alone",
            "stale pieces", "frames refused", "lost",
        ],
        rows=[
            [
                name,
                str(each.turns),
                str(each.unanswered),
                str(each.cut_offs),
                f"{each.stalled}/{each.sized_replies}" if each.sized_replies else "-",
                each.talked_over,
                str(each.ended_alone),
                str(each.stale_pieces),
                str(each.refused_frames),
                str(each.lost_calls),
            ]
            for name, each in counts
        ],
    )  # fmt: skip


def fault_budgets(counts: Sequence[Counts]) -> list[Budget]:
    """None of it should happen; to speak into a pause that invites it has bars of its own."""
    found = {
        "questions unanswered": sum(each.unanswered for each in counts),
        "questions spoken into": sum(each.cut_offs for each in counts),
        "replies that stalled": sum(each.stalled for each in counts),
        "stale pieces of a cleared reply": sum(each.stale_pieces for each in counts),
        "calls lost": max((each.lost_calls for each in counts), default=0),
    }
    if not any(each.sized_replies for each in counts):
        del found["replies that stalled"]
    if any(each.paused_turns for each in counts):
        del found["questions spoken into"]
    return [budget(what, number, 1, "") for what, number in found.items()]
