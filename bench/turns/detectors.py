"""Every detector the bench can run, by name, and why one cannot run here."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.turns.peers import RULES, Detector, TimerDetector, make_vad
from rtcore.turn.config import PRESETS, TurnConfig

__all__ = ["Candidate", "Unavailable", "candidates"]

OURS = "rtcore"
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


def ours(preset: str) -> Candidate:
    from rtcore.turn import TurnDetector

    def with_numbers(**numbers: int) -> Callable[[], Detector]:
        config = TurnConfig.preset(preset, **numbers)
        return lambda: TurnDetector(config)

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
        f"{OURS}:{preset}",
        with_numbers(),
        True,
        ending_after,
        lambda start_ms: with_numbers(
            start_ms=min(160, round(start_ms)), suspect_ms=round(start_ms)
        ),
    )


def peer(name: str, silero: Path | None) -> Candidate:
    rule = RULES[name]
    if rule.vad.startswith("silero"):
        try:
            import onnxruntime  # noqa: F401  # only whether it is there
        except ImportError as exc:
            raise Unavailable("onnxruntime is not installed") from exc
        if silero is None:
            raise Unavailable(
                "no silero_vad.onnx: pip install --no-deps silero-vad, or name the file "
                "in RTCORE_SILERO"
            )
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
    names: Sequence[str], presets: Sequence[str], silero: Path | None
) -> tuple[list[Candidate], dict[str, str]]:
    """The detectors named (all, when none is), and those that cannot run with the reason."""
    known = [OURS, *RULES]
    wanted = names or known
    for name in wanted:
        if name not in known:
            raise ValueError(f"no detector {name!r}; known: {', '.join(known)}")
    found: list[Candidate] = []
    lacking: dict[str, str] = {}
    for name in wanted:
        if name == OURS:
            found += [ours(preset) for preset in presets or PRESETS]
            continue
        try:
            found.append(peer(name, silero))
        except Unavailable as exc:
            lacking[name] = str(exc)
    return found, lacking
