"""Where each millisecond between the caller's last word and the agent's first one goes.

``python -m bench latency`` holds conversations over real sockets and puts the node's own record
of every turn beside what was heard in the caller's ear; with ``--url`` any server that speaks
Plivo's stream protocol is measured, by ear alone. See docs/benchmarks.md.
"""

from __future__ import annotations

import math
import time
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import msgspec
from rich.console import Console

from bench.load import SETTLE_S, Heard, Load, LoadError, Network, Plan, Step
from bench.load.ours import NodeOptions, Record, our_node
from bench.load.results import LATENESS_P99_MS, Counts, fault_budgets, fault_table
from bench.load.server import ServerError, cores, go_first, pin
from bench.load.voice import question, recorded, speech_of
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
    write,
)
from bench.report.write import consoles, show
from rtcore.metrics import TurnTiming

__all__ = ["Turn", "converse", "main", "match", "notes_of", "total"]

LIVE = {"--stt": "transcriber", "--llm": "responder", "--tts": "synthesizer"}
PARTS = (
    "endpointing_ms",
    "stt_final_ms",
    "llm_first_token_ms",
    "first_sentence_ms",
    "tts_first_audio_ms",
    "playout_ms",
)
TURN_S = 6.0  # about what a turn takes, reply included: for the estimate of how long
INTERRUPT_EVERY = 4
GIVE_UP = 3.0  # times the estimate
FRAME_MS = 20.0
SAME_MS = 400.0  # two tellings of one turn differ by less, or they are not of one turn
# the target of the project: each stage and the whole, at p95
NETWORK_MS, STT_MS, LLM_MS, TTS_MS, TOTAL_MS, OWN_MS = 100, 200, 500, 200, 1000, 20


class Turn(msgspec.Struct, frozen=True, kw_only=True):
    """One answer, as the ear heard it and as the node timed it."""

    heard_ms: float
    timing: TurnTiming

    @property
    def apart_ms(self) -> float:
        """By how much the ear waited longer than the node says."""
        return self.heard_ms - self.timing.response_ms


def match(
    heard: Sequence[Heard], records: Sequence[Record], opened_s: dict[int, float]
) -> list[Turn]:
    """Each answer that was heard, with the node's record of it.

    Both are on the clock of the call; a turn only one side knows of is left out.
    """
    onsets: dict[int, list[tuple[float, float]]] = defaultdict(list)
    for part in heard:
        for call, ended_s, took_ms in part.turns:
            onsets[call].append((ended_s * 1000 + took_ms, took_ms))
    turns = []
    for record in records:
        begun_ms = opened_s[record.number] * 1000 - record.times_ms("call_started")[0]
        written = [begun_ms + at_ms for at_ms in record.times_ms("response")]
        for at_ms, timing in zip(written, record.turns, strict=True):
            near = min(onsets[record.number], key=lambda o: abs(o[0] - at_ms), default=None)
            if near is not None and abs(near[0] - at_ms) < SAME_MS:
                turns.append(Turn(heard_ms=near[1], timing=timing))
    return turns


def own_ms(timing: TurnTiming, options: NodeOptions) -> float:
    """What the node added: what is neither a wait for the caller nor for a scripted provider."""
    provided = min(timing.llm_first_token_ms + timing.first_sentence_ms, options.llm_ms)
    provided += min(timing.tts_first_audio_ms, options.tts_ms)
    waited = timing.endpointing_ms + timing.stt_final_ms
    return timing.response_ms - waited - provided


def converse(
    url: str, plan: Plan, network: Network, turns: int, calls: int, seed: int, err: Console
) -> tuple[Load, list[Step]]:
    """Hold conversations until ``turns`` answers were heard.

    Raises:
        LoadError: nobody answers.
    """
    load = Load(url, plan, network, seed=seed, spread_s=TURN_S)
    steps: list[Step] = []
    answers = 0
    try:
        load.grow(calls)
        load.run(SETTLE_S)
        until_s = time.monotonic() + GIVE_UP * (turns / calls + 3) * TURN_S
        while answers < turns and time.monotonic() < until_s:
            steps.append(load.measure(TURN_S))
            answers += len(steps[-1].heard.response_ms)
            err.print(f"{answers} of {turns} turns")
        if not answers:
            raise LoadError(f"{url}: no answer was heard")
    finally:
        load.close()
    return load, steps


def total(steps: Sequence[Step]) -> Counts:
    """What was counted in all windows of one load."""
    found = Counts(
        **{
            name: sum(getattr(step.counts, name) for step in steps)
            for name in Counts.__struct_fields__
        }
    )
    found.lost_calls = max((step.counts.lost_calls for step in steps), default=0)
    return found


def notes_of(steps: Sequence[Step], turns: int) -> list[str]:
    """What of a run of ``turns`` is to be taken with care."""
    notes = []
    late = sum(step.heard.is_late for step in steps)
    if late:
        notes.append(
            f"In {late} of {len(steps)} windows the callers were late (p99 over "
            f"{LATENESS_P99_MS:g} ms): what is met stands, what is missed may be the machine's "
            "doing."
        )
    answers = sum(len(step.heard.response_ms) for step in steps)
    if answers < turns:
        notes.append(f"Only {answers} of {turns} turns were heard in the time there was.")
    return notes


