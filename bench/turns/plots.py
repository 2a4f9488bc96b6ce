"""The two pictures of turn-taking: what speed costs at the end of a turn, and at its start."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

__all__ = ["draw"]

WORDS = " + words"
Row = dict[str, Any]
Curve = tuple[str, list[Row]]


def draw(sweeps: dict[str, Any], folder: Path) -> list[Path]:
    """Write both plots into ``folder``; matplotlib is asked for here and nowhere else."""
    folder.mkdir(parents=True, exist_ok=True)
    return [
        _plot(
            folder / "turns-cutoffs.svg",
            list(_commit_curves(sweeps)),
            lambda row: (row["commit_ms"]["p50"], row["pauses_cut"]["percent"]),
            lambda row: "",
            "commit after the end of the turn, p50 (ms)",
            "false cut-offs in 100 mid-turn pauses, real call",
        ),
        _plot(
            folder / "turns-onset.svg",
            [(name, sweep["onset"]) for name, sweep in sweeps.items() if sweep["onset"]],
            lambda row: (
                row["barge_in_suspected_ms"]["p50"],
                row["false_suspected"]["per_minute"],
            ),
            lambda row: f"{row['start_ms']} ms, masked {row['masked']['hits']}",
            "barge-in onset with echo, p50 (ms)",
            "false suspicions a minute of linear echo",
        ),
    ]


def _commit_curves(sweeps: dict[str, Any]) -> Iterator[Curve]:
    for name, sweep in sweeps.items():
        for words in (False, True):
            rows = [row for row in sweep["commit"] if row["words"] is words]
            if rows:
                yield f"{name}{WORDS if words else ''}", rows


def _plot(
    path: Path,
    curves: list[Curve],
    point: Callable[[Row], tuple[float | None, float | None]],
    label: Callable[[Row], str],
    x_label: str,
    y_label: str,
) -> Path:
    import matplotlib

    matplotlib.use("agg")
    matplotlib.rcParams["svg.hashsalt"] = "turns"  # the same picture, the same bytes
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 5), layout="constrained")
    axes = figure.add_subplot()
    for name, rows in curves:
        points = [(*point(row), label(row)) for row in rows]
        known = [(x, y, text) for x, y, text in points if x is not None and y is not None]
        style = "o--" if name.endswith(WORDS) else "o-"
        axes.plot([x for x, _, _ in known], [y for _, y, _ in known], style, label=name, ms=4)
        for x, y, text in known[:: max(1, len(known) - 1)]:  # its first and last setting
            axes.annotate(text, (x, y), fontsize=7, xytext=(4, 4), textcoords="offset points")
    axes.set(xlabel=x_label, ylabel=y_label, ylim=(0, None))
    axes.grid(visible=True, alpha=0.3)
    if curves:
        axes.legend(fontsize=8)
    figure.savefig(path, metadata={"Date": None})
    return path
