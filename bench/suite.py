"""``python -m bench``: every bench one after the other, one page for all, and the bar at the end.

Each runs in a process of its own, since a bench pins itself to a core. See docs/benchmarks.md.
"""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from html import escape
from pathlib import Path

from rich.console import Console

from bench.options import Parser
from bench.report import MISSED, NOT_MEASURED, Run, status_of
from bench.report.write import consoles, load, page_of, show_budgets, verdict

__all__ = ["main"]

TOTAL_LIMIT_S = 14.5 * 60  # what has not been measured by then is named and left out
STOP_LIMIT_S = 20.0  # to stop the servers it has started
# of bench turns what its bar asks for: with every peer and condition it takes five minutes
BAR_OF_TURNS = [
    "--targets",
    "--presets=balanced",
    "--detectors=rtcore,rtcore+silero",
    "--conditions=quiet,digits,call,call-long,call-live,echo,hardecho,events,backchannels",
]
# what fits in that on two shared cores, and the longest each may take, s
SUITE: dict[str, tuple[list[str], float]] = {
    "latency": (["--turns", "1000"], 300),
    "capacity": (["--calls", "1,50,100,200,300,400", "--seconds", "12"], 300),
    "peers": (["--calls", "10,25", "--seconds", "12"], 420),
    "kernels": (["--batches", "50"], 120),
    "turns": (BAR_OF_TURNS, 180),
}
PAGED = {"latency": "--out", "capacity": "--out", "peers": "--out", "turns": "--page"}  # with a bar
BY_HAND = ("turnaround", "api_beside_calls", "recordings", "playout")  # no time for these
# one thread each: peers have many, which real-time slices would hold from one another
MAY_GO_FIRST = ("latency", "capacity")


def main(argv: list[str] | None = None) -> int:
    """Run all; 0 if every bar is met, 1 if one is missed, 3 if something was not measured."""
    each = ", ".join([*SUITE, *BY_HAND, "compare"])
    epilog = f"One by itself: python -m bench NAME. NAME is one of {each}; each has its own --help."
    parser = Parser(prog="python -m bench", description=__doc__, epilog=epilog)
    parser.add_argument("--only", help="names, with commas between")
    parser.add_argument("--first", action="store_true", help="go before other jobs (needs root)")
    parser.add_argument("--out", type=Path, default=Path("build/bench"))
    given = parser.parse_args(argv)
    names = [*SUITE] if given.only is None else given.only.split(",")
    if unknown := set(names) - set(SUITE):
        parser.error(f"no such bench: {', '.join(sorted(unknown))}")
    folder = given.out / time.strftime("%Y-%m-%dT%H%M%S", time.gmtime())
    folder.mkdir(parents=True)
    err, out = consoles()
    began_s, failed = time.monotonic(), []
    for name in names:
        err.rule(f"bench {name}")
        limit_s = min(SUITE[name][1], began_s + TOTAL_LIMIT_S - time.monotonic())
        if not _run(name, folder, limit_s, is_first=given.first, err=err):
            failed.append(name)
    runs = {run.bench: (path, run) for path, run in _runs(folder)}
    index = folder / "index.html"
    index.write_text(_index(runs, failed), encoding="utf-8")
    show_budgets({name: run.budgets for name, (_, run) in runs.items()}, out)
    for name in failed:
        out.print(f"{name} did not run", style="yellow")
    if given.only is None:
        out.print(f"not part of this, each to be run by itself: {', '.join(BY_HAND)}")
    out.print(f"{(time.monotonic() - began_s) / 60:.1f} minutes", highlight=False)
    out.print(f"report: {index}", highlight=False, soft_wrap=True)
    status = status_of([line for _, run in runs.values() for line in run.budgets])
    return NOT_MEASURED if failed else status


def _run(name: str, folder: Path, limit_s: float, *, is_first: bool, err: Console) -> bool:
    """Run one bench to its end; False if it had none of its own accord."""
    if limit_s <= 0:
        err.print(f"{name}: no time left", style="yellow")
        return False
    options, _ = SUITE[name]
    command = [sys.executable, "-m", "bench", name, *options]
    if name in PAGED:
        command += [PAGED[name], str(folder)]
    if is_first and name in MAY_GO_FIRST:
        command.append("--first")
    with subprocess.Popen(command) as process:
        try:
            status = process.wait(limit_s)
        except subprocess.TimeoutExpired:
            err.print(f"{name}: stopped after {limit_s:.0f} s", style="yellow")
            process.send_signal(signal.SIGINT)  # as from a terminal: it ends what it has started
            try:
                process.wait(STOP_LIMIT_S)
            except subprocess.TimeoutExpired:
                process.kill()
            return False
    if name not in PAGED:
        return status == 0
    # one that breaks, or could not begin, ends with a status of these too, but leaves no page
    return status in (0, MISSED, NOT_MEASURED) and any(folder.glob(f"{name}-*.json"))


def _runs(folder: Path) -> Sequence[tuple[Path, Run]]:
    return [(path, load(path)) for path in sorted(folder.glob("*.json"))]


def _index(runs: dict[str, tuple[Path, Run]], failed: Sequence[str]) -> str:
    rows = [
        [name, line.what, line.bound, line.measured, verdict(line)]
        for name, (_, run) in runs.items()
        for line in run.budgets
    ]
    links = "".join(
        f'<li><a href="{escape(path.with_suffix(".html").name)}">bench {escape(name)}</a></li>'
        for name, (path, _) in runs.items()
    )
    missing = "".join(f"<p>{escape(name)} did not run</p>" for name in failed)
    return page_of(
        "bench",
        f"<ul>{links}</ul>{missing}",
        [("What should hold", ["bench", "", "bound", "measured", ""], rows)],
    )
