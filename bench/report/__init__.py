"""A bench's results: one JSON file with everything, one HTML page that shows it."""

from bench.report.run import (
    Budget,
    Plot,
    Run,
    Series,
    Table,
    budget,
    commit,
    percentile,
    spread,
    surroundings,
)
from bench.report.write import write

__all__ = [
    "Budget",
    "Plot",
    "Run",
    "Series",
    "Table",
    "budget",
    "commit",
    "percentile",
    "spread",
    "surroundings",
    "write",
]
