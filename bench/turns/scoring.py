"""From decisions and labels to counts: what a caller would have noticed.

Latencies are of the *emission*: samples the detector had heard when it decided, less the labelled
sample. Raw counts of several tracks add up (:class:`Tally`), the intervals are taken at the end.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, fields
from typing import Any

from bench.turns.drive import Decision
from bench.turns.intervals import per_minute, quantiles, share
from bench.turns.labels import RATE_HZ, Span, ms
from bench.turns.tracks import Track
from rtcore.turn.events import (
    BargeInConfirmed,
    BargeInDismissed,
    BargeInSuspected,
    Event,
    SpeechStarted,
    TurnEager,
    TurnEnded,
    TurnResumed,
)

__all__ = ["Tally", "score", "summary"]

EARLY_SAMPLES = ms(60)  # labels are good to some 20 ms, windows reach back: not a false start yet
ONSET_LATE_SAMPLES = ms(1500)  # a detection later than that is of something else
AFTERMATH_SAMPLES = ms(1000)  # what is emitted that long after a noise is blamed on it
ONSET_SILENCE_SAMPLES = ms(1000)  # onsets are measured after real silence, not within a hang-over
REACTION_SAMPLES = ms(100)  # a cut this soon after the caller went on was decided in the pause
LEAD_MS = 120  # audio ahead of the line at the carrier: the agent falls silent that much later


@dataclass
class Tally:
    """Raw counts and latencies (ms); two tallies add."""

    onset_ms: list[float] = field(default_factory=list)
    onsets_missed: int = 0
    suspect_ms: list[float] = field(default_factory=list)
    confirm_ms: list[float] = field(default_factory=list)
    barge_ins: int = 0
    masked: int = 0
    barge_ins_dismissed: int = 0
    unconfirmed: int = 0
    false_suspected: int = 0
    false_confirmed: int = 0
    false_starts: int = 0
    agent_samples: int = 0
    events: int = 0
    events_suspected: int = 0
    events_confirmed: int = 0
    confirmed_kinds: list[str] = field(default_factory=list)
    backchannels: int = 0
    backchannels_suspected: int = 0
    backchannels_confirmed: int = 0
    held_ms: list[float] = field(default_factory=list)
    false_dismissed: int = 0
    turns: int = 0
    turns_uncommitted: int = 0
    eager_ms: list[float] = field(default_factory=list)
    commit_ms: list[float] = field(default_factory=list)
    pauses: int = 0
    cut_pauses: int = 0
    cut_turns: int = 0
    cut_in_speech: int = 0
    eager_wasted: int = 0

    def __add__(self, other: Tally) -> Tally:
        return Tally(
            **{f.name: getattr(self, f.name) + getattr(other, f.name) for f in fields(self)}
        )


def _emitted(decisions: Iterable[Decision], kind: type[Event]) -> list[int]:
    return [decision.emitted for decision in decisions if isinstance(decision.event, kind)]


def _within(times: Sequence[int], start: int, end: int) -> list[int]:
    return [time for time in times if start <= time < end]


def _in_ms(samples: int) -> float:
    return samples * 1000 / RATE_HZ


def score(track: Track, decisions: Sequence[Decision]) -> Tally:
    tally = Tally()
    _score_onsets(track, decisions, tally)
    _score_barge_ins(track, decisions, tally)
    _score_turns(track, decisions, tally)
    return tally


def _score_onsets(track: Track, decisions: Sequence[Decision], tally: Tally) -> None:
    starts = _emitted(decisions, SpeechStarted)
    before = 0
    for span in track.speech:
        over_agent = any(s.start - ms(300) < span.start < s.end + ms(800) for s in track.audible)
        if span.start - before >= ONSET_SILENCE_SAMPLES and not over_agent:
            found = _within(starts, span.start - EARLY_SAMPLES, span.end + EARLY_SAMPLES)
            if found:
                tally.onset_ms.append(_in_ms(found[0] - span.start))
            else:
                tally.onsets_missed += 1
        before = span.end


def _score_barge_ins(track: Track, decisions: Sequence[Decision], tally: Tally) -> None:
    suspected = _emitted(decisions, BargeInSuspected)
    confirmed = _emitted(decisions, BargeInConfirmed)
    dismissed = _emitted(decisions, BargeInDismissed)
    for span in track.barge_ins:
        window = (span.start - EARLY_SAMPLES, min(span.end, span.start + ONSET_LATE_SAMPLES))
        tally.barge_ins += 1
        found = _within(suspected, *window)
        if found:
            tally.suspect_ms.append(_in_ms(found[0] - span.start))
        else:
            tally.masked += 1
        cleared = _within(confirmed, window[0], span.end + AFTERMATH_SAMPLES)
        if cleared:
            tally.confirm_ms.append(_in_ms(cleared[0] - span.start))
        else:
            tally.unconfirmed += 1
        # the track is open-loop: what comes after the confirmation is over a reply that, in a
        # call, is no longer spoken
        settled = cleared[0] if cleared else span.end
        tally.barge_ins_dismissed += bool(_within(dismissed, span.start, settled))
    for span, kind in track.events:
        until = span.end + AFTERMATH_SAMPLES
        tally.events += 1
        tally.events_suspected += bool(_within(suspected, span.start, until))
        if _within(confirmed, span.start, until):
            tally.events_confirmed += 1
            tally.confirmed_kinds.append(kind)
    for span in track.backchannels:
        until = span.end + AFTERMATH_SAMPLES
        tally.backchannels += 1
        tally.backchannels_suspected += bool(_within(suspected, span.start - EARLY_SAMPLES, until))
        tally.backchannels_confirmed += bool(_within(confirmed, span.start - EARLY_SAMPLES, until))
    _score_false(track, decisions, tally)


def _score_false(track: Track, decisions: Sequence[Decision], tally: Tally) -> None:
    """What was taken for the caller and was not; holds count noises and backchannels too."""
    truly = [
        Span(span.start - EARLY_SAMPLES, span.end + AFTERMATH_SAMPLES) for span in track.speech
    ]
    noises = [Span(span.start, span.end + AFTERMATH_SAMPLES) for span, _ in track.events]
    wanted = [
        Span(span.start - EARLY_SAMPLES, span.end + AFTERMATH_SAMPLES) for span in track.barge_ins
    ]
    held_since: int | None = None
    for decision in decisions:
        at, event = decision.emitted, decision.event
        false = not any(span.start <= at < span.end for span in truly)
        unexplained = false and not any(span.start <= at < span.end for span in noises)
        if isinstance(event, SpeechStarted):
            tally.false_starts += unexplained
        elif isinstance(event, BargeInSuspected):
            tally.false_suspected += unexplained
            held_since = at
        elif isinstance(event, BargeInConfirmed):
            tally.false_confirmed += unexplained
            held_since = None
        elif isinstance(event, BargeInDismissed) and held_since is not None:
            if not any(span.start <= held_since < span.end for span in wanted):
                tally.false_dismissed += 1
                tally.held_ms.append(_in_ms(at - held_since))
            held_since = None
    said_over = sum(
        max(0, min(span.end, agent.end) - max(span.start, agent.start))
        for span in track.speech
        for agent in track.audible
    )
    tally.agent_samples += sum(span.end - span.start for span in track.audible) - said_over


def _score_turns(track: Track, decisions: Sequence[Decision], tally: Tally) -> None:
    eager = _emitted(decisions, TurnEager)
    resumed = _emitted(decisions, TurnResumed)
    ended = _emitted(decisions, TurnEnded)
    for turn in track.turns:
        tally.turns += 1
        commits = _within(ended, turn.end, turn.answered)
        if commits:
            tally.commit_ms.append(_in_ms(commits[0] - turn.end))
            early = _within(eager, turn.end, commits[0] + 1)
            if early:  # of several (words changed), the last is the one that was committed
                tally.eager_ms.append(_in_ms(early[-1] - turn.end))
        else:
            tally.turns_uncommitted += 1
        pauses = turn.pauses
        cut = sum(
            bool(_within(ended, pause.start, pause.end + REACTION_SAMPLES)) for pause in pauses
        )
        tally.pauses += len(pauses)
        tally.cut_pauses += cut
        tally.cut_turns += bool(cut)
        blamed = sum(
            len(_within(ended, pause.start, pause.end + REACTION_SAMPLES)) for pause in pauses
        )
        tally.cut_in_speech += len(_within(ended, turn.start, turn.end)) - blamed
        tally.eager_wasted += len(_within(resumed, turn.start, turn.answered))


def summary(tally: Tally) -> dict[str, Any]:
    """What is reported of a tally: only the parts it has anything to say about."""
    result: dict[str, Any] = {}
    if tally.onset_ms or tally.onsets_missed:
        onsets = len(tally.onset_ms) + tally.onsets_missed
        result["onset_ms"] = quantiles(tally.onset_ms)
        result["onsets_missed"] = share(tally.onsets_missed, onsets)
    if tally.barge_ins:
        result["barge_in_suspected_ms"] = quantiles(tally.suspect_ms)
        result["barge_in_confirmed_ms"] = quantiles(tally.confirm_ms)
        result["masked"] = share(tally.masked, tally.barge_ins)
        result["barge_ins_unconfirmed"] = share(tally.unconfirmed, tally.barge_ins)
        result["barge_ins_dismissed"] = share(tally.barge_ins_dismissed, tally.barge_ins)
    if tally.agent_samples:
        minutes = tally.agent_samples / RATE_HZ / 60
        result["false_suspected"] = per_minute(tally.false_suspected, minutes)
        result["false_confirmed"] = per_minute(tally.false_confirmed, minutes)
        result["false_starts"] = per_minute(tally.false_starts, minutes)
    if tally.events:
        result["events_suspected"] = share(tally.events_suspected, tally.events)
        result["events_confirmed"] = share(tally.events_confirmed, tally.events)
        kinds = sorted(set(tally.confirmed_kinds))
        result["events_confirmed_kinds"] = {k: tally.confirmed_kinds.count(k) for k in kinds}
    if tally.backchannels:
        result["backchannels_suspected"] = share(tally.backchannels_suspected, tally.backchannels)
        result["backchannels_confirmed"] = share(tally.backchannels_confirmed, tally.backchannels)
    if tally.held_ms:
        result["false_held_ms"] = quantiles(tally.held_ms)
        result["agent_lost_ms"] = quantiles([max(0.0, held - LEAD_MS) for held in tally.held_ms])
    if tally.turns:
        result["eager_ms"] = quantiles(tally.eager_ms)
        result["commit_ms"] = quantiles(tally.commit_ms)
        result["turns_uncommitted"] = share(tally.turns_uncommitted, tally.turns)
        result["pauses_cut"] = share(tally.cut_pauses, tally.pauses)
        result["turns_cut"] = share(tally.cut_turns, tally.turns)
        result["cut_in_speech"] = tally.cut_in_speech
        result["eager_wasted_per_turn"] = round(tally.eager_wasted / tally.turns, 3)
    return result