def at_ours(
    options: NodeOptions,
    specs: dict[str, object] | None,
    plan: Plan,
    network: Network,
    turns: int,
    calls: int,
    seed: int,
    err: Console,
) -> tuple[list[Turn], list[Step]]:
    """Conversations with our own node, and its record of each turn; ``specs``: real providers.

    Raises:
        ServerError: the node did not come up.
        LoadError: it did not answer.
    """
    node_core, load_core = cores()
    with TemporaryDirectory() as name:
        folder = Path(name)
        if specs is not None:
            path = folder / "live.json"
            path.write_bytes(msgspec.json.encode(specs))
            options = msgspec.structs.replace(options, live=path)
        with our_node(options, node_core, folder) as node:
            pin(load_core)
            load, steps = converse(node.url, plan, network, turns, calls, seed, err)
            time.sleep(1)  # records are written as calls end
            heard = [step.heard for step in steps]
            return match(heard, node.records(), load.opened_s), steps


def _spec(given: str | None) -> object:
    """A provider by its name, or as JSON with its options."""
    if given is not None and given.startswith("{"):
        return msgspec.json.decode(given)
    return {"provider": given}


def report(
    turns: Sequence[Turn],
    steps: Sequence[Step],
    network: Network,
    options: NodeOptions,
    where: dict[str, str],
    settings: dict[str, object],
    wanted: int = 0,
) -> Run:
    """Parts, agreement with the ear, and the bar; by ear alone where there are no records.

    ``wanted``: how many turns there should have been.
    """
    heard = [step.heard for step in steps]
    counts = total(steps)
    responses = [took for part in heard for took in part.response_ms]
    silences = [took for part in heard for took in part.silence_ms]
    never = [math.inf] * counts.uninterrupted
    lateness = [late for part in heard for late in part.lateness_ms]
    tables = [
        Table(
            title=f"At the caller's ear, {len(responses)} turns, ms",
            columns=["", "p50", "p95", "p99", "max"],
            rows=[
                ["response", *spread(responses)],
                ["barge-in: voice to silence", *spread(silences + never)],
                ["generator's lateness", *spread(lateness)],
            ],
        ),
        fault_table([("all", counts)]),
    ]
    series = [
        Series(name="response in the ear", unit="ms", samples=responses),
        Series(name="barge-in: voice to silence", unit="ms", samples=silences),
    ]
    budgets = [
        budget("response in the ear, p95", percentile(responses, 0.95), TOTAL_MS),
        *fault_budgets([counts]),
    ]
    plots = [
        Plot(title="Response in the ear", kind="histogram", data={"turns": responses}, x_label="ms")
    ]
    if turns:
        parts = {part: [getattr(turn.timing, part) for turn in turns] for part in PARTS}
        expected = 2 * network.delay_ms + network.jitter_ms
        apart = [turn.apart_ms for turn in turns]
        own = []
        if options.is_scripted:
            own = [own_ms(turn.timing, options) for turn in turns]
        tables.append(_parts_table(turns, parts, apart, own, expected))
        budgets = [*_stage_budgets(parts, apart, own), *budgets]
        budgets.append(
            budget(
                f"node and ear apart, p99 of {len(turns)} turns"
                + (f", less {expected:g} ms of network" if expected else ""),
                percentile([abs(ms - expected) for ms in apart], 0.99),
                FRAME_MS,
            )
        )
        plots.insert(0, _waterfall(turns))
        series += [Series(name=name, unit="ms", samples=values) for name, values in parts.items()]
        series += [
            Series(name="node and ear apart", unit="ms", samples=apart),
            Series(name="own share", unit="ms", samples=own),
        ]
    return Run(
        bench="latency",
        where=where,
        settings=settings,
        budgets=budgets,
        tables=tables,
        plots=plots,
        series=series,
        notes=notes_of(steps, wanted),
    )


def _parts_table(
    turns: Sequence[Turn],
    parts: dict[str, list[float]],
    apart: Sequence[float],
    own: Sequence[float],
    expected: float,
) -> Table:
    rows = [[name.removesuffix("_ms").replace("_", " "), *spread(parts[name])] for name in PARTS]
    rows.append(["response, by the node", *spread([turn.timing.response_ms for turn in turns])])
    rows.append(["response, in the ear", *spread([turn.heard_ms for turn in turns])])
    rows.append([f"the ear less the node (network {expected:g})", *spread(apart)])
    rows.append(["own share", *spread(own, 2)])
    speculative = sum(turn.timing.is_speculative for turn in turns)
    return Table(
        title=f"By the node's own record, {len(turns)} turns, {speculative} begun early, ms",
        columns=["", "p50", "p95", "p99", "max"],
        rows=rows,
    )


