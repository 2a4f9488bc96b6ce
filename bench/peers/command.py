"""``python -m bench peers``: the same callers for our node and for others, in turns.

Every server runs alone on one core, the callers on the other, and each load goes round all
servers before the next begins, so that what the machine does meanwhile meets them alike.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import msgspec
from rich.console import Console

from bench.load import SETTLE_S, Load, LoadError, Plan, Step
from bench.load.ours import NodeOptions, our_node
from bench.load.results import LATENESS_P99_MS, fault_table
from bench.load.server import Server, ServerError, cores, pin, serving
from bench.load.voice import paused, recorded, speech_of, voiced
from bench.options import Parser, counts
from bench.peers.environments import HERE, PEERS, Peer, Unavailable, python_of
from bench.report import (
    Budget,
    Plot,
    Run,
    Series,
    Table,
    percentile,
    spread,
    status_of,
    surroundings,
    write,
)
from bench.report.write import consoles, show
from rtcore.audio import FRAME_MS
from rtcore.testing.loopback import free_port

__all__ = ["Outcome", "budgets_of", "main"]

OURS = "rtcore"
AUDIO = Path(os.environ.get("RTCORE_AUDIO", Path(__file__).parents[3] / "shared" / "audio"))
# one speaker, 1.2 s, and the turn model is sure that the sentence is whole (0.98)
RECORDING = "picovoice-commands/282d32e1-e1e5-4760-b574-9f629d824384.wav"
AUDIBLE_GAP_MS = 20.0  # a frame: less, no line conceals worse
CORE_FULL_SHARE = 0.95  # of its core: past it a server does less than it was asked to
CEILING_MS = 100.0  # a server carries so many calls while p95 is this near to that of the fewest
TIMES_LESS_CPU = 20.0  # the bar
COLUMNS = [
    "server",
    "calls",
    "CPU ms",
    "CPU/turn",
    "core",
    "MiB/call",
    "resp. p50",
    "p95",
    "silent p50",
    "p95",
    "talked over",
    "gaps",
    "cut-offs",
    "starved",
    "late p99",
]  # explained in docs/benchmarks.md


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """One server under one load."""

    name: str
    step: Step
    cpu_ms: float  # a call-second
    memory_mib: float  # a call, over the server without any
    starved_share: float
    services_ms: float

    @property
    def title(self) -> str:
        return f"{self.name}, {self.step.calls} calls"

    @property
    def cpu_turn_ms(self) -> float | None:
        """CPU for each turn that was answered: what a server that is full has done for it."""
        answered = len(self.answers_ms)
        return (
            self.cpu_ms * self.step.held_calls * self.step.seconds / answered if answered else None
        )

    @property
    def core_share(self) -> float:
        return self.cpu_ms * self.step.held_calls / 1000

    @property
    def is_core_full(self) -> bool:
        return self.core_share >= CORE_FULL_SHARE

    @property
    def answers_ms(self) -> list[float]:
        """How long answers took. What comes sooner than its services is an earlier question's."""
        soonest_ms = self.services_ms - FRAME_MS
        return [took for took in self.step.heard.response_ms if took >= soonest_ms]

    @property
    def waits_ms(self) -> list[float]:
        """How long each question waited: those that nobody answered for ever."""
        answers, heard = self.answers_ms, self.step.heard
        unanswered = self.step.counts.unanswered + len(heard.response_ms) - len(answers)
        return answers + heard.overdue_ms + [math.inf] * unanswered

    @property
    def less_services_ms(self) -> list[float]:
        """What remains of each wait without the mock services: turn-taking and the server."""
        return [took - self.services_ms for took in self.waits_ms]

    @property
    def gap_share(self) -> float | None:
        """Of the replies, how many had a hole one could hear."""
        worst = self.step.heard.worst_gap_ms
        return sum(gap > AUDIBLE_GAP_MS for gap in worst) / len(worst) if worst else None

    @property
    def cut_off_share(self) -> float | None:
        """Of the pauses inside a question, how many the agent spoke into."""
        counts = self.step.counts
        return counts.cut_offs / counts.paused_turns if counts.paused_turns else None


