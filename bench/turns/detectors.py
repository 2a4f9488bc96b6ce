"""Every detector the bench can run, by name, and why one cannot run here."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

from bench.turns.peers import RULES, Detector, TimerDetector, make_vad
from rtcore.errors import ConfigError
from rtcore.turn import TurnConfig, TurnDetector
from rtcore.turn.config import Preset
from rtcore.turn.silero import SileroBatch, find_model

__all__ = [
    "DETECTORS",
    "OURS",
    "WITH_SILERO",
    "Candidate",
    "Unavailable",
    "candidates",
    "silero_model",
]

OURS, WITH_SILERO = "rtcore", "rtcore+silero"
DETECTORS = (OURS, WITH_SILERO, *RULES)
BALANCED = TurnConfig()


class Unavailable(Exception):
    """A detector cannot run on this machine; the message says what it lacks."""


@dataclass(frozen=True)
class Candidate:
    """A detector to be scored: ``make()`` gives a fresh one for each track.

    ``ending_after`` and ``starting_after`` are the sweeps: the same detector with its turns
    ended, or its barge-ins suspected, after so many ms.
    """

    name: str
    make: Callable[[], Detector]
    uses_words: bool
    ending_after: Callable[[float], Callable[[], Detector]]
    starting_after: Callable[[float], Callable[[], Detector]]


def ours(preset: Preset, model: Path | None = None) -> Candidate:
    """Our detector; with ``model``, Silero in place of webrtcvad behind the same guard."""

    def with_numbers(**numbers: int) -> Callable[[], Detector]:
        config = TurnConfig.preset(preset, **numbers)
        if model is None:
            return lambda: TurnDetector(config)
        return lambda: TurnDetector(
            config, voice=SileroBatch(model, most_voices=1, shared=False).voice()
        )

    def ending_after(end_ms: float) -> Callable[[], Detector]:
        """The curve scaled as a whole: ``end_ms`` is the delay when the words say nothing."""
        scale = end_ms / BALANCED.unsure_ms
        return with_numbers(
            eager_ms=min(BALANCED.eager_ms, round(end_ms)),
            complete_ms=max(100, round(BALANCED.complete_ms * min(1.0, scale))),
            unsure_ms=round(end_ms),
            unfinished_ms=round(BALANCED.unfinished_ms * scale),
        )

    return Candidate(
        f"{OURS if model is None else WITH_SILERO}:{preset}",
        with_numbers(),
        True,
        ending_after,
        lambda start_ms: with_numbers(
            start_ms=min(160, round(start_ms)), suspect_ms=round(start_ms)
        ),
    )


def silero_model() -> Path:
    """Silero's file: named by ``RTCORE_SILERO``, or as the detector itself finds it."""
    named = os.environ.get("RTCORE_SILERO")
    try:
        path = Path(named) if named else find_model()
    except ConfigError as exc:
        raise Unavailable(str(exc)) from exc
    if not path.is_file():
        raise Unavailable(f"RTCORE_SILERO names no file: {path}")
    if importlib.util.find_spec("onnxruntime") is None:
        raise Unavailable("onnxruntime is missing: pip install '.[silero]' in the checkout")
    return path


def peer(name: str) -> Candidate:
    rule = RULES[name]
    silero = silero_model() if rule.vad.startswith("silero") else None
    return Candidate(
        name,
        lambda: TimerDetector(rule, make_vad(rule.vad, silero)),
        rule.resume_ms is not None,
        lambda end_ms: lambda: TimerDetector(rule.ending_after(end_ms), make_vad(rule.vad, silero)),
        lambda start_ms: (
            lambda: TimerDetector(rule.starting_after(start_ms), make_vad(rule.vad, silero))
        ),
    )


def candidates(
    names: Sequence[str], presets: Sequence[Preset]
) -> tuple[list[Candidate], dict[str, str]]:
    """The detectors named (all, when none is), and those that cannot run with the reason."""
    found: list[Candidate] = []
    lacking: dict[str, str] = {}
    for name in names or DETECTORS:
        if name == OURS:
            found += [ours(preset) for preset in presets or get_args(Preset)]
            continue
        try:
            if name == WITH_SILERO:  # the presets differ in their numbers, not in what is voice
                found.append(ours((presets or ["balanced"])[0], silero_model()))
            else:
                found.append(peer(name))
        except Unavailable as exc:
            lacking[name] = str(exc)
    return found, lacking