def _stage_budgets(
    parts: dict[str, list[float]], apart: Sequence[float], own: Sequence[float]
) -> list[Budget]:
    thought = [
        token + sentence
        for token, sentence in zip(
            parts["llm_first_token_ms"], parts["first_sentence_ms"], strict=True
        )
    ]
    return [
        budget("network, p95", percentile(apart, 0.95), NETWORK_MS),
        budget("STT, p95", percentile(parts["stt_final_ms"], 0.95), STT_MS),
        budget("LLM to the first sentence, p95", percentile(thought, 0.95), LLM_MS),
        budget("TTS, p95", percentile(parts["tts_first_audio_ms"], 0.95), TTS_MS),
        *_own_budgets(own),
    ]


def _own_budgets(own: Sequence[float]) -> list[Budget]:
    if not own:  # of real services nobody knows what they alone took
        return []
    return [
        budget("own share, p50", percentile(own, 0.5), 5),
        budget("own share, p99", percentile(own, 0.99), OWN_MS),
    ]


def _waterfall(turns: Sequence[Turn]) -> Plot:
    """The turns at three places of the ranking, each as its parts end to end."""
    ranked = sorted(turns, key=lambda turn: turn.heard_ms)
    rows = {}
    for name, share in (("median turn", 0.5), ("p95", 0.95), ("slowest", 1.0)):
        turn = ranked[math.ceil(share * len(ranked)) - 1]
        row = [
            [part.removesuffix("_ms").replace("_", " "), getattr(turn.timing, part)]
            for part in PARTS
        ]
        rows[name] = [*row, ["network", max(turn.apart_ms, 0.0)]]
    return Plot(title="A turn, part by part", kind="bars", data=rows, x_label="ms")


def main(argv: list[str] | None = None) -> int:
    """Measure, print, write; 0 if the bar is met, 1 if not, 3 if it is not known."""
    parser = Parser(prog="python -m bench latency", description=__doc__)
    parser.add_argument("--url", help="another server: measured by ear alone")
    parser.add_argument("--turns", type=count, default=1000)
    parser.add_argument("--calls", type=count, default=40, help="at once")
    parser.add_argument("--providers", choices=["scripted", "drawn", "live"], default="scripted")
    for option in LIVE:
        parser.add_argument(option, help="with --providers live: a name, or a spec as JSON")
    parser.add_argument("--speech", type=Path, help="WAV at 8000 Hz: what the callers say")
    parser.add_argument("--stt-ms", type=float, default=150)
    parser.add_argument("--llm-ms", type=float, default=350)
    parser.add_argument("--tts-ms", type=float, default=120)
    parser.add_argument("--reply-ms", type=float, default=3000)
    parser.add_argument("--commit-ms", type=int, help="no early start; a turn ends after so long")
    parser.add_argument("--network-ms", type=float, default=0, help="each way")
    parser.add_argument("--jitter-ms", type=float, default=0, help="added evenly from 0, each way")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--first", action="store_true", help="go before other jobs (needs root)")
    parser.add_argument("--json", action="store_true", help="print the report as JSON")
    parser.add_argument("--out", type=Path, default=Path("build/bench"))
    given = parser.parse_args(argv)
    is_live = given.providers == "live"
    if is_live and (given.speech is None or None in (given.stt, given.llm, given.tts)):
        parser.error("--providers live needs --stt, --llm, --tts, and words to hear: --speech")
    try:
        speech = question() if given.speech is None else speech_of(recorded(given.speech))
    except (OSError, ValueError) as exc:
        parser.error(str(exc))
    options = NodeOptions(
        stt_ms=given.stt_ms,
        llm_ms=given.llm_ms,
        tts_ms=given.tts_ms,
        reply_ms=given.reply_ms,
        commit_ms=given.commit_ms,
        drawn_seed=given.seed if given.providers == "drawn" else None,
    )
    is_ours = given.url is None and not is_live  # who else knows how long a reply should be?
    plan = Plan(
        speech=speech,
        interrupt_every=INTERRUPT_EVERY,
        reply_s=given.reply_ms / 1000 if is_ours else 0.0,
    )
    network = Network(delay_ms=given.network_ms, jitter_ms=given.jitter_ms)
    calls = min(given.calls, given.turns)
    where = surroundings(["latency", *(argv or [])])
    err, out = consoles()
    if given.first and not go_first():
        err.print("--first: not allowed; going on without", style="yellow")
    turns: list[Turn] = []
    try:
        if given.url is None:
            specs = {kind: _spec(getattr(given, name[2:])) for name, kind in LIVE.items()}
            turns, steps = at_ours(
                options,
                specs if is_live else None,
                plan,
                network,
                given.turns,
                calls,
                given.seed,
                err,
            )
        else:
            _, steps = converse(given.url, plan, network, given.turns, calls, given.seed, err)
    except (ServerError, LoadError, ValueError, msgspec.DecodeError) as exc:
        err.print(f"bench latency: {exc}", style="red", highlight=False)
        return 3
    settings = {name: str(value) for name, value in vars(given).items() if value is not None}
    run = report(turns, steps, network, options, where, dict(settings), given.turns)
    html, json = write(run, given.out)
    if given.json:
        out.out(json.read_text(), end="", highlight=False)
    else:
        show(run, out)
        out.print(f"report: {html}", highlight=False, soft_wrap=True)
    return status_of(run.budgets)