def measure(
    name: str,
    server: Server,
    url: str,
    plan: Plan,
    calls: int,
    seconds: float,
    services_ms: float,
    seed: int,
) -> Outcome:
    """What ``calls`` callers find at ``url``.

    Raises:
        LoadError: it takes no calls.
    """
    idle = server.usage()
    load = Load(url, plan, seed=seed, spread_s=min(8.0, calls * 1.0), greeting_s=2.0)
    try:
        load.grow(calls)
        load.run(SETTLE_S)
        before = server.usage()
        step = load.measure(seconds)
        after = server.usage()
    finally:
        load.close()
    return Outcome(
        name=name,
        step=step,
        cpu_ms=(after.cpu_ms - before.cpu_ms) / step.held_calls / step.seconds,
        memory_mib=(after.pss_kib - idle.pss_kib) / 1024 / step.held_calls,
        starved_share=(after.starved_ms - before.starved_ms) / 1000 / step.seconds,
        services_ms=services_ms,
    )


@contextmanager
def running(peer: Peer | None, options: NodeOptions, folder: Path) -> Iterator[tuple[Server, str]]:
    """Our node, or ``peer`` with its mocks set alike, and where it listens.

    Raises:
        ServerError: it did not come up.
    """
    core, _ = cores()
    if peer is None:
        with our_node(options, core, folder, tells=False) as node:  # the others do not either
            yield node.server, node.url
        return
    port, spare = free_port(), free_port()
    env = {
        "STT_MS": str(options.stt_ms),
        "LLM_MS": str(options.llm_ms),
        "TTS_MS": str(options.tts_ms),
        "REPLY_MS": str(options.reply_ms),
    }
    command = [str(python_of(peer)), str(HERE / peer.script), str(port), str(spare)]
    log = folder / f"{peer.script}.log"
    with serving(command, port, core, log=log, env=env, cwd=HERE) as server:
        yield server, f"ws://127.0.0.1:{port}/"


def compare_all(
    wanted: Sequence[Peer | None],
    options: NodeOptions,
    plan: Plan,
    calls: Sequence[int],
    seconds: float,
    seed: int,
    err: Console,
) -> tuple[list[Outcome], dict[str, str]]:
    """Each load at each server, and which of them failed, why."""
    services_ms = options.stt_ms + options.llm_ms + options.tts_ms
    outcomes: list[Outcome] = []
    missing: dict[str, str] = {}
    for number in calls:
        for peer in wanted:
            name = OURS if peer is None else peer.name
            if name in missing:
                continue
            with TemporaryDirectory() as folder:
                try:
                    with running(peer, options, Path(folder)) as (server, url):
                        pin(cores()[1])
                        found = measure(name, server, url, plan, number, seconds, services_ms, seed)
                except (ServerError, LoadError) as exc:
                    missing[name] = str(exc)
                    err.print(f"{name}: skipped: {exc}", style="yellow", highlight=False)
                    continue
            outcomes.append(found)
            err.print("  ".join(_row(found)), highlight=False)
    return outcomes, missing


def _voice(given: Path | None) -> tuple[bytes, str]:
    """What the callers say, and in which voice.

    A turn model judges how a sentence is spoken, so it must hear a human one.
    """
    path = given if given is not None else AUDIO / RECORDING
    if given is not None or path.exists():
        return recorded(path), f"The callers are a recording: {path.name}."
    return voiced(6), (
        "The callers are a synthetic voice, which Pipecat's turn model takes for unfinished: its "
        "responses here are not what callers get. Give a recording with --speech."
    )


def _had(wanted: Sequence[Peer | None], err: Console) -> tuple[list[Peer | None], dict[str, str]]:
    """Those whose packages are here by now, and why the others' are not."""
    had: list[Peer | None] = []
    missing: dict[str, str] = {}
    for peer in wanted:
        try:
            if peer is not None:
                with err.status(f"{peer.name}: installing"):
                    python_of(peer)
            had.append(peer)
        except Unavailable as exc:
            missing[peer.name if peer is not None else OURS] = str(exc)
            err.print(f"skipped: {exc}", style="yellow", highlight=False)
    return had, missing


def ceiling(outcomes: Sequence[Outcome], name: str) -> int | None:
    """The most calls tried that ``name`` answered at p95 about as soon as the fewest.

    None: unknown.
    """
    own = {outcome.step.calls: outcome for outcome in outcomes if outcome.name == name}
    if not own:
        return None
    alone = percentile(own[min(own)].waits_ms, 0.95)
    if alone is None or math.isinf(alone):
        return 0
    carried = 0
    for calls, outcome in sorted(own.items()):
        p95 = percentile(outcome.waits_ms, 0.95)
        if p95 is None or p95 > alone + CEILING_MS:
            break
        carried = calls
    return carried


