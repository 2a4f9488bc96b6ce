"""``python -m bench turns``: build the tracks, run the detectors, print, keep, judge."""

from __future__ import annotations

import argparse
import json
import os
import sys
from pathlib import Path
from typing import Any

from rich.console import Console

from bench.turns.detectors import candidates
from bench.turns.peers import RULES, find_silero
from bench.turns.report import document, print_scores, print_targets, targets
from bench.turns.run import cpu_us_per_frame, run, sweep_commit, sweep_onset
from bench.turns.scenes import CONDITIONS, build
from bench.turns.sources import SPLITS, AudioMissing, load
from rtcore.turn.config import PRESETS

__all__ = ["main"]

# beside the checkout, unless the environment says otherwise
AUDIO = Path(os.environ.get("RTCORE_AUDIO", Path(__file__).parents[3] / "shared" / "audio"))
QUICK_DETECTORS, QUICK_PRESETS = ["rtcore", "webrtc-timer"], ["balanced"]


def parse(argv: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="bench turns", description=__doc__)
    names = lambda text: [part for part in text.split(",") if part]  # noqa: E731
    parser.add_argument(
        "--audio",
        type=Path,
        default=AUDIO,
        metavar="DIR",
        help="recordings: laid out like the manifest's, or any WAVs",
    )
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument(
        "--detectors",
        type=names,
        default=[],
        metavar="A,B",
        help=f"of rtcore, {', '.join(RULES)}; default: all",
    )
    parser.add_argument(
        "--presets",
        type=names,
        default=[],
        metavar="A,B",
        help=f"of {', '.join(PRESETS)}; default: all",
    )
    parser.add_argument(
        "--conditions",
        type=names,
        default=[],
        metavar="A,B",
        help=f"of {', '.join(CONDITIONS)}; default: all",
    )
    parser.add_argument(
        "--split",
        choices=[*SPLITS, "both"],
        default="both",
        help="what to run and print; tune on dev, never on heldout",
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="keep everything measured")
    parser.add_argument("--out", type=Path, metavar="DIR", help="draw the plots there")
    parser.add_argument(
        "--quick",
        action="store_true",
        help="a fifth of the audio, balanced beside a timer, no sweeps",
    )
    parser.add_argument(
        "--targets",
        action="store_true",
        help="judge against the bar; exit code 1 when something is missed",
    )
    return parser.parse_args(argv)  # fmt: skip


def main(argv: list[str]) -> int:
    """Run the bench; return the exit code (1: a target missed, 2: nothing to run or judge)."""
    options = parse(argv)
    console, status = Console(width=200 if not sys.stdout.isatty() else None), Console(stderr=True)
    names, presets = options.detectors, options.presets
    if options.quick:
        names, presets = names or QUICK_DETECTORS, presets or QUICK_PRESETS
    try:
        found, lacking = candidates(names, presets, find_silero())
        sides = load(options.audio)
    except (AudioMissing, ValueError) as exc:
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
    sweeps: dict[str, Any] = {}
    if options.out or (options.json and not options.quick):
        for each in found:
            status.print(f"sweeping {each.name}", style="dim")
            sweeps[each.name] = {
                "commit": sweep_commit(tracks, each),
                "onset": sweep_onset(tracks, each),
            }
    for split in splits:
        print_scores(console, tallies, cpu if split == splits[-1] else {}, split)
    result = document(tracks, tallies, sweeps, cpu, lacking, argv, options.seed, options.quick)
    if options.json:
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_text(json.dumps(result, indent=1, sort_keys=True) + "\n")
    if options.out:
        from bench.turns.plots import draw

        for path in draw(sweeps, options.out):
            status.print(f"wrote {path}")
    ours = [each.name for each in found if each.name.startswith("rtcore:")]
    if not options.targets:
        return 0
    if not ours:
        status.print("--targets: none of ours was run; add --detectors rtcore", style="red")
        return 2
    judged = "rtcore:balanced" if "rtcore:balanced" in ours else ours[0]
    return 0 if print_targets(console, targets(tallies, cpu, judged), judged) else 1
