"""``rtcore replay``: a recorded call through other turn-taking numbers, and what would change.

The recording decides what both parties say; only the decisions differ. So the answer is about
the moments themselves: a turn ended earlier or later, a pause taken for an end, a barge-in seen
or not. Words are unknown here (a record has their number and time, not which they were), and the
agent is taken to speak while its channel is audible.
"""

from __future__ import annotations

import bisect
import statistics
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple, cast

import msgspec
from rich.console import Console
from rich.table import Table

from rtcore.audio import FRAME_SAMPLES, RATE_HZ
from rtcore.errors import ConfigError
from rtcore.testing.wav import read_channels
from rtcore.turn import TurnConfig, TurnDetector
from rtcore.turn.config import Preset
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

__all__ = ["Change", "Decision", "changes", "decide", "read_call", "replay"]

SAME_SAMPLES = RATE_HZ * 60 // 1000  # decisions of one moment lie closer than three frames
SPEAKS_ON_SAMPLES = RATE_HZ * 1500 // 1000  # speech this soon after a turn's end: it was a pause
WORDS_UNKNOWN = "Words are unknown to a replay: it ends turns by silence alone. "
VERDICTS = ("earlier", "later", "added", "removed")


class Decision(NamedTuple):
    """An event and the caller-audio sample at which it was decided."""

    decided_sample: int
    event: Event


class Change(msgspec.Struct, frozen=True, kw_only=True):
    """One thing another preset decides otherwise; ``shift_ms`` where both decide it."""

    at_ms: int
    what: str  # turn_end, cut_off, barge_in, barge_in_suspected, eager
    verdict: str  # one of VERDICTS
    shift_ms: int | None = None


def read_call(path: Path) -> tuple[bytes, bytes]:
    """The caller (left) and the agent (right) of a recording, as int16 at 8000 Hz.

    Raises:
        ConfigError: it cannot be read, or has not these two channels.
    """
    try:
        channels = read_channels(path)
    except OSError as exc:
        raise ConfigError("wav", str(exc)) from exc
    if len(channels) != 2:
        what = f"{path}: {len(channels)} channels; needed are two, caller left, agent right"
        raise ConfigError("wav", what)
    caller, agent = channels
    return caller, agent