def budgets_of(outcomes: Sequence[Outcome]) -> list[Budget]:
    """Ours against Pipecat at every load both were measured under."""
    lines = []
    by_key = {(outcome.name, outcome.step.calls): outcome for outcome in outcomes}
    for (name, calls), theirs in by_key.items():
        ours = by_key.get((OURS, calls))
        if name != "pipecat" or calls == 1 or ours is None:
            continue
        times = theirs.cpu_ms / ours.cpu_ms if ours.cpu_ms else None
        at = f" at {calls} calls"
        lines.append(
            Budget(
                what="times less CPU than Pipecat" + at,
                bound=f"≥ {TIMES_LESS_CPU:g}",
                measured="-" if times is None else f"{times:.1f}",
                is_met=None if times is None else times >= TIMES_LESS_CPU,
            )
        )
        lines.append(_ahead("response" + at, ours.waits_ms, theirs.waits_ms))
        lines.append(_ahead("barge-in" + at, ours.step.silences_ms, theirs.step.silences_ms))
        lines.append(_no_more_cut_off(at, ours.cut_off_share, theirs.cut_off_share))
    return lines or [Budget(what="ahead of Pipecat", bound="-", measured="-", is_met=None)]


def _no_more_cut_off(at: str, ours: float | None, theirs: float | None) -> Budget:
    """None of ours is no more than theirs, also where theirs was too late for any to be known."""
    no_more: bool | None = None
    if ours is not None and (ours == 0 or theirs is not None):
        no_more = ours <= (theirs or 0.0)
    return Budget(
        what="false cut-offs no more than Pipecat's" + at,
        bound="-" if theirs is None else f"≤ {theirs:.0%}",
        measured="-" if ours is None else f"{ours:.0%}",
        is_met=no_more,
    )


def _ahead(what: str, ours: Sequence[float], theirs: Sequence[float]) -> Budget:
    """Better in every percentile."""
    shares = [share / 100 for share in range(1, 101)]
    pairs = [(percentile(ours, share), percentile(theirs, share)) for share in shares]
    known = [(mine, other) for mine, other in pairs if mine is not None and other is not None]
    worse = [mine >= other for mine, other in known]
    return Budget(
        what=f"{what}: percentiles behind Pipecat",
        bound="0 of 100",
        measured=str(sum(worse)) if known else "-",
        is_met=not any(worse) if known else None,
    )


def report(
    outcomes: Sequence[Outcome],
    skipped: Sequence[str],
    where: dict[str, str],
    settings: dict[str, object],
) -> Run:
    names = list(dict.fromkeys(outcome.name for outcome in outcomes))
    fewest = min(outcome.step.calls for outcome in outcomes)
    rows = [[name, str(ceiling(outcomes, name))] for name in names]
    notes = list(skipped)
    if any(outcome.step.heard.is_late for outcome in outcomes):
        notes.append(
            f"Where late p99 is over {LATENESS_P99_MS:g} ms (*) the callers were late, which makes "
            "that server look slower than it is: measure again."
        )
    full = [outcome.title for outcome in outcomes if outcome.is_core_full]
    if full:
        notes.append(
            f"Core full ({CORE_FULL_SHARE:.0%} or more of the one it had): {'; '.join(full)}. CPU "
            "a call-second is then what there was, not what calls wanted: compare that of a turn."
        )
    for outcome in outcomes:
        if overdue := outcome.step.heard.overdue_ms:
            notes.append(
                f"{outcome.title}: at the end {len(overdue)} questions had waited longer than any "
                "that was answered; they count as if answered then."
            )
    series = []
    for outcome in outcomes:
        heard, at = outcome.step.heard, outcome.title
        turn_ms = outcome.cpu_turn_ms
        series += [
            Series(
                name=f"response less services, {at}",
                unit="ms",
                samples=[took for took in outcome.less_services_ms if math.isfinite(took)],
            ),
            Series(name=f"voice to silence, {at}", unit="ms", samples=heard.silence_ms),
            Series(name=f"longest gap of a reply, {at}", unit="ms", samples=heard.worst_gap_ms),
            Series(name=f"CPU a call-second, {at}", unit="ms", samples=[outcome.cpu_ms]),
            Series(
                name=f"CPU an answered turn, {at}",
                unit="ms",
                samples=[] if turn_ms is None else [turn_ms],
            ),
        ]

    def curves(value: str) -> dict[str, list[list[float]]]:
        found: dict[str, list[list[float]]] = {name: [] for name in names}
        for outcome in outcomes:
            figures = {
                "cpu": outcome.cpu_ms,
                "response": percentile(outcome.less_services_ms, 0.95),
            }
            if (figure := figures[value]) is not None and math.isfinite(figure):
                found[outcome.name].append([outcome.step.calls, figure])
        return found

    return Run(
        bench="peers",
        where=where,
        settings=settings,
        budgets=budgets_of(outcomes),
        tables=[
            Table(title="by load, ms", columns=COLUMNS, rows=[_row(o) for o in outcomes]),
            fault_table([(o.title, o.step.counts) for o in outcomes]),
            Table(
                title=f"calls carried: p95 within {CEILING_MS:g} ms of that at {fewest} calls",
                columns=["server", "most calls tried that held"],
                rows=rows,
            ),
        ],
        plots=[
            Plot(
                title="CPU a call-second",
                kind="lines",
                data=curves("cpu"),
                x_label="calls",
                y_label="ms",
            ),
            Plot(
                title="Response less services, p95",
                kind="lines",
                data=curves("response"),
                x_label="calls",
                y_label="ms",
            ),
        ],
        series=series,
        notes=notes,
    )


