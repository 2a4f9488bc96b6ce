"""``python -m bench turns``: build the tracks, run the detectors, print, keep, judge."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from bench.report import Budget, Run, status_of, surroundings, write
from bench.turns.detectors import DETECTORS, OURS, WITH_SILERO, Candidate, candidates, silero_model
from bench.turns.report import document
from bench.turns.run import (
    BATCHED,
    batched_cpu_us_per_frame,
    cpu_us_per_frame,
    run,
    sweep_commit,
    sweep_onset,
)
from bench.turns.scenes import CONDITIONS, build
from bench.turns.sheets import Sheet, cpu_sheet, exposure_sheet, score_sheets
from bench.turns.sources import SPLITS, AudioMissing, load
from bench.turns.targets import target_sheet, targets
from bench.turns.tracks import Track
from rtcore.errors import ConfigError
from rtcore.turn.config import PRESETS

__all__ = ["main"]

# beside the checkout, unless the environment says otherwise
AUDIO = Path(os.environ.get("RTCORE_AUDIO", Path(__file__).parents[3] / "shared" / "audio"))
DEFAULT = f"{OURS}:balanced"
QUICK_DETECTORS, QUICK_PRESETS = ["rtcore", "webrtc-timer"], ["balanced"]


def parse(argv: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench turns", description=__doc__)
    names = lambda text: [part for part in text.split(",") if part]  # noqa: E731
    parser.add_argument(
        "--audio",
        type=Path,
        default=AUDIO,
        metavar="DIR",
        help="recordings: laid out like the manifest's, or any WAVs",
    )
    parser.add_argument("--seed", type=int, default=1)
    choices = {"--detectors": DETECTORS, "--presets": PRESETS, "--conditions": CONDITIONS}
    for option, known in choices.items():
        parser.add_argument(
            option,
            type=names,
            default=[],
            metavar="A,B",
            help=f"of {', '.join(known)}; default: all",
        )
    parser.add_argument(
        "--split",
        choices=[*SPLITS, "both"],
        default="both",
        help="what to run and print; tune on dev, never on heldout",
    )
    parser.add_argument(
        "--json",
        type=Path,
        metavar="FILE",
        help="keep everything measured, and the tables as Markdown beside it",
    )
    parser.add_argument("--out", type=Path, metavar="DIR", help="draw the plots there")
    parser.add_argument("--page", type=Path, metavar="DIR", help="write tables and bar there")
    parser.add_argument(
        "--quick",
        action="store_true",
        help="a fifth of the audio, balanced beside a timer",
    )
    parser.add_argument(
        "--targets",
        action="store_true",
        help="judge against the bar; exit code 1 when something is missed, 3 when not known",
    )
    return parser.parse_args(argv)


def check(names: Sequence[str], known: Collection[str], what: str) -> None:
    """Refuse a name that is not known, saying which are."""
    for name in names:
        if name not in known:
            raise ValueError(f"no {what} {name!r}; known: {', '.join(known)}")


def main(argv: list[str]) -> int:
    """Run the bench; return the exit code (1: a target missed, 3: not known, 2: nothing to run)."""
    options = parse(argv)
    console, status = Console(width=230 if not sys.stdout.isatty() else None), Console(stderr=True)
    names, presets = options.detectors, options.presets
    if options.quick:
        names, presets = names or QUICK_DETECTORS, presets or QUICK_PRESETS
    try:
        check(names, DETECTORS, "detector")
        found, lacking = candidates(names, presets)
        sides = load(options.audio)
        check(options.conditions, CONDITIONS, "condition")
    except (AudioMissing, ConfigError, ValueError) as exc:
        status.print(f"bench turns: {exc}", style="red")
        return 2
    for name, why in lacking.items():
        status.print(f"{name}: not run, {why}")
    splits = [split for split in SPLITS if options.split in (split, "both")]
    tracks = [
        track
        for split in splits
        for track in build(sides[split], options.seed, quick=options.quick)
        if not options.conditions or track.condition in options.conditions
    ]
    tallies = run(tracks, found, lambda text: status.print(f"running {text}", style="dim"))
    cpu = {each.name: cpu_us_per_frame(tracks, each) for each in found}
    if any(name.startswith(WITH_SILERO) for name in cpu):
        cpu[BATCHED] = batched_cpu_us_per_frame(tracks, silero_model())
    curves = options.out or (options.json and not options.quick)
    sweeps = sweep(tracks, found, status) if curves else {}
    sheets = [sheet for split in splits for sheet in score_sheets(tallies, split)]
    sheets.append(cpu_sheet(cpu))
    tables = [sheet.plain() for sheet in sheets]
    ours = [each.name for each in found if each.name.startswith(OURS)]
    lines: list[Budget] = []
    if ours:
        judged = DEFAULT if DEFAULT in ours else ours[0]
        lines = targets(tallies, cpu, judged)
        if options.targets or options.json:
            sheets.append(target_sheet(lines, judged))
    for sheet in sheets:
        sheet.show(console)
    if options.json:
        result = document(tracks, tallies, sweeps, cpu, lacking, argv, options.seed, options.quick)
        keep(options.json, result, sheets)
    if options.page:
        settings = {"seed": options.seed, "quick": options.quick, "split": options.split}
        notes = [f"{name}: not run, {why}" for name, why in lacking.items()]
        where = surroundings(["turns", *argv])
        write(
            Run(
                bench="turns",
                where=where,
                settings=settings,
                budgets=lines,
                tables=tables,
                notes=notes,
            ),
            options.page,
        )
    if options.out:
        from bench.turns.plots import draw

        for path in draw(sweeps, options.out):
            status.print(f"wrote {path}")
    if not options.targets:
        return 0
    if not ours:
        status.print("--targets: none of ours was run; add --detectors rtcore", style="red")
        return 2
    return status_of(lines)


def sweep(
    tracks: Sequence[Track], found: Sequence[Candidate], status: Console
) -> dict[str, dict[str, Any]]:
    """The curves of every detector; of our presets only the default: they share the detector."""
    curves: dict[str, dict[str, Any]] = {}
    for each in found:
        if each.name.startswith(f"{OURS}:") and each.name != DEFAULT:
            continue
        status.print(f"sweeping {each.name}", style="dim")
        curves[each.name] = {
            "commit": sweep_commit(tracks, each),
            "onset": sweep_onset(tracks, each),
        }
    return curves


def keep(path: Path, result: dict[str, Any], sheets: Sequence[Sheet]) -> None:
    """Write the document, and beside it the tables as Markdown."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(result, sort_keys=True, separators=(",", ":")) + "\n")
    machine = "{processor}, {cores} cores, {system}, Python {python}".format(**result["machine"])
    head = (
        "# Turn-taking, as measured\n\n"
        f"`python -m bench turns {' '.join(result['command'])}` at {result['commit']}, {machine}. "
        "Intervals are 95 %: Wilson, Byar, bootstrap (in the JSON). Latencies are p50 / p95 / max. "
        "`heldout` is not blind: both sides were looked at while the bench and the detector were "
        "built, and most of its speakers are unnamed, so files are kept apart and not voices. "
        "What is real in the tracks and what is not: `bench/turns/__init__.py`; "
        "who is on which side of the split: `bench/turns/sources.py`.\n"
    )
    played = exposure_sheet(result["scores"]["exposure"])
    text = "\n".join([head, *(sheet.markdown() for sheet in [*sheets, played])])
    path.with_suffix(".md").write_text(text)
