"""What the bench prints and keeps: the document, the tables, the issue's targets."""

from __future__ import annotations

import os
import platform
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from bench.turns.run import Tallies, pooled
from bench.turns.scoring import summary
from bench.turns.sources import SPLITS
from bench.turns.tracks import Track

__all__ = ["Target", "document", "print_scores", "print_targets", "targets"]

ECHO, HARD, CALL = ("echo",), ("hardecho",), ("call",)
TURNS = ("call", "quiet", "digits")


def machine() -> dict[str, Any]:
    return {
        "python": platform.python_version(),
        "system": platform.platform(),
        "processor": platform.processor() or platform.machine(),
        "cores": os.cpu_count(),
    }


def commit() -> str:
    """The commit measured, with a mark when the tree differs from it."""
    git = ["git", "-C", str(Path(__file__).parent)]
    try:
        head = subprocess.run(
            [*git, "rev-parse", "--short=12", "HEAD"], capture_output=True, text=True, check=True
        ).stdout.strip()
        dirty = subprocess.run(
            [*git, "status", "--porcelain", "-uno"], capture_output=True, text=True, check=True
        ).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return f"{head}{'+changes' if dirty else ''}"


def exposure(tracks: Sequence[Track]) -> dict[str, dict[str, dict[str, float]]]:
    """How much there was to be right or wrong about."""
    return {
        split: {
            track.condition: {
                "seconds": len(track.caller) / 8000,
                "turns": len(track.turns),
                "pauses": sum(len(turn.pauses) for turn in track.turns),
                "barge_ins": len(track.barge_ins),
                "events": len(track.events),
                "backchannels": len(track.backchannels),
            }
            for track in tracks
            if track.split == split
        }
        for split in SPLITS
    }


def scores_of(tallies: Tallies) -> dict[str, Any]:
    """detector -> words -> split (or ``all``) -> condition -> summary and raw counts."""
    scores: dict[str, Any] = {}
    for name, words, split, condition in tallies:
        side = scores.setdefault(name, {}).setdefault("words" if words else "no_words", {})
        tally = tallies[name, words, split, condition]
        side.setdefault(split, {})[condition] = {**summary(tally), "raw": asdict(tally)}
        if condition not in side.setdefault("all", {}):
            side["all"][condition] = summary(pooled(tallies, name, words, (condition,)))
    return scores


def document(
    tracks: Sequence[Track],
    tallies: Tallies,
    sweeps: dict[str, Any],
    cpu: dict[str, float],
    lacking: dict[str, str],
    command: Sequence[str],
    seed: int,
    quick: bool,
) -> dict[str, Any]:
    """The JSON result; everything under ``scores`` is the same bytes for the same seed."""
    return {
        "bench": "turns",
        "machine": machine(),
        "commit": commit(),
        "command": list(command),
        "cpu_us_per_frame": cpu,
        "not_run": lacking,
        "scores": {
            "seed": seed,
            "quick": quick,
            "exposure": exposure(tracks),
            "detectors": scores_of(tallies),
            "sweeps": sweeps,
        },
    }


# --- tables -----------------------------------------------------------------------------


def _text(value: Any) -> str:
    """One measure in a cell: the number and its interval."""
    if value is None:
        return "-"
    if not isinstance(value, dict):
        return f"{value:g}"
    if "per_minute" in value:
        return "-" if value["per_minute"] is None else f"{value['per_minute']:g}/min {_ci(value)}"
    if "percent" in value:
        if value["percent"] is None:
            return "-"
        return f"{value['hits']}/{value['of']} {_ci(value)}%"
    if not value.get("n"):
        return "-"
    return f"{value['p50']:.0f} / {value['p95']:.0f} / {value['max']:.0f}"


def _ci(value: dict[str, Any]) -> str:
    low, high = value["ci95"]
    return f"({low:g}-{high:g})"


COLUMNS = {
    "barge-in": (
        ("echo", "onset ms p50/p95/max", ECHO, "barge_in_suspected_ms"),
        ("echo", "clear ms p50/p95/max", ECHO, "barge_in_confirmed_ms"),
        ("echo", "masked", ECHO, "masked"),
        ("echo", "suspected", ECHO, "false_suspected"),
        ("echo", "confirmed", ECHO, "false_confirmed"),
        ("hard", "suspected", HARD, "false_suspected"),
        ("hard", "masked", HARD, "masked"),
        ("+300", "suspected", ("echo-300",), "false_suspected"),
        ("+600", "suspected", ("echo-600",), "false_suspected"),
    ),
    "noises, backchannels": (
        ("events", "suspected", ("events",), "events_suspected"),
        ("events", "confirmed", ("events",), "events_confirmed"),
        ("backchannels", "suspected", ("backchannels",), "backchannels_suspected"),
        ("backchannels", "confirmed", ("backchannels",), "backchannels_confirmed"),
        ("agent", "lost ms p50/p95/max", ("events", "backchannels", *ECHO, *HARD), "agent_lost_ms"),
        ("barge-ins", "unconfirmed", (*ECHO, *HARD), "barge_ins_unconfirmed"),
        ("barge-ins", "dismissed", (*ECHO, *HARD), "barge_ins_dismissed"),
    ),
    "end of turn": (
        ("call", "eager ms p50/p95/max", CALL, "eager_ms"),
        ("call", "commit ms p50/p95/max", CALL, "commit_ms"),
        ("call", "pauses cut", CALL, "pauses_cut"),
        ("built", "commit ms p50/p95/max", ("quiet",), "commit_ms"),
        ("built", "pauses cut", ("quiet",), "pauses_cut"),
        ("digits", "pauses cut", ("digits",), "pauses_cut"),
        ("all", "eager wasted a turn", TURNS, "eager_wasted_per_turn"),
        ("all", "never committed", TURNS, "turns_uncommitted"),
    ),
    "onset, noise": (
        ("quiet", "onset ms p50/p95/max", ("quiet",), "onset_ms"),
        ("call", "onset ms p50/p95/max", CALL, "onset_ms"),
        ("call", "missed", CALL, "onsets_missed"),
        ("20 dB", "onset ms p50/p95/max", ("noise20",), "onset_ms"),
        ("20 dB", "cut", ("noise20",), "pauses_cut"),
        ("10 dB", "onset ms p50/p95/max", ("noise10",), "onset_ms"),
        ("10 dB", "commit ms p50/p95/max", ("noise10",), "commit_ms"),
        ("10 dB", "missed", ("noise10",), "onsets_missed"),
        ("real call", "false suspected", ("call-live",), "false_suspected"),
    ),
}