def _row(outcome: Outcome) -> list[str]:
    heard, counts = outcome.step.heard, outcome.step.counts
    response, silence = spread(outcome.less_services_ms, 0), spread(outcome.step.silences_ms, 0)
    gaps, cuts, turn_ms = outcome.gap_share, outcome.cut_off_share, outcome.cpu_turn_ms
    return [
        outcome.name,
        str(outcome.step.calls),
        f"{outcome.cpu_ms:.2f}",
        "-" if turn_ms is None else f"{turn_ms:.1f}",
        f"{outcome.core_share:.0%}{', full' if outcome.is_core_full else ''}",
        f"{outcome.memory_mib:.2f}",
        response[0],
        response[1],
        silence[0],
        silence[1],
        counts.talked_over,
        "-" if gaps is None else f"{gaps:.0%}",
        "-" if cuts is None else f"{cuts:.0%}",
        f"{outcome.starved_share:.1%}",
        spread(heard.lateness_ms)[2] + ("*" if heard.is_late else ""),
    ]


def main(argv: list[str] | None = None) -> int:
    """Compare, print, write; 0 if the bar is met, 1 if not, 3 if it is not known."""
    parser = Parser(prog="python -m bench peers", description=__doc__)
    parser.add_argument("--calls", type=counts, default="1,10,25")
    parser.add_argument("--only", help="names of servers, with commas between: part is enough")
    parser.add_argument("--seconds", type=float, default=20, help="measured at each load")
    parser.add_argument("--speech", type=Path, help="WAV at 8000 Hz: what the callers say")
    parser.add_argument("--stt-ms", type=float, default=150)
    parser.add_argument("--llm-ms", type=float, default=350)
    parser.add_argument("--tts-ms", type=float, default=120)
    parser.add_argument("--reply-ms", type=float, default=3000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--out", type=Path, default=Path("build/bench"))
    given = parser.parse_args(argv)
    options = NodeOptions(
        stt_ms=given.stt_ms,
        llm_ms=given.llm_ms,
        tts_ms=given.tts_ms,
        reply_ms=given.reply_ms,
        partial_ms=0,  # the others' recogniser gives none either: final words alone
    )
    wanted: list[Peer | None] = [None, *PEERS]
    if given.only:
        parts = given.only.split(",")
        wanted = [
            peer
            for peer in wanted
            if any(part in (OURS if peer is None else peer.name) for part in parts)
        ]
    where = surroundings(["peers", *(argv or [])])
    err, out = consoles()
    try:
        pcm, voice = _voice(given.speech)
    except (OSError, ValueError) as exc:
        parser.error(str(exc))
    plan = Plan(speech=speech_of(pcm), paused=paused(pcm), reply_s=given.reply_ms / 1000)
    wanted, missing = _had(wanted, err)
    outcomes, fallen = compare_all(
        wanted, options, plan, given.calls, given.seconds, given.seed, err
    )
    if not outcomes:
        err.print("bench peers: nothing could be measured", style="red")
        return 3
    settings = {name: str(value) for name, value in vars(given).items() if value is not None}
    settings["calls"] = ",".join(map(str, given.calls))
    skipped = [voice, *(f"{name} was skipped: {why}" for name, why in (missing | fallen).items())]
    run = report(outcomes, skipped, where, dict(settings))
    show(run, out)
    html, _ = write(run, given.out)
    out.print(f"report: {html}", highlight=False, soft_wrap=True)
    return status_of(run.budgets)
