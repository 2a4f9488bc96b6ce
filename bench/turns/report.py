"""The JSON document of a run: what was measured, on what, of what."""

from __future__ import annotations

import os
import platform
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from bench.report import commit
from bench.turns.run import Tallies, pooled
from bench.turns.scoring import summary
from bench.turns.sources import SPLITS
from bench.turns.tracks import Track

__all__ = ["document"]


def machine() -> dict[str, Any]:
    return {
        "python": platform.python_version(),
        "system": platform.platform(),
        "processor": platform.processor() or platform.machine(),
        "cores": os.cpu_count(),
    }


def exposure(tracks: Sequence[Track]) -> dict[str, dict[str, dict[str, float]]]:
    """How much there was to be right or wrong about."""
    found: dict[str, dict[str, dict[str, float]]] = {split: {} for split in SPLITS}
    for track in tracks:
        amounts = {
            "seconds": len(track.caller) / 8000,
            "turns": len(track.turns),
            "pauses": sum(len(turn.pauses) for turn in track.turns),
            "barge_ins": len(track.barge_ins),
            "events": len(track.events),
            "backchannels": len(track.backchannels),
        }
        side = found[track.split].setdefault(track.condition, dict.fromkeys(amounts, 0))
        for name, amount in amounts.items():
            side[name] += amount
    return found


def scores_of(tallies: Tallies) -> dict[str, Any]:
    """detector -> words -> split (or ``all``) -> condition -> summary and raw counts."""
    scores: dict[str, Any] = {}
    for name, words, split, condition in tallies:
        side = scores.setdefault(name, {}).setdefault("words" if words else "no_words", {})
        tally = tallies[name, words, split, condition]
        side.setdefault(split, {})[condition] = {**summary(tally), "raw": asdict(tally)}
        if condition not in side.setdefault("all", {}):
            side["all"][condition] = summary(pooled(tallies, name, words, (condition,)))
    return scores


def document(
    tracks: Sequence[Track],
    tallies: Tallies,
    sweeps: dict[str, Any],
    cpu: dict[str, float],
    lacking: dict[str, str],
    command: Sequence[str],
    seed: int,
    quick: bool,
) -> dict[str, Any]:
    """The JSON result; everything under ``scores`` is the same bytes for the same seed."""
    return {
        "bench": "turns",
        "machine": machine(),
        "commit": commit(),
        "command": list(command),
        "cpu_us_per_frame": cpu,
        "not_run": lacking,
        "scores": {
            "seed": seed,
            "quick": quick,
            "exposure": exposure(tracks),
            "detectors": scores_of(tallies),
            "sweeps": sweeps,
        },
    }
