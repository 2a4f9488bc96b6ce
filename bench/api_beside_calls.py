"""Whether those who use the API are heard by those who are on the telephone.

``python -m bench api_beside_calls`` starts a whole node (``rtcore serve --database`` over SQLite,
its providers scripted) on one core with 50 live calls, and on the other core its callers and a
client that asks the API 50 times a second: lists, reads, searches, chats and changes. Windows
with and without those requests take turns; each caller's ear is measured as in ``capacity``.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import httpx
import msgspec

from api.admin import create_api_key, upgrade_database
from bench.api_requests import Asked
from bench.load import SETTLE_S, Load, LoadError, Plan, Step
from bench.load.lines import Address
from bench.load.results import LATENESS_P99_MS, fault_budgets, fault_table
from bench.load.server import Server, ServerError, cores, go_first, pin, serving
from bench.load.voice import question
from bench.options import Parser, count
from bench.report import (
    Run,
    Series,
    Table,
    budget,
    percentile,
    spread,
    status_of,
    surroundings,
    write,
)
from bench.report.write import consoles, show
from rtcore.testing.loopback import free_port

__all__ = ["Window", "main"]

GAP_MS = 10.0  # the bar: the longest gap of a reply, p99
CLIENT_S = 3.0  # the client is asking by then; it does so to the end of the window and beyond
STREAM = re.compile(r"<Stream[^>]*>\s*([^<\s]+)\s*</Stream>")
MENU = b"# Opening hours\n\nTuesday to Sunday, from five to eleven.\n"


@dataclass
class Calls(Load):
    """Calls whose media URLs hold a token each, so every one has its own."""

    urls: list[str] = field(default_factory=list)

    def _dial(self, number: int, calls: int) -> None:
        self._address = Address.of(self.urls[number])
        super()._dial(number, calls)


class Window(msgspec.Struct, frozen=True, kw_only=True):
    """What was heard in one window, and what was asked meanwhile."""

    step: Step
    asked: Asked | None  # None: nothing
    core_share: float
    starved_share: float

    @property
    def name(self) -> str:
        return "calls alone" if self.asked is None else "with requests"

    @property
    def is_valid(self) -> bool:
        """Whether the callers kept time, so that what they heard is the node's doing."""
        return not self.step.heard.is_late


class Prepared(msgspec.Struct, frozen=True, kw_only=True):
    """What the requests are about."""

    url: str
    keys: list[str]
    agent: str
    base: str


@contextmanager
def node(core: int, folder: Path) -> Iterator[tuple[Server, Prepared]]:
    """A node on ``core`` with an agent and a knowledge base, until the block ends."""
    database, port = f"sqlite:///{folder / 'rtcore.db'}", free_port()
    upgrade_database(database)
    keys = [create_api_key(database, name, ["admin"]) for name in ("one", "other")]
    command = [sys.executable, "-m", "bench.api_node", f"--port={port}", f"--database={database}"]
    root = Path(__file__).parents[1]
    with serving(command, port, core, log=folder / "node.log", cwd=root) as server:
        url = f"http://127.0.0.1:{port}"
        headers = {"Authorization": f"Bearer {keys[0]}"}
        with httpx.Client(base_url=url, headers=headers, timeout=10, trust_env=False) as http:
            made = http.post("/v1/knowledgebases", json={"name": "Menu"}).raise_for_status()
            base = made.json()["id"]
            files = {"file": ("menu.md", MENU)}
            http.post(f"/v1/knowledgebases/{base}/documents", files=files).raise_for_status()
            made = http.post("/v1/agents", json={"name": "bench"}).raise_for_status()
        yield server, Prepared(url=url, keys=keys, agent=made.json()["id"], base=base)


