"""The tables of a run, for the terminal and for Markdown."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from rich.console import Console
from rich.table import Table

from bench import report
from bench.turns.run import Tallies, pooled
from bench.turns.scoring import summary

__all__ = [
    "CALL",
    "ECHO",
    "HARD",
    "TURNS",
    "Sheet",
    "cpu_sheet",
    "exposure_sheet",
    "score_sheets",
    "text",
]

ECHO, HARD, CALL = ("echo",), ("hardecho",), ("call",)
TURNS = ("call", "quiet", "digits")


def text(value: Any) -> str:
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
    "barge-in, hard to hear": (
        ("softly", "onset ms p50/p95/max", ("softly",), "barge_in_suspected_ms"),
        ("softly", "masked", ("softly",), "masked"),
        ("softly", "unconfirmed", ("softly",), "barge_ins_unconfirmed"),
        ("softly", "suspected", ("softly",), "false_suspected"),
        ("greeting", "onset ms p50/p95/max", ("greeting",), "barge_in_suspected_ms"),
        ("greeting", "masked", ("greeting",), "masked"),
        ("greeting", "unconfirmed", ("greeting",), "barge_ins_unconfirmed"),
        ("with echo", "onset ms p50/p95/max", ("greeting-echo",), "barge_in_suspected_ms"),
        ("with echo", "masked", ("greeting-echo",), "masked"),
        ("with echo", "unconfirmed", ("greeting-echo",), "barge_ins_unconfirmed"),
        ("with echo", "suspected", ("greeting-echo",), "false_suspected"),
    ),
    "noises, backchannels": (
        ("events", "suspected", ("events",), "events_suspected"),
        ("events", "confirmed", ("events",), "events_confirmed"),
        ("backchannels", "suspected", ("backchannels",), "backchannels_suspected"),
        ("backchannels", "confirmed", ("backchannels",), "backchannels_confirmed"),
        ("agent", "lost ms p50/p95/max", ("events", "backchannels", *ECHO, *HARD), "agent_lost_ms"),
        ("echo", "unconfirmed", ECHO, "barge_ins_unconfirmed"),
        ("hard", "unconfirmed", HARD, "barge_ins_unconfirmed"),
        ("barge-ins", "dismissed first", (*ECHO, *HARD), "barge_ins_dismissed"),
    ),
    "end of turn": (
        ("call", "eager ms p50/p95/max", CALL, "eager_ms"),
        ("call", "commit ms p50/p95/max", CALL, "commit_ms"),
        ("call", "pauses cut", CALL, "pauses_cut"),
        ("call, long", "pauses cut", ("call-long",), "pauses_cut"),
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


@dataclass(frozen=True)
class Sheet:
    """A table, to be shown in a terminal or kept as Markdown."""

    title: str
    headers: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]

    def show(self, console: Console) -> None:
        table = Table(title=self.title, title_justify="left")
        for column, header in enumerate(self.headers):
            table.add_column(header, justify="right" if column else "left")
        for row in self.rows:
            table.add_row(*row)
        console.print(table)

    def plain(self) -> report.Table:
        """For a page."""
        heads = [header.replace("\n", " ") for header in self.headers]
        return report.Table(title=self.title, columns=heads, rows=[list(row) for row in self.rows])

    def markdown(self) -> str:
        heads = self.plain().columns
        lines = [heads, ["---", *["--:"] * (len(heads) - 1)], *map(list, self.rows)]
        text = "\n".join(f"| {' | '.join(line)} |" for line in lines)
        return f"### {self.title}\n\n{text}\n"


def score_sheets(tallies: Tallies, split: str) -> Iterator[Sheet]:
    """Four tables of one side of the split, those with something in them."""
    variants = dict.fromkeys((name, words) for name, words, _, _ in tallies)
    for title, columns in COLUMNS.items():
        rows = [
            (
                f"{name}{' +words' if words else ''}",
                *(
                    text(summary(pooled(tallies, name, words, conditions, split)).get(measure))
                    for _, _, conditions, measure in columns
                ),
            )
            for name, words in variants
        ]
        if any(cell != "-" for row in rows for cell in row[1:]):
            headers = ("detector", *(f"{group}\n{label}" for group, label, _, _ in columns))
            yield Sheet(f"{title} ({split})", headers, tuple(rows))


def exposure_sheet(exposure: dict[str, dict[str, dict[str, float]]]) -> Sheet:
    """How much there was of each condition, on either side of the split."""
    measures = ("seconds", "turns", "pauses", "barge_ins", "events", "backchannels")
    rows = tuple(
        (f"{condition} ({split})", *(f"{amounts[measure]:.0f}" for measure in measures))
        for split, conditions in exposure.items()
        for condition, amounts in conditions.items()
    )
    return Sheet("what was played", ("track", *(m.replace("_", "-") for m in measures)), rows)


def cpu_sheet(cpu: dict[str, float]) -> Sheet:
    rows = tuple((name, f"{us:.2f}") for name, us in cpu.items())
    return Sheet("CPU", ("detector", "us per 20 ms frame"), rows)
