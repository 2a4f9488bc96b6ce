"""A bench's results: one JSON file with everything, one HTML page that shows it."""

from bench.report.run import (
    MISSED,
    NOT_MEASURED,
    Budget,
    Plot,
    Run,
    Series,
    Table,
    budget,
    commit,
    percentile,
    spread,
    status_of,
    surroundings,
)
from bench.report.write import write

__all__ = [
    "MISSED",
    "NOT_MEASURED",
    "Budget",
    "Plot",
    "Run",
    "Series",
    "Table",
    "budget",
    "commit",
    "percentile",
    "spread",
    "status_of",
    "surroundings",
    "write",
]