def variants(tallies: Tallies) -> Iterator[tuple[str, bool]]:
    yield from dict.fromkeys((name, words) for name, words, _, _ in tallies)


def print_scores(console: Console, tallies: Tallies, cpu: dict[str, float], split: str) -> None:
    """Four tables of one side of the split."""
    for title, columns in COLUMNS.items():
        table = Table(title=f"{title} ({split})", title_justify="left")
        table.add_column("detector")
        for group, label, _, _ in columns:
            table.add_column(f"{group}\n{label}", justify="right")
        for name, words in variants(tallies):
            cells = [
                _text(summary(pooled(tallies, name, words, conditions, split)).get(measure))
                for _, _, conditions, measure in columns
            ]
            table.add_row(f"{name}{' +words' if words else ''}", *cells)
        console.print(table)
    if cpu:
        table = Table(title="CPU", title_justify="left")
        table.add_column("detector")
        table.add_column("us per 20 ms frame", justify="right")
        for name, us in cpu.items():
            table.add_row(name, f"{us:.2f}")
        console.print(table)


# --- targets ----------------------------------------------------------------------------


@dataclass(frozen=True)
class Target:
    """One line of what must be true; ``reached`` is ``None`` where it was not measured."""

    what: str
    bound: str
    measured: str
    reached: bool | None


def targets(tallies: Tallies, cpu: dict[str, float], name: str) -> list[Target]:
    """The bar, for one preset of ours: held-out speakers; real call: both parties."""

    def of(words: bool, conditions: Sequence[str], split: str | None = "heldout") -> dict[str, Any]:
        return summary(pooled(tallies, name, words, conditions, split))

    lines: list[Target] = []

    def line(what: str, value: Any, limit: float, unit: str = "", evidence: Any = None) -> None:
        measured = "not measured" if value is None else f"{value:g}{unit}"
        if evidence is not None and value is not None:
            measured += f"  [{_text(evidence)}]"
        lines.append(
            Target(what, f"<= {limit:g}{unit}", measured, None if value is None else value <= limit)
        )

    echo, hard = of(False, ECHO), of(False, HARD)
    onset = echo.get("barge_in_suspected_ms", {})
    line("barge-in onset with echo, p50", onset.get("p50"), 80, " ms")
    line("barge-in onset with echo, p95", onset.get("p95"), 160, " ms")
    masked = echo.get("masked", {})
    line("masked barge-ins with echo", masked.get("hits"), 0, "", masked)
    for what, side, limit in (("linear", echo, 0.2), ("harsh", hard, 0.5)):
        false = side.get("false_suspected", {})
        line(f"false barge-ins a minute of {what} echo", false.get("per_minute"), limit, "", false)
    events = of(False, ("events",)).get("events_confirmed", {})
    of_sixty = None if not events else round(60 * events["hits"] / events["of"], 1)
    line("noises confirmed, of 60", of_sixty, 10, "", events)
    bits = of(True, ("backchannels",)).get("backchannels_confirmed", {})
    line("backchannels confirmed, words known", bits.get("percent"), 20, " %", bits)
    blind, told = of(False, CALL, None), of(True, CALL, None)
    cut = blind.get("pauses_cut", {})
    line("cut-offs heard in 100 pauses, real call, no words", cut.get("percent"), 10, "", cut)
    line("  its commit, p50", blind.get("commit_ms", {}).get("p50"), 900, " ms")
    cut = told.get("pauses_cut", {})
    line("cut-offs heard in 100 pauses, real call, words known", cut.get("percent"), 5, "", cut)
    complete = of(True, ("call", "quiet"), None).get("commit_ms", {})
    line("commit after complete words, p50", complete.get("p50"), 350, " ms")
    line(
        "commit p95, no words", of(False, TURNS, None).get("commit_ms", {}).get("p95"), 1200, " ms"
    )
    line(
        "commit p95, words known",
        of(True, TURNS, None).get("commit_ms", {}).get("p95"),
        1200,
        " ms",
    )
    line("CPU a frame without Silero", cpu.get(name), 4, " us")
    return lines


def print_targets(console: Console, lines: Sequence[Target], name: str) -> bool:
    """Print the bar; say whether nothing was missed."""
    table = Table(title=f"what must be true: {name}, held-out speakers", title_justify="left")
    for column in ("what", "reach", "measured", ""):
        table.add_column(column)
    for target in lines:
        verdict = "-" if target.reached is None else "reached" if target.reached else "NOT reached"
        table.add_row(target.what, target.bound, target.measured, verdict)
    console.print(table)
    return all(target.reached is not False for target in lines)
