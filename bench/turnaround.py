"""How soon an answer is heard, through the real adapters, with callers who pause in mid-sentence.

``python -m bench turnaround`` holds the same conversations four times: with services that take
``--stt-ms``, ``--llm-ms`` and ``--tts-ms`` and stream at once, and with ``--token-ms`` for each
token on top; each with answers begun before the turn is certain, and without. Callers pause in
the middle of every third question, long enough for an answer to be begun in vain.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import msgspec
from rich.console import Console

from bench.latency import FRAME_MS, PARTS, Turn, converse, match, notes_of, total
from bench.load import LoadError, Network, Plan, Step
from bench.load.ours import NodeOptions, our_node
from bench.load.results import fault_budgets, fault_table
from bench.load.server import ServerError, cores, go_first, pin
from bench.load.voice import paused, question, recorded, speech_of, voiced
from bench.options import Parser, count
from bench.report import (
    Budget,
    Plot,
    Run,
    Series,
    Table,
    budget,
    percentile,
    spread,
    status_of,
    surroundings,
)
from bench.report.write import consoles, show, write
from rtcore.metrics import CallStats, TurnTiming

__all__ = ["main"]

TARGETS = {0.0: (700.0, 900.0), 40.0: (850.0, 1000.0)}  # ms a token: p50, p95
START_LIMIT_S = 20.0
KEYS = {"DEEPGRAM_API_KEY": "key-0123456789", "OPENAI_API_KEY": "key-0123456789"}


class Measured(msgspec.Struct, frozen=True):
    """One of the four."""

    name: str
    token_ms: float
    turns: list[Turn]
    steps: list[Step]
    begun: int  # answers, before their turn was certain
    begun_in_vain: int  # of these, those that nobody heard
    pauses: int  # inside questions, in the windows

    @property
    def responses_ms(self) -> list[float]:
        return [took for step in self.steps for took in step.heard.response_ms]


class _Counted(msgspec.Struct, frozen=True):
    stats: CallStats
    turns: list[TurnTiming]

    @property
    def begun_in_vain(self) -> int:
        """Discarded when the caller went on, or taken back when they did so after the commit."""
        return self.stats.speculations - sum(turn.is_speculative for turn in self.turns)


@contextmanager
def services(given: argparse.Namespace, token_ms: float, folder: Path) -> Iterator[Path]:
    """Serve the fakes while the block runs; what a node is told of them."""
    told = folder / "services.json"
    command = [
        sys.executable, "-m", "bench.services", "--told", str(told), f"--token-ms={token_ms}",
        f"--stt-ms={given.stt_ms}", f"--llm-ms={given.llm_ms}", f"--tts-ms={given.tts_ms}",
    ]  # fmt: skip
    process = subprocess.Popen(command, cwd=Path(__file__).parents[1])
    try:
        until_s = time.monotonic() + START_LIMIT_S
        while not told.exists():
            if process.poll() is not None or time.monotonic() > until_s:
                raise ServerError("the services did not start")
            time.sleep(0.05)
        yield told
    finally:
        process.terminate()
        process.wait()


def measure(
    given: argparse.Namespace, token_ms: float, err: Console, *, speculates: bool
) -> Measured:
    """Hold conversations until ``--turns`` answers were heard.

    Raises:
        ServerError: the node or the services did not come up.
        LoadError: nobody answers.
    """
    pcm = voiced(6) if given.speech is None else recorded(given.speech)
    plan = Plan(
        speech=question() if given.speech is None else speech_of(pcm),
        interrupt_every=4,
        paused=paused(pcm, given.pause_ms),
        paused_every=given.paused_every,
    )
    node_core, load_core = cores()
    pin(load_core)  # the services share it: the node has its core for itself
    with TemporaryDirectory() as name:
        folder = Path(name)
        with services(given, token_ms, folder) as told:
            options = NodeOptions(live=told, no_speculation=not speculates)
            with our_node(options, node_core, folder) as node:
                load, steps = converse(
                    node.url, plan, Network(), given.turns, given.calls, given.seed, err
                )
                time.sleep(1)  # records are written as calls end
                turns = match([step.heard for step in steps], node.records(), load.opened_s)
        lines = (folder / "records.jsonl").read_bytes().splitlines()
        counted = [msgspec.json.decode(line, type=_Counted) for line in lines]
    return Measured(
        name=f"{token_ms:g} ms a token, {'begun early' if speculates else 'not begun early'}",
        token_ms=token_ms,
        turns=turns,
        steps=steps,
        begun=sum(each.stats.speculations for each in counted),
        begun_in_vain=sum(each.begun_in_vain for each in counted),
        pauses=total(steps).paused_turns,
    )


def report(
    runs: Sequence[Measured], where: dict[str, str], settings: dict[str, object], wanted: int = 0
) -> Run:
    """Responses, their parts, and the bar; ``wanted``: how many turns each should have held."""
    rows, budgets, notes = [], list[Budget](), list[str]()
    counts = [(run.name, total(run.steps)) for run in runs]
    for run in runs:
        notes += [f"{run.name}: {note}" for note in notes_of(run.steps, wanted)]
        if not total(run.steps).interruptions:
            notes.append(f"{run.name}: no reply lasted until anybody would have interrupted it.")
        vain = f"{run.begun_in_vain} of {run.begun}" if run.begun else "-"
        row = [run.name, str(len(run.responses_ms)), *spread(run.responses_ms)]
        rows.append([*row, str(run.pauses), vain])
        if not run.begun:
            continue
        for share, below in zip((0.5, 0.95), TARGETS.get(run.token_ms, ()), strict=False):
            what = f"response in the ear, {run.token_ms:g} ms a token, p{share * 100:.0f}"
            budgets.append(budget(what, percentile(run.responses_ms, share), below))
        apart = percentile([abs(turn.apart_ms) for turn in run.turns], 0.99)
        budgets.append(budget(f"parts and ear apart, {run.token_ms:g} ms a token", apart, FRAME_MS))
    budgets += fault_budgets([each for _, each in counts])
    tables = [
        Table(
            title="Last voiced sample to first audible one, in the ear, ms",
            columns=["", "turns", "p50", "p95", "p99", "max", "pauses", "begun in vain"],
            rows=rows,
        ),
        fault_table(counts),
        *map(_by_owner, runs),
    ]
    data = {run.name: run.responses_ms for run in runs}
    return Run(
        bench="turnaround",
        where=where,
        settings=settings,
        budgets=budgets,
        tables=tables,
        plots=[Plot(title="Response in the ear", kind="histogram", data=data, x_label="ms")],
        series=[
            Series(name=f"response, {run.name}", unit="ms", samples=run.responses_ms)
            for run in runs
        ],
        notes=notes,
    )


def _by_owner(run: Measured) -> Table:
    """The node's own account of the turns, which is held against the ear's."""
    timings = [turn.timing for turn in run.turns]
    rows = [
        [part.removesuffix("_ms").replace("_", " "), *spread([getattr(t, part) for t in timings])]
        for part in PARTS
    ]
    rows.append(["response, by the node", *spread([t.response_ms for t in timings])])
    rows.append(["the ear less the node", *spread([turn.apart_ms for turn in run.turns])])
    return Table(
        title=f"{run.name}: by owner, ms", columns=["", "p50", "p95", "p99", "max"], rows=rows
    )


def main(argv: list[str] | None = None) -> int:
    """Measure, print, write; 0 if the bar is met, 1 if not, 3 if it is not known."""
    parser = Parser(prog="python -m bench turnaround", description=__doc__)
    parser.add_argument("--turns", type=count, default=200, help="of each of the four")
    parser.add_argument("--calls", type=count, default=10, help="at once")
    parser.add_argument("--stt-ms", type=float, default=150)
    parser.add_argument("--llm-ms", type=float, default=350)
    parser.add_argument("--tts-ms", type=float, default=120)
    parser.add_argument("--token-ms", type=float, default=40)
    parser.add_argument("--pause-ms", type=int, default=500, help="inside a question")
    parser.add_argument("--paused-every", type=count, default=3)
    parser.add_argument("--speech", type=Path, help="WAV at 8000 Hz: what the callers say")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--first", action="store_true", help="go before other jobs (needs root)")
    parser.add_argument("--out", type=Path, default=Path("build/bench"))
    given = parser.parse_args(argv)
    os.environ.update(KEYS)
    where = surroundings(["turnaround", *(argv or [])])
    err, out = consoles()
    if given.first and not go_first():
        err.print("--first: not allowed; going on without", style="yellow")
    runs = []
    try:
        for token_ms in (0.0, given.token_ms):
            for speculates in (True, False):
                runs.append(measure(given, token_ms, err, speculates=speculates))
                err.print(f"{runs[-1].name}: {len(runs[-1].responses_ms)} turns")
    except (ServerError, LoadError, OSError, ValueError) as exc:
        err.print(f"bench turnaround: {exc}", style="red", highlight=False)
        return 3
    settings = {name: str(value) for name, value in vars(given).items() if value is not None}
    run = report(runs, where, dict(settings), given.turns)
    html, _ = write(run, given.out)
    show(run, out)
    out.print(f"report: {html}", highlight=False, soft_wrap=True)
    return status_of(run.budgets)
