"""What must be true of turn-taking, and whether a run shows it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from bench.report import Budget
from bench.turns.detectors import OURS, WITH_SILERO
from bench.turns.run import BATCHED, Tallies, pooled
from bench.turns.scoring import summary
from bench.turns.sheets import CALL, ECHO, HARD, TURNS, Sheet, text

__all__ = ["target_sheet", "targets"]


def targets(tallies: Tallies, cpu: dict[str, float], name: str) -> list[Budget]:
    """The bar, for one preset of ours: held-out speakers; real call: both parties."""

    def of(
        words: bool, conditions: Sequence[str], split: str | None = "heldout", detector: str = name
    ) -> dict[str, Any]:
        return summary(pooled(tallies, detector, words, conditions, split))

    lines: list[Budget] = []

    def line(what: str, value: Any, limit: float, unit: str = "", evidence: Any = None) -> None:
        measured = "not measured" if value is None else f"{value:g}{unit}"
        if evidence is not None and value is not None:
            measured += f"  [{text(evidence)}]"
        lines.append(
            Budget(
                what=what,
                bound=f"<= {limit:g}{unit}",
                measured=measured,
                is_met=None if value is None else value <= limit,
            )
        )

    echo, hard = of(False, ECHO), of(False, HARD)
    onset = echo.get("barge_in_suspected_ms", {})
    line("barge-in onset with echo, p50", onset.get("p50"), 80, " ms")
    line("barge-in onset with echo, p95", onset.get("p95"), 160, " ms")
    masked = echo.get("masked", {})
    line("masked barge-ins with echo", masked.get("hits"), 0, "", masked)
    for what, side, limit in (("linear", echo, 0.2), ("harsh", hard, 0.5)):
        false = side.get("false_suspected", {})
        line(f"false barge-ins a minute of {what} echo", false.get("per_minute"), limit, "", false)
    for what, detector, limit in (
        ("", name, 10),
        (" with Silero", name.replace(OURS, WITH_SILERO), 3),
    ):
        events = of(False, ("events",), "heldout", detector).get("events_confirmed")
        of_sixty = events and round(60 * events["hits"] / events["of"], 1)
        line(f"noises confirmed{what}, of 60", of_sixty, limit, "", events)
    bits = of(True, ("backchannels",)).get("backchannels_confirmed", {})
    line("backchannels confirmed, words known", bits.get("percent"), 20, " %", bits)
    # where a pause becomes a lapse is a choice (bench.turns.calls): both readings must hold
    for reading, conditions in (("", CALL), (", long silences too", ("call-long",))):
        for what, words, limit in (("no words", False, 10), ("words known", True, 5)):
            call = of(words, conditions, None)
            cut = call.get("pauses_cut", {})
            label = f"cut-offs in 100 pauses, real call, {what}{reading}"
            line(label, cut.get("percent"), limit, "", cut)
    blind = of(False, CALL, None).get("commit_ms", {})
    line("commit without words, real call, p50", blind.get("p50"), 900, " ms")
    complete = of(True, ("call", "quiet"), None).get("commit_ms", {})
    line("commit after complete words, p50", complete.get("p50"), 350, " ms")
    line(
        "commit p95, no words", of(False, TURNS, None).get("commit_ms", {}).get("p95"), 1200, " ms"
    )
    line(
        "commit p95, words known",
        of(True, TURNS, None).get("commit_ms", {}).get("p95"),
        1200,
        " ms",
    )
    line("CPU a frame without Silero", cpu.get(name), 4, " us")
    line(f"CPU a frame, {BATCHED}", cpu.get(BATCHED), 18, " us")
    return lines


def target_sheet(lines: Sequence[Budget], name: str) -> Sheet:
    verdicts = {None: "unknown", True: "reached", False: "NOT reached"}
    rows = tuple((line.what, line.bound, line.measured, verdicts[line.is_met]) for line in lines)
    return Sheet(
        f"what must be true: {name}, held-out speakers",
        ("what", "reach", "measured", "verdict"),
        rows,
    )
