"""What a run of a bench is: numbers with their units, and where they come from."""

from __future__ import annotations

import math
import os
import platform
import subprocess
from collections.abc import Sequence
from contextlib import suppress
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Literal

import msgspec

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
]

MET, MISSED, NOT_MEASURED = 0, 1, 3
PACKAGES = ("rtcore", "trio", "msgspec", "numpy", "webrtcvad-wheels", "wsproto", "trio-websocket")


class Series(msgspec.Struct, frozen=True, kw_only=True):
    """Raw samples of one quantity."""

    name: str
    unit: str
    samples: list[float]
    better: Literal["lower", "higher"] = "lower"


class Budget(msgspec.Struct, frozen=True, kw_only=True):
    """One line of the bar: what should hold, what was measured, and whether it holds."""

    what: str
    bound: str
    measured: str
    is_met: bool | None  # None: nothing was measured


class Table(msgspec.Struct, frozen=True, kw_only=True):
    """Rows of figures, ready to be read."""

    title: str
    columns: list[str]
    rows: list[list[str]]


class Plot(msgspec.Struct, frozen=True, kw_only=True):
    """A picture as data.

    ``lines``: each of ``data`` is a curve of [x, y]. ``bars``: each is a row of [label, length]
    laid end to end. ``histogram``: each is a list of samples.
    """

    title: str
    kind: Literal["lines", "bars", "histogram"]
    data: dict[str, list[Any]]
    x_label: str = ""
    y_label: str = ""


class Run(msgspec.Struct, frozen=True, kw_only=True):
    """One run: everything its page shows, and the samples behind it."""

    bench: str
    where: dict[str, str]
    settings: dict[str, Any]
    budgets: list[Budget] = []
    tables: list[Table] = []
    plots: list[Plot] = []
    series: list[Series] = []
    notes: list[str] = []


def percentile(samples: Sequence[float], share: float) -> float | None:
    """The smallest sample that ``share`` (over 0, up to 1) of all do not exceed."""
    return sorted(samples)[math.ceil(share * len(samples)) - 1] if samples else None


def spread(samples: Sequence[float], digits: int = 1) -> list[str]:
    """p50, p95, p99 and the greatest, as text; dashes if there are none."""
    ranked = sorted(samples)
    return [_shown(percentile(ranked, share), digits) for share in (0.5, 0.95, 0.99, 1.0)]


def _shown(value: float | None, digits: int) -> str:
    if value is None:
        return "-"
    return "never" if math.isinf(value) else f"{value:.{digits}f}"


def budget(
    what: str, measured: float | None, below: float, unit: str = "ms", *, inclusive: bool = False
) -> Budget:
    """``measured`` has to be below ``below``, or at most that."""
    is_met = None if measured is None else measured < below or (inclusive and measured == below)
    return Budget(
        what=what,
        bound=f"{'≤' if inclusive else '<'} {below:g} {unit}".rstrip(),
        measured="-" if measured is None else f"{measured:.4g} {unit}".rstrip(),
        is_met=is_met,
    )


def status_of(budgets: Sequence[Budget]) -> int:
    """The exit status of a bench: what is not known has not been met, whatever was missed."""
    found = {line.is_met for line in budgets}
    return NOT_MEASURED if None in found else MISSED if False in found else MET


def surroundings(command: Sequence[str]) -> dict[str, str]:
    """When, where, on what and how this runs."""
    return {
        "when": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": commit(),
        "cpu": _cpu(),
        "cores": str(os.cpu_count()),
        "memory": _memory(),
        "load before": " ".join(f"{load:.2f}" for load in os.getloadavg()),
        "system": platform.platform(),
        "python": platform.python_version(),
        **{name: found for name in PACKAGES if (found := _version(name))},
        "command": " ".join(["python -m bench", *command]),
    }


def _version(name: str) -> str:
    with suppress(PackageNotFoundError):
        return version(name)
    return ""


def _cpu() -> str:
    with suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _memory() -> str:
    with suppress(OSError, ValueError):
        pages = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
        return f"{pages / 2**30:.1f} GiB"
    return ""


def commit() -> str:
    """The commit measured, marked if the tree differs from it."""
    # a bench only looks: others may be committing
    git = ["git", "--no-optional-locks", "-C", str(Path(__file__).parent)]
    try:
        found = subprocess.run(
            [*git, "describe", "--always", "--dirty", "--abbrev=12"],
            capture_output=True,
            text=True,
            check=True,
            timeout=10,
        )
    except (OSError, subprocess.SubprocessError):
        return "unknown"
    return found.stdout.strip()
