"""What changed between two runs of a bench, and whether it is more than noise.

``python -m bench compare A.json B.json`` puts the series of the same name side by side. For p50
and p99 the difference is drawn again and again from both sets of samples (bootstrap): a change
whose interval holds zero is called noise. The intervals are so wide that all of a table hold
together 95 times in 100. See docs/benchmarks.md for what that cannot see.
"""

from __future__ import annotations

import argparse
import math
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import msgspec
import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray
from rich.table import Table

from bench.report import Run, Series
from bench.report.write import consoles, load

__all__ = ["Change", "change", "changes", "main"]

RESAMPLES = 20_000  # of a table of a hundred lines, five beyond either end of each interval
WRONG = 0.05  # chance that any line of a table is taken for a change, and is none
FEWEST = 5  # samples on each side; below it nothing can be said
TAIL = 20  # samples beyond a percentile without which its interval means nothing
PERCENTILES = (0.5, 0.99)
SAME_WHERE = ("cpu", "cores", "python")
HOWEVER = {"out", "json"}  # settings that change nothing of what is measured

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


def change(
    before: Series, after: Series, share: float, seed: int = 1, wrong: float = WRONG
) -> Change:
    """How one percentile moved; same samples and seed, same answer.

    ``wrong`` is the chance that what did not move is called better or worse.
    """
    dice = np.random.default_rng([seed, zlib.crc32(f"{before.name}/{share}".encode())])
    one, two = np.sort(before.samples), np.sort(after.samples)
    verdict: Verdict = "too few"
    low, high = -math.inf, math.inf
    if _is_enough(before, after, share):
        moved = np.sort(_redrawn(two, share, dice) - _redrawn(one, share, dice))
        edge = int(wrong / 2 * RESAMPLES)
        low, high = float(moved[edge]), float(moved[-edge - 1])
        verdict = _verdict(low, high, before.better)
    return Change(
        name=before.name,
        unit=before.unit,
        share=share,
        before=float(one[_rank(len(one), share) - 1]),
        after=float(two[_rank(len(two), share) - 1]),
        low=low,
        high=high,
        verdict=verdict,
    )


def _is_enough(before: Series, after: Series, share: float) -> bool:
    fewest = max(FEWEST, round(TAIL / (1 - share)) if share > 0.5 else 0)
    return min(len(before.samples), len(after.samples)) >= fewest


def _rank(count: int, share: float) -> int:
    return math.ceil(share * count)


def _redrawn(ranked: NDArray[Any], share: float, dice: Generator) -> NDArray[Any]:
    """The percentile of each of many sets that are drawn from ``ranked``, as many as there are.

    Of ``n`` places drawn evenly, the ``k``-th follows Beta(k, n - k + 1): one draw instead of n.
    """
    count, rank = len(ranked), _rank(len(ranked), share)
    places = dice.beta(rank, count - rank + 1, RESAMPLES) * count
    drawn: NDArray[Any] = ranked[np.minimum(places.astype(int), count - 1)]
    return drawn


def _verdict(low: float, high: float, better: Literal["lower", "higher"]) -> Verdict:
    if low <= 0 <= high:
        return "noise"
    return "better" if (high < 0) == (better == "lower") else "worse"


def changes(before: Run, after: Run) -> list[Change]:
    """Every percentile of every series that both runs have."""
    others = {series.name: series for series in after.series}
    pairs = [
        (series, others[series.name], share)
        for series in before.series
        if series.name in others and series.samples and others[series.name].samples
        for share in PERCENTILES
        if share == PERCENTILES[0] or len(series.samples) > 1
    ]
    # each line is one more chance to be wrong: all of them together have as much as one alone
    judged = sum(_is_enough(*pair) for pair in pairs) or 1
    return [change(*pair, wrong=WRONG / judged) for pair in pairs]


def _differences(before: Run, after: Run) -> list[str]:
    """What was not the same for both runs, so that a change may come from it."""
    pairs = {name: (before.where.get(name), after.where.get(name)) for name in SAME_WHERE}
    for name in sorted({*before.settings, *after.settings} - HOWEVER):
        pairs[name] = (before.settings.get(name), after.settings.get(name))
    return [
        f"not the same {name}: {one}, {two}" for name, (one, two) in pairs.items() if one != two
    ]


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
    for line in _differences(before, after):
        out.print(line, style="yellow", highlight=False)
    found = changes(before, after)
    out.print(_table(found, before, after))
    return 1 if any(line.verdict == "worse" for line in found) else 0


def _table(found: Sequence[Change], before: Run, after: Run) -> Table:
    title = f"{before.bench}: {before.where['commit']} to {after.where['commit']}"
    table = Table("series", "", "before", "after", "change", "surely between", "", title=title)
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