def media_urls(about: Prepared, calls: int) -> list[str]:
    """Let the carrier announce so many calls; where it is told to stream each."""
    urls = []
    with httpx.Client(timeout=10, trust_env=False) as http:
        for number in range(calls):
            told = {
                "CallUUID": f"call-{number}",
                "From": f"1415555{number:04}",
                "To": "14155550199",
                "Event": "StartApp",
                "CallStatus": "ringing",
                "Direction": "inbound",
            }
            answer = http.post(f"{about.url}/plivo/answer/{about.agent}", data=told)
            found = STREAM.search(answer.raise_for_status().text)
            if found is None:
                raise LoadError(f"call {number} was not taken: {answer.text}")
            urls.append(found[1])
    return urls


def first_call(about: Prepared) -> str:
    headers = {"Authorization": f"Bearer {about.keys[0]}"}
    found = httpx.get(f"{about.url}/v1/calls", headers=headers, params={"limit": 1}).json()
    return str(found["items"][0]["id"])


@contextmanager
def requests(about: Prepared, call: str, rate: float, seconds: float) -> Iterator[list[Asked]]:
    """Ask the API for ``seconds``, in a process beside this one; the list gets what came of it."""
    command = [sys.executable, "-m", "bench.api_requests", f"--url={about.url}"]
    command += [f"--key={key}" for key in about.keys]
    command += [f"--agent={about.agent}", f"--base={about.base}", f"--call={call}"]
    command += [f"--rate={rate}", f"--seconds={seconds}"]
    found: list[Asked] = []
    process = subprocess.Popen(command, stdout=subprocess.PIPE, cwd=Path(__file__).parents[1])
    try:
        yield found
        out, _ = process.communicate(timeout=30)
        found.append(msgspec.json.decode(out, type=Asked))
    finally:
        process.kill()
        process.wait()


def measure(server: Server, load: Load, seconds: float) -> tuple[Step, float, float]:
    """What the calls hear in the next ``seconds``, and the node's share of its core."""
    before = server.usage()
    step = load.measure(seconds)
    after = server.usage()
    busy = (after.cpu_ms - before.cpu_ms) / 1000 / step.seconds
    return step, busy, (after.starved_ms - before.starved_ms) / 1000 / step.seconds


def measure_all(given: argparse.Namespace, out: Any) -> list[Window]:
    """
    Raises:
        ServerError: the node did not come up.
        LoadError: it took no calls.
    """
    node_core, load_core = cores()
    windows: list[Window] = []
    with TemporaryDirectory() as folder, node(node_core, Path(folder)) as (server, about):
        pin(load_core)
        plan = Plan(speech=question())
        urls = media_urls(about, given.calls)
        load = Calls(urls[0], plan, seed=given.seed, urls=urls)
        try:
            load.grow(given.calls)
            load.run(SETTLE_S)
            call = first_call(about)
            for _ in range(given.rounds):
                step, busy, starved = measure(server, load, given.seconds)
                windows.append(
                    Window(step=step, asked=None, core_share=busy, starved_share=starved)
                )
                out.print(_line(windows[-1]), highlight=False)
                with requests(about, call, given.rate, given.seconds + CLIENT_S) as asked:
                    load.run(CLIENT_S)
                    step, busy, starved = measure(server, load, given.seconds)
                    load.run(CLIENT_S)
                windows.append(
                    Window(step=step, asked=asked[0], core_share=busy, starved_share=starved)
                )
                out.print(_line(windows[-1]), highlight=False)
        finally:
            load.close()
    return windows


COLUMNS = [
    "window", "gap p99", "longest p99", "longest max", "late p99", "core", "starved",
    "asked", "took p50", "took p99", "statuses",
]  # fmt: skip


def _row(window: Window) -> list[str]:
    heard, asked = window.step.heard, window.asked
    took = [ms for each in (asked.took_ms if asked else {}).values() for ms in each]
    return [
        f"{window.name}{'' if window.is_valid else '*'}",
        spread(heard.gap_ms)[2],
        spread(heard.worst_gap_ms)[2],
        f"{max(heard.worst_gap_ms, default=0):.1f}",
        spread(heard.lateness_ms)[2],
        f"{window.core_share:.0%}",
        f"{window.starved_share:.1%}",
        str(asked.sent) if asked else "-",
        spread(took)[0] if took else "-",
        spread(took)[2] if took else "-",
        " ".join(f"{k}:{n}" for k, n in sorted(asked.statuses.items())) if asked else "-",
    ]


