"""What changed between two runs of a bench, and whether it is more than noise.

``python -m bench compare A.json B.json`` puts the series of the same name side by side. For p50
and p99 the difference is drawn again and again from both sets of samples (bootstrap): a change
whose 95 % interval holds zero is called noise. See docs/benchmarks.md for what that cannot see.
"""

from __future__ import annotations

import argparse
import math
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import msgspec
from rich.table import Table

from bench.report import Run, Series
from bench.report.write import consoles, load

__all__ = ["Change", "change", "changes", "main"]

RESAMPLES = 1000
SAMPLES_MAX = 2000  # of each series: more add time, not certainty
SURE = 0.95
FEWEST = 5  # samples on each side; below it nothing can be said
TAIL = 20  # samples beyond a percentile without which its interval means nothing
PERCENTILES = (0.5, 0.99)
SAME_WHERE = ("cpu", "cores", "python")

Verdict = Literal["better", "worse", "noise", "too few"]


class Change(msgspec.Struct, frozen=True, kw_only=True):
    """One percentile of one series, in both runs; ``low`` and ``high`` bound the difference."""

    name: str
    unit: str
    share: float
    before: float
    after: float
    low: float
    high: float
    verdict: Verdict


def change(before: Series, after: Series, share: float, seed: int = 1) -> Change:
    """How one percentile moved; same samples and seed, same answer."""
    dice = random.Random(f"{seed}/{before.name}/{share}")
    one, two = _thinned(before.samples, dice), _thinned(after.samples, dice)
    at = (_ranked(one, share), _ranked(two, share))
    fewest = max(FEWEST, TAIL / (1 - share) if share > 0.5 else 0)
    verdict: Verdict = "too few"
    low, high = -math.inf, math.inf
    if min(len(one), len(two)) >= fewest:
        moved = sorted(
            _ranked(dice.choices(two, k=len(two)), share)
            - _ranked(dice.choices(one, k=len(one)), share)
            for _ in range(RESAMPLES)
        )
        edge = int((1 - SURE) / 2 * RESAMPLES)
        low, high = moved[edge], moved[-edge - 1]
        verdict = _verdict(low, high, before.better)
    return Change(
        name=before.name,
        unit=before.unit,
        share=share,
        before=at[0],
        after=at[1],
        low=low,
        high=high,
        verdict=verdict,
    )


def _verdict(low: float, high: float, better: Literal["lower", "higher"]) -> Verdict:
    if low <= 0 <= high:
        return "noise"
    return "better" if (high < 0) == (better == "lower") else "worse"


def changes(before: Run, after: Run) -> list[Change]:
    """Every percentile of every series that both runs have."""
    others = {series.name: series for series in after.series}
    return [
        change(series, others[series.name], share)
        for series in before.series
        if series.name in others and series.samples and others[series.name].samples
        for share in PERCENTILES
        if share == PERCENTILES[0] or len(series.samples) > 1
    ]


def _ranked(samples: Sequence[float], share: float) -> float:
    return sorted(samples)[math.ceil(share * len(samples)) - 1]


def _thinned(samples: Sequence[float], dice: random.Random) -> Sequence[float]:
    return samples if len(samples) <= SAMPLES_MAX else dice.sample(samples, SAMPLES_MAX)


def main(argv: list[str] | None = None) -> int:
    """Compare and print; 0 if nothing became worse, 1 if something did, 2 if they do not fit."""
    parser = argparse.ArgumentParser(prog="python -m bench compare", description=__doc__)
    parser.add_argument("before", type=Path)
    parser.add_argument("after", type=Path)
    given = parser.parse_args(argv)
    err, out = consoles()
    try:
        before, after = load(given.before), load(given.after)
    except (OSError, msgspec.DecodeError) as exc:
        err.print(f"bench compare: {exc}", style="red", highlight=False)
        return 2
    if before.bench != after.bench:
        err.print(f"bench compare: {before.bench} and {after.bench} have nothing in common")
        return 2
    for name in SAME_WHERE:
        if before.where.get(name) != after.where.get(name):
            out.print(
                f"not the same {name}: {before.where.get(name)}, {after.where.get(name)}",
                style="yellow",
                highlight=False,
            )
    found = changes(before, after)
    out.print(_table(found, before, after))
    return 1 if any(line.verdict == "worse" for line in found) else 0


def _table(found: Sequence[Change], before: Run, after: Run) -> Table:
    title = f"{before.bench}: {before.where['commit']} to {after.where['commit']}"
    table = Table("series", "", "before", "after", "change", "95 % between", "", title=title)
    for line in found:
        moved = line.after - line.before
        percent = f" ({moved / line.before:+.0%})" if line.before else ""
        between = "-" if math.isinf(line.low) else f"{line.low:+.3g} and {line.high:+.3g}"
        table.add_row(
            line.name,
            f"p{line.share * 100:g}",
            f"{line.before:.4g}",
            f"{line.after:.4g} {line.unit}",
            f"{moved:+.3g}{percent}",
            between,
            line.verdict,
            style={"better": "green", "worse": "red"}.get(line.verdict, "dim"),
        )
    return table