def decide(caller: bytes, agent: bytes, config: TurnConfig) -> list[Decision]:
    """All decisions on a call; what is left of a last partial frame is not heard.

    Not a checkpoint: some thousand times faster than the call was.
    """
    detector = TurnDetector(config)
    decisions: list[Decision] = []
    frame_bytes = 2 * FRAME_SAMPLES
    for start in range(0, len(caller) - frame_bytes + 1, frame_bytes):
        end = start + frame_bytes
        for event in detector.push(caller[start:end], agent[start:end]):
            decisions.append(Decision(end // 2, event))
    decisions += [Decision(detector.now_samples, event) for event in detector.close()]
    return decisions


def answered_first(run: Sequence[Decision]) -> list[Decision]:
    """Where the agent is heard to answer a turn that silence alone has not ended yet.

    In the call words had ended it there, most likely: they are why a replay ends fewer turns.
    """
    voices = {decision.decided_sample for decision in _of(run, SpeechStarted)}
    return [each for each in _of(run, TurnResumed) if each.decided_sample not in voices]


def changes(before: Sequence[Decision], after: Sequence[Decision]) -> list[Change]:
    """What the second run decides otherwise than the first, in the order of the call."""
    found: list[Change] = []
    speech = sorted(
        decision.event.at_sample
        for decision in (*before, *after)
        if isinstance(decision.event, SpeechStarted)
    )
    for what, kind in (
        ("turn_end", TurnEnded),
        ("eager", TurnEager),
        ("barge_in_suspected", BargeInSuspected),
        ("barge_in", BargeInConfirmed),
    ):
        for old, new in _paired(_of(before, kind), _of(after, kind)):
            present = new or old
            assert present is not None
            name = what
            if what == "turn_end" and (old is None or new is None) and _speaks_on(speech, present):
                name = "cut_off"
            if old is None or new is None:
                verdict, shift = ("added" if old is None else "removed"), None
            else:
                shift = _ms(new.decided_sample - old.decided_sample)
                verdict = "later" if shift > 0 else "earlier"
            if shift != 0:
                at_ms = _ms(present.decided_sample)
                found.append(Change(at_ms=at_ms, what=name, verdict=verdict, shift_ms=shift))
    return sorted(found, key=lambda change: change.at_ms)


def replay(wav: Path, preset: str, against: str | None = None, *, json: bool = False) -> int:
    """Print what ``preset`` decides on a recorded call and, with ``against``, what changes.

    Args:
        wav: a stereo recording, the caller left and the agent right.
        preset: the turn-taking to run.
        against: the preset to compare with: the changes are those of moving from ``against``
            to ``preset``.
        json: one JSON document on standard output instead of tables.

    Returns:
        0, or 2 when the recording or a preset cannot be used (said on standard error).
    """
    try:
        caller, agent = read_call(wav)
        names = [preset] if against is None else [against, preset]
        runs = {
            # preset() refuses what is no preset
            name: decide(caller, agent, TurnConfig.preset(cast(Preset, name)))
            for name in names
        }
    except ConfigError as exc:
        Console(stderr=True).print(f"replay: {exc}", style="red", markup=False)
        return 2
    differing = [] if against is None else changes(runs[against], runs[preset])
    if json:
        document = {
            "wav": str(wav),
            "seconds": len(caller) / 2 / RATE_HZ,
            "words_known": False,
            "presets": {name: _document(run) for name, run in runs.items()},
            "answered_first": {
                name: [_ms(each.decided_sample) for each in answered_first(run)]
                for name, run in runs.items()
            },
            "changes": differing,
        }
        octets = msgspec.json.format(msgspec.json.encode(document), indent=1)
        sys.stdout.write(octets.decode() + "\n")
        return 0
    console = Console()
    for name, run in runs.items():
        if name == preset or against is None:
            console.print(_events_table(name, run))
    console.print(_counts_table(runs))
    if against is not None:
        console.print(_changes_table(against, preset, differing))
        console.print(_summary_table(differing))
    console.print(_on_words(len(answered_first(runs[preset]))), highlight=False)
    return 0


# --- matching ---------------------------------------------------------------------------


def _of(decisions: Sequence[Decision], kind: type[Event]) -> list[Decision]:
    return [decision for decision in decisions if isinstance(decision.event, kind)]


def _paired(
    old: Sequence[Decision], new: Sequence[Decision]
) -> Iterator[tuple[Decision | None, Decision | None]]:
    """Decisions of either run about the same moment, in order; those of one run alone with None."""
    left, right = 0, 0
    while left < len(old) or right < len(new):
        if left == len(old):
            yield None, new[right]
            right += 1
        elif right == len(new):
            yield old[left], None
            left += 1
        else:
            apart = new[right].event.at_sample - old[left].event.at_sample
            if abs(apart) <= SAME_SAMPLES:
                yield old[left], new[right]
                left, right = left + 1, right + 1
            elif apart > 0:
                yield old[left], None
                left += 1
            else:
                yield None, new[right]
                right += 1


def _speaks_on(speech: Sequence[int], ended: Decision) -> bool:
    """Whether the caller's voice came back so soon that the turn had not been over."""
    following = bisect.bisect_right(speech, ended.event.at_sample)
    return (
        following < len(speech) and speech[following] - ended.event.at_sample <= SPEAKS_ON_SAMPLES
    )


def _ms(samples: int) -> int:
    return round(samples * 1000 / RATE_HZ)


# --- showing ----------------------------------------------------------------------------


def _name(event: Event) -> str:
    return type(event).__name__


def _details(event: Event) -> dict[str, Any]:
    fields = msgspec.structs.asdict(event)
    del fields["at_sample"]
    return fields


def _document(run: Sequence[Decision]) -> list[dict[str, Any]]:
    return [
        {
            "event": _name(event),
            "at_ms": _ms(event.at_sample),
            "decided_ms": _ms(decided),
            **_details(event),
        }
        for decided, event in run
    ]


def _clock(at_ms: int) -> str:
    return f"{at_ms // 60_000}:{at_ms % 60_000 / 1000:06.3f}"


def _events_table(name: str, run: Sequence[Decision]) -> Table:
    table = Table(title=f"decisions of {name}", title_justify="left")
    for column in ("decided at", "speaks of", "after ms", "event", ""):
        table.add_column(column, justify="right" if column == "after ms" else "left")
    answers = set(answered_first(run))
    for decision in run:
        decided, event = decision
        details = " ".join(str(value) for value in _details(event).values())
        if decision in answers:
            details = "the agent answered"
        delay_ms = _ms(decided - event.at_sample)
        table.add_row(
            _clock(_ms(decided)), _clock(_ms(event.at_sample)), str(delay_ms), _name(event), details
        )
    return table


def _counts_table(runs: dict[str, list[Decision]]) -> Table:
    table = Table(title="in all", title_justify="left")
    table.add_column("event")
    for name in runs:
        table.add_column(name, justify="right")
    for kind in (
        SpeechStarted,
        TurnEager,
        TurnResumed,
        TurnEnded,
        BargeInSuspected,
        BargeInConfirmed,
        BargeInDismissed,
    ):
        table.add_row(kind.__name__, *(str(len(_of(run, kind))) for run in runs.values()))
    table.add_row("answered first", *(str(len(answered_first(run))) for run in runs.values()))
    return table


def _on_words(answered: int) -> str:
    """What follows from it that no words are known."""
    if not answered:
        return f"{WORDS_UNKNOWN}No turn was answered before silence alone had ended it."
    turns, them = ("1 turn was", "it") if answered == 1 else (f"{answered} turns were", "them")
    return (
        f"{WORDS_UNKNOWN}{turns} answered before silence alone had ended {them}, most likely as"
        " the words were complete: shown as TurnResumed, and not counted as TurnEnded."
    )


def _changes_table(against: str, preset: str, differing: Sequence[Change]) -> Table:
    title = f"from {against} to {preset}: {len(differing) or 'no'} changes"
    table = Table(title=title, title_justify="left")
    for column in ("at", "what", "change", "ms"):
        table.add_column(column, justify="right" if column == "ms" else "left")
    for change in differing:
        shift = "" if change.shift_ms is None else f"{change.shift_ms:+d}"
        table.add_row(_clock(change.at_ms), change.what, change.verdict, shift)
    return table


def _summary_table(differing: Sequence[Change]) -> Table:
    table = Table(title="changes in all", title_justify="left")
    for column in ("what", "earlier", "later", "median ms", "added", "removed"):
        table.add_column(column, justify="left" if column == "what" else "right")
    for what in sorted({change.what for change in differing}):
        of_kind = [change for change in differing if change.what == what]
        shifts = [change.shift_ms for change in of_kind if change.shift_ms is not None]
        counts = {v: sum(c.verdict == v for c in of_kind) for v in VERDICTS}
        shift = f"{statistics.median(shifts):+.0f}" if shifts else ""
        table.add_row(
            what,
            str(counts["earlier"]),
            str(counts["later"]),
            shift,
            str(counts["added"]),
            str(counts["removed"]),
        )
    return table