def _line(window: Window) -> str:
    return "  ".join(f"{name} {value}" for name, value in zip(COLUMNS, _row(window), strict=True))


def report(windows: list[Window], where: dict[str, str], given: argparse.Namespace) -> Run:
    beside = [window for window in windows if window.asked is not None]
    alone = [window for window in windows if window.asked is None]

    valid = [window for window in windows if window.is_valid] or windows

    def longest(some: list[Window]) -> list[float]:
        stands = [window for window in some if window.is_valid] or some
        return [ms for window in stands for ms in window.step.heard.worst_gap_ms]

    kinds: dict[str, list[float]] = {}
    for window in beside:
        assert window.asked is not None
        for name, took in window.asked.took_ms.items():
            kinds.setdefault(name, []).extend(took)
    asked = [window.asked for window in beside if window.asked is not None]
    failed = sum(n for each in asked for kind, n in each.statuses.items() if kind != "200")
    failed += sum(each.skipped for each in asked)  # the API was too far behind to be asked
    return Run(
        bench="api_beside_calls",
        where=where,
        settings={
            "calls": given.calls,
            "requests a second": given.rate,
            "seconds": given.seconds,
            "rounds": given.rounds,
            "seed": given.seed,
        },
        budgets=[
            budget(
                "longest gap of a reply, p99, with requests",
                percentile(longest(beside), 0.99),
                GAP_MS,
            ),
            budget("requests that were not answered with 200", failed, 1, ""),
            *fault_budgets([window.step.counts for window in valid]),
        ],
        tables=[
            Table(title="by window, ms", columns=COLUMNS, rows=[_row(each) for each in windows]),
            Table(
                title="requests, ms",
                columns=["request", "p50", "p95", "p99"],
                rows=[[name, *spread(took)[:3]] for name, took in sorted(kinds.items())],
            ),
            fault_table([(each.name, each.step.counts) for each in windows]),
        ],
        plots=[],
        series=[
            Series(name="longest gap of a reply, calls alone", unit="ms", samples=longest(alone)),
            Series(
                name="longest gap of a reply, with requests", unit="ms", samples=longest(beside)
            ),
        ],
        notes=_notes(windows),
    )


def _notes(windows: list[Window]) -> list[str]:
    void = sum(not window.is_valid for window in windows)
    if not void:
        return []
    return [
        f"{void} of {len(windows)} windows are void (marked *): the callers were late (p99 over "
        f"{LATENESS_P99_MS:g} ms), so the machine was not quiet. What is late makes the node look "
        "slower, never faster."
    ]


def main(argv: list[str] | None = None) -> int:
    """Measure, print, write the report; 0 if the bar is met, 1 if not, 3 if it is not known."""
    parser = Parser(prog="python -m bench api_beside_calls", description=__doc__)
    parser.add_argument("--calls", type=count, default=50)
    parser.add_argument("--rate", type=float, default=50, help="requests a second")
    parser.add_argument("--seconds", type=float, default=20, help="of each window")
    parser.add_argument("--rounds", type=count, default=3, help="a window without, one with, again")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--first", action="store_true", help="go before other jobs (needs root)")
    parser.add_argument("--out", type=Path, default=Path("build/bench"))
    given = parser.parse_args(argv)
    where = surroundings(["api_beside_calls", *(argv or [])])
    err, out = consoles()
    if given.first and not go_first():
        err.print("--first: not allowed; going on without", style="yellow")
    began_s = time.monotonic()
    try:
        windows = measure_all(given, err)
    except (ServerError, LoadError, httpx.HTTPError) as exc:
        err.print(str(exc), style="red")
        return 3
    run = report(windows, where, given)
    show(run, out)
    for path in write(run, given.out):
        out.print(f"{path}  ({time.monotonic() - began_s:.0f} s)", highlight=False)
    return status_of(run.budgets)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
