"""How many calls one core carries before a caller would notice.

``python -m bench capacity`` pins the node to one core and the callers to another, adds calls
step by step and measures in each caller's ear; see docs/benchmarks.md.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from itertools import takewhile
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import msgspec
from rich.console import Console

from bench.load import SETTLE_S, Heard, Load, LoadError, Plan, Step
from bench.load.ours import NodeOptions, OurNode, decision_to_clear_ms, our_node
from bench.load.results import LATENESS_P99_MS, fault_budgets, fault_table
from bench.load.server import ServerError, cores, go_first, pin
from bench.load.voice import question
from bench.options import Parser, counts
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
    write,
)
from bench.report.write import consoles, show
from rtcore.audio import RATE_HZ

__all__ = ["Measured", "is_disturbed", "main", "measure_ramp", "slope"]

FRAMES_PER_S = 50
STARVED_SHARE = 0.02  # of the time the node was ready to run and something else had its core
ATTEMPTS = 2  # a disturbed step is measured once more
STAGE_CALLS = 100
FUNCTIONS_MAX = 25
# the bar: ms, but for the last two (KiB, calls); docs/benchmarks.md
GAP_MS, OWN_MS, CLEAR_MS, CPU_MS, MEMORY_KIB, CALLS = 10.0, 20.0, 5.0, 1.6, 300.0, 400
COLUMNS = [
    "calls",
    "gap p99",
    "longest p99",
    "own p50",
    "own p99",
    "clear p50",
    "clear p99",
    "silent p50",
    "silent p99",
    "CPU",
    "core",
    "lag p99",
    "late p99",
    "callers",
    "starved",
    "PSS MiB",
]  # explained in docs/benchmarks.md


class Measured(msgspec.Struct, frozen=True, kw_only=True):
    """One step, measured in one window."""

    step: Step
    own_ms: list[float]  # response less the commit delay and the providers
    cpu_ms: float  # of the node, a call-second
    core_share: float
    starved_share: float
    pss_kib: int
    lag_ms: list[float]
    dropped_samples: int  # of recordings, since the node began
    is_valid: bool  # the generator kept up and nobody else had the node's core

    @property
    def calls(self) -> int:
        return self.step.calls

    @property
    def name(self) -> str:
        return f"{self.calls} calls{'' if self.is_valid else ', void'}"


def is_disturbed(step: Step, starved_share: float) -> bool:
    """Whether the machine, not the node, may have made these numbers."""
    return step.heard.is_late or starved_share > STARVED_SHARE


def measure_step(load: Load, node: OurNode, seconds: float, delays_ms: float) -> Measured:
    """What the calls of ``load`` hear and cost in the next ``seconds``."""
    before, began_s = node.server.usage(), time.perf_counter()
    step = load.measure(seconds)
    ended_s, after = time.perf_counter(), node.server.usage()
    starved = (after.starved_ms - before.starved_ms) / 1000 / step.seconds
    stats = node.stats(began_s, ended_s)
    return Measured(
        step=step,
        own_ms=[took - delays_ms for took in step.heard.waits_ms],
        cpu_ms=(after.cpu_ms - before.cpu_ms) / step.held_calls / step.seconds,
        core_share=(after.cpu_ms - before.cpu_ms) / 1000 / step.seconds,
        starved_share=starved,
        pss_kib=after.pss_kib,
        lag_ms=[stat.lag_ms for stat in stats],
        dropped_samples=stats[-1].dropped_samples if stats else 0,
        is_valid=not is_disturbed(step, starved),
    )


def measure_ramp(
    options: NodeOptions, calls: Sequence[int], seconds: float, seed: int, out: Console
) -> tuple[list[Measured], list[float]]:
    """Every step of a ramp on one node, and every decision-to-clear.

    Raises:
        ServerError: the node did not come up.
        LoadError: it took no calls.
    """
    assert options.commit_ms is not None, "without it the own share cannot be told"
    delays_ms = max(options.commit_ms, options.stt_ms) + options.llm_ms + options.tts_ms
    node_core, load_core = cores()
    steps: list[Measured] = []
    all_heard: list[Heard] = []
    with TemporaryDirectory() as folder, our_node(options, node_core, Path(folder)) as node:
        pin(load_core)
        load = Load(node.url, Plan(speech=question(), reply_s=options.reply_ms / 1000), seed=seed)
        try:
            for number in calls:
                load.grow(number)
                for attempt in range(ATTEMPTS):
                    # again too: the account of a minute takes half a second, which makes callers
                    # late, and what they then hear belongs to no window
                    all_heard.append(load.measure(SETTLE_S).heard)
                    steps.append(measure_step(load, node, seconds, delays_ms))
                    all_heard.append(steps[-1].step.heard)
                    out.print(_line(steps[-1]), highlight=False)
                    if steps[-1].is_valid or attempt + 1 == ATTEMPTS:
                        break
        finally:
            load.close()
        time.sleep(1)  # records are written as calls end
        records = node.records()
    return steps, decision_to_clear_ms(records, load.opened_s, all_heard)


class Split(msgspec.Struct, frozen=True, kw_only=True):
    """Where the CPU of a frame goes, in µs."""

    stages: dict[str, float]
    functions: dict[str, float]  # the dearest, with what they called outside our own code


def stage_split(options: NodeOptions, calls: int, seconds: float, seed: int) -> Split:
    """CPU per frame by stage and function, from a run of its own: sampling has its price.

    Raises:
        ServerError: the node did not come up.
        LoadError: it took no calls.
    """
    node_core, load_core = cores()
    sampled = msgspec.structs.replace(options, stages=True)
    with TemporaryDirectory() as folder, our_node(sampled, node_core, Path(folder)) as node:
        pin(load_core)
        load = Load(node.url, Plan(speech=question(), reply_s=options.reply_ms / 1000), seed=seed)
        try:
            load.grow(calls)
            load.run(SETTLE_S)
            began_s = time.perf_counter()
            measured = measure_step(load, node, seconds, 0)
            stats = node.stats(began_s - 1, time.perf_counter())
        finally:
            load.close()
    counts = {
        (stage, name): count - stats[0].stages.get(stage, {}).get(name, 0)
        for stage, names in stats[-1].stages.items()
        for name, count in names.items()
    }
    us_per_sample = measured.cpu_ms * 1000 / FRAMES_PER_S / (sum(counts.values()) or 1)
    stages: dict[str, float] = {}
    for (stage, _), count in counts.items():
        stages[stage] = stages.get(stage, 0) + count * us_per_sample
    dearest = sorted(counts, key=lambda key: -counts[key])[:FUNCTIONS_MAX]
    return Split(
        stages=dict(sorted(stages.items(), key=lambda item: -item[1])),
        functions={f"{key[0]}: {key[1]}": counts[key] * us_per_sample for key in dearest},
    )


def slope(points: Sequence[tuple[float, float]]) -> float | None:
    """Of the straight line nearest to ``points``; None for fewer than two places."""
    if len({x for x, _ in points}) < 2:
        return None
    x_mean = sum(x for x, _ in points) / len(points)
    y_mean = sum(y for _, y in points) / len(points)
    over = sum((x - x_mean) * (y - y_mean) for x, y in points)
    return over / sum((x - x_mean) ** 2 for x, _ in points)


def carries(measured: Measured) -> bool:
    """Whether no caller of this step would have noticed."""
    gap = percentile(measured.step.heard.worst_gap_ms, 0.99)
    own = percentile(measured.own_ms, 0.99)
    in_time = gap is not None and gap < GAP_MS and own is not None and own < OWN_MS
    return in_time and all(line.is_met for line in fault_budgets([measured.step.counts]))


def budgets_of(steps: Sequence[Measured], clear_ms: Sequence[float]) -> list[Budget]:
    """The bar of capacity, judged at 400 calls, or at the valid window nearest to that."""
    valid = [step for step in steps if step.is_valid] or list(steps)
    at = min(valid, key=lambda step: (abs(step.calls - CALLS), -step.calls))
    where = f" at {at.calls} calls"
    memory = slope(
        [(step.calls, step.pss_kib) for step in steps if 50 <= step.calls <= CALLS]
        or [(step.calls, step.pss_kib) for step in steps]
    )
    rising = sorted(valid, key=lambda step: step.calls)
    knee = max((step.calls for step in takewhile(carries, rising)), default=0)
    # where all that was tried in peace was carried, more might be
    is_unknown = knee < CALLS and all(carries(step) for step in valid)
    lost = max(step.step.counts.lost_calls for step in steps)
    # past what is judged lies the knee, and what goes wrong there is what it is
    judged = [step for step in valid if step.calls <= at.calls]
    counts = [msgspec.structs.replace(step.step.counts, lost_calls=lost) for step in judged]
    times = [
        Budget(
            what="calls carried on one core",
            bound=f"≥ {CALLS}",
            measured=str(knee),
            is_met=None if is_unknown else knee >= CALLS,
        ),
        budget(
            "longest gap of a reply, p99" + where,
            percentile(at.step.heard.worst_gap_ms, 0.99),
            GAP_MS,
        ),
        budget("own share of a response, p99" + where, percentile(at.own_ms, 0.99), OWN_MS),
        budget("barge-in decision to clearAudio, p99", percentile(clear_ms, 0.99), CLEAR_MS),
        *fault_budgets(counts),
    ]
    if not any(step.is_valid for step in steps):  # missed, maybe, for what the machine did
        times = [msgspec.structs.replace(line, is_met=line.is_met or None) for line in times]
    return [
        *times,
        budget("CPU a call-second" + where, at.cpu_ms, CPU_MS, inclusive=True),
        budget("memory per added call", memory, MEMORY_KIB, "KiB"),
    ]


def report(
    options: NodeOptions,
    steps: Sequence[Measured],
    clear_ms: Sequence[float],
    split: Split | None,
    where: dict[str, str],
    seconds: float,
    seed: int,
) -> Run:
    notes = []
    disturbed = sum(not step.is_valid for step in steps)
    if disturbed:
        notes.append(
            f"{disturbed} of {len(steps)} windows are void (marked *): the generator was late "
            f"(p99 over {LATENESS_P99_MS:g} ms) or the node was kept from its core for over "
            f"{STARVED_SHARE:.0%} of the time. Their CPU figures stand, their times do not."
        )
    if options.record:
        dropped_s = steps[-1].dropped_samples / RATE_HZ
        notes.append(f"Recordings lost {dropped_s:g} s of sound for want of a faster disk.")
    tables = [
        Table(title="by calls, ms", columns=COLUMNS, rows=[_row(step) for step in steps]),
        fault_table([(step.name, step.step.counts) for step in steps]),
    ]
    if split is not None:
        total = sum(split.stages.values())
        for title, costs in (("stage", split.stages), ("function", split.functions)):
            rows = [[name, f"{us:.2f}", f"{us / total:.1%}"] for name, us in costs.items()]
            columns = [title, "µs", "share"]
            tables.append(Table(title=f"CPU per frame by {title}", columns=columns, rows=rows))
    series = [Series(name="barge-in decision to clearAudio", unit="ms", samples=list(clear_ms))]
    for step in steps:
        heard, at = step.step.heard, step.name
        series += [
            Series(name=f"own share of a response, {at}", unit="ms", samples=step.own_ms),
            Series(name=f"longest gap of a reply, {at}", unit="ms", samples=heard.worst_gap_ms),
            Series(name=f"voice to silence, {at}", unit="ms", samples=heard.silence_ms),
            Series(name=f"voice to clearAudio, {at}", unit="ms", samples=heard.clear_ms),
            Series(name=f"CPU a call-second, {at}", unit="ms", samples=[step.cpu_ms]),
        ]
    return Run(
        bench="capacity",
        where=where,
        settings={"node": msgspec.to_builtins(options), "seconds": seconds, "seed": seed},
        budgets=budgets_of(steps, clear_ms),
        tables=tables,
        plots=_plots(steps, split),
        series=series,
        notes=notes,
    )


def _plots(steps: Sequence[Measured], split: Split | None) -> list[Plot]:
    def curve(share: float, samples: Callable[[Measured], list[float]]) -> list[list[Any]]:
        found = [(step.calls, percentile(samples(step), share)) for step in steps]
        # for what never happened there is no place
        return [[x, None if y is None or math.isinf(y) else y] for x, y in found]

    def own(step: Measured) -> list[float]:
        return step.own_ms

    def longest(step: Measured) -> list[float]:
        return step.step.heard.worst_gap_ms

    def silence(step: Measured) -> list[float]:
        return step.step.silences_ms

    plots = [
        Plot(
            title="Own share of a response and the longest gap of a reply",
            kind="lines",
            data={
                "own share, p50": curve(0.5, own),
                "own share, p99": curve(0.99, own),
                "longest gap, p99": curve(0.99, longest),
            },
            x_label="calls",
            y_label="ms",
        ),
        Plot(
            title="Barge-in: the caller's voice to silence in the ear",
            kind="lines",
            data={"p50": curve(0.5, silence), "p99": curve(0.99, silence)},
            x_label="calls",
            y_label="ms",
        ),
        Plot(
            title="CPU",
            kind="lines",
            data={"share of a core, %": [[s.calls, s.core_share * 100] for s in steps]},
            x_label="calls",
            y_label="%",
        ),
        Plot(
            title="Longest gap of each reply at the greatest load",
            kind="histogram",
            data={f"{steps[-1].calls} calls": steps[-1].step.heard.worst_gap_ms},
            x_label="ms",
        ),
    ]
    if split is not None:
        bars = [[stage, us] for stage, us in split.stages.items()]
        plots.append(
            Plot(title="CPU per frame by stage", kind="bars", data={"a frame": bars}, x_label="µs")
        )
    return plots


def _row(step: Measured) -> list[str]:
    heard = step.step.heard
    own, clear, silent = (
        spread(step.own_ms),
        spread(heard.clear_ms, 0),
        spread(step.step.silences_ms, 0),
    )
    return [
        f"{step.calls}{'' if step.is_valid else '*'}",
        spread(heard.gap_ms)[2],
        spread(heard.worst_gap_ms)[2],
        own[0],
        own[2],
        clear[0],
        clear[2],
        silent[0],
        silent[2],
        f"{step.cpu_ms:.2f}",
        f"{step.core_share:.0%}",
        spread(step.lag_ms)[2],
        spread(heard.lateness_ms)[2],
        f"{step.step.core_share:.0%}",
        f"{step.starved_share:.1%}",
        f"{step.pss_kib / 1024:.1f}",
    ]


def _line(step: Measured) -> str:
    return "  ".join(f"{name} {value}" for name, value in zip(COLUMNS, _row(step), strict=True))


def main(argv: list[str] | None = None) -> int:
    """Ramp, print, and write the report; 0 if the bar is met, 1 if not, 3 if it is not known."""
    parser = Parser(prog="python -m bench capacity", description=__doc__)
    parser.add_argument("--calls", type=counts, default="1,50,100,200,300,400,500,600")
    parser.add_argument("--seconds", type=float, default=20, help="measured at each step")
    parser.add_argument("--socket", choices=["fast", "portable"], default="fast")
    parser.add_argument("--tls", action="store_true", help="in the node's process (portable)")
    parser.add_argument("--record", action="store_true", help="each call into a file")
    parser.add_argument("--silero", action="store_true", help="the neural voice detector")
    parser.add_argument("--commit-ms", type=int, default=400)
    parser.add_argument("--reply-ms", type=float, default=3000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--first", action="store_true", help="go before other jobs (needs root)")
    parser.add_argument("--no-stages", action="store_true", help="do not split the CPU by stage")
    parser.add_argument("--out", type=Path, default=Path("build/bench"))
    given = parser.parse_args(argv)
    options = NodeOptions(
        socket="portable" if given.tls else given.socket,
        voice="silero" if given.silero else "webrtc",
        record=given.record,
        tls=given.tls,
        commit_ms=given.commit_ms,
        reply_ms=given.reply_ms,
    )
    where = surroundings(["capacity", *(argv or [])])
    err, out = consoles()
    if given.first and not go_first():
        err.print("--first: not allowed; going on without", style="yellow")
    try:
        steps, clear_ms = measure_ramp(options, given.calls, given.seconds, given.seed, err)
        split = None
        if not given.no_stages:
            at = min(STAGE_CALLS, given.calls[-1])
            split = stage_split(options, at, given.seconds, given.seed)
    except (ServerError, LoadError) as exc:
        err.print(f"bench capacity: {exc}", style="red", highlight=False)
        return 3
    run = report(options, steps, clear_ms, split, where, given.seconds, given.seed)
    show(run, out)
    html, _ = write(run, given.out)
    out.print(f"report: {html}", highlight=False, soft_wrap=True)
    return status_of(run.budgets)
