"""All detectors over all tracks: tallies, sweeps and CPU, as plain data."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from bench.turns.detectors import Candidate
from bench.turns.drive import drive
from bench.turns.peers import Detector
from bench.turns.scoring import Tally, score, summary
from bench.turns.tracks import Track
from rtcore.audio import FRAME_SAMPLES
from rtcore.turn import TurnDetector
from rtcore.turn.silero import SileroBatch

__all__ = [
    "BATCHED",
    "Tallies",
    "batched_cpu_us_per_frame",
    "cpu_us_per_frame",
    "pooled",
    "run",
    "sweep_commit",
    "sweep_onset",
]

# (detector, words known, split, condition) -> what was counted
Tallies = dict[tuple[str, bool, str, str], Tally]
COMMIT_SWEEP_MS = (200, 300, 400, 500, 600, 700, 850, 1000, 1200, 1500)
ONSET_SWEEP_MS = (40, 60, 80, 120, 160, 240)
CPU_FRAMES = 10_000  # 200 s of audio a round
BATCHED_CALLS = 32
BATCHED = f"rtcore+silero, {BATCHED_CALLS} calls"
CPU_ROUNDS = 3  # the least disturbed is reported


def run(
    tracks: Sequence[Track], found: Sequence[Candidate], progress: Callable[[str], None]
) -> Tallies:
    """Score every detector on every track; those that use words, without and with them."""
    tallies: Tallies = {}
    for candidate in found:
        for words in (False, True) if candidate.uses_words else (False,):
            progress(f"{candidate.name}{' with words' if words else ''}")
            for track in tracks:
                decisions = drive(candidate.make(), track, words=words)
                key = (candidate.name, words, track.split, track.condition)
                tallies[key] = tallies.get(key, Tally()) + score(track, decisions)
    return tallies


def pooled(
    tallies: Tallies, name: str, words: bool, conditions: Iterable[str], split: str | None = None
) -> Tally:
    """The sum over some conditions, of one side of the split or of both."""
    wanted = set(conditions)
    total = Tally()
    for (detector, with_words, side, condition), tally in tallies.items():
        if (detector, with_words) != (name, words) or condition not in wanted:
            continue
        if split is None or side == split:
            total = total + tally
    return total


def _pool(make: Callable[[], Detector], tracks: Iterable[Track], words: bool) -> dict[str, Any]:
    total = Tally()
    for track in tracks:
        total = total + score(track, drive(make(), track, words=words))
    return summary(total)


def sweep_commit(tracks: Sequence[Track], candidate: Candidate) -> list[dict[str, Any]]:
    """False cut-offs against commit latency on the real call, for a row of delays."""
    calls = [track for track in tracks if track.condition == "call"]
    rows: list[dict[str, Any]] = []
    for words in (False, True) if candidate.uses_words else (False,):
        for delay_ms in COMMIT_SWEEP_MS if calls else ():
            scores = _pool(candidate.ending_after(delay_ms), calls, words)
            cut, latency = scores["pauses_cut"], scores["commit_ms"]
            rows.append(
                {"delay_ms": delay_ms, "words": words, "pauses_cut": cut, "commit_ms": latency}
            )
    return rows


def sweep_onset(tracks: Sequence[Track], candidate: Candidate) -> list[dict[str, Any]]:
    """False suspicions against onset latency on linear echo, for a row of evidence lengths."""
    echoes = [track for track in tracks if track.condition == "echo"]
    measures = ("false_suspected", "barge_in_suspected_ms", "masked")
    rows: list[dict[str, Any]] = []
    for start_ms in ONSET_SWEEP_MS if echoes else ():
        scores = _pool(candidate.starting_after(start_ms), echoes, False)
        rows.append({"start_ms": start_ms, **{measure: scores[measure] for measure in measures}})
    return rows


def _frames(tracks: Sequence[Track]) -> list[tuple[bytes, bytes | None]]:
    """What a detector is given of the real call as it was, or of the longest track."""
    track = max(tracks, key=lambda track: (track.condition == "call-live", track.frames))
    caller, far = track.caller.tobytes(), track.far.tobytes()
    inputs: list[tuple[bytes, bytes | None]] = []
    for start in range(0, min(CPU_FRAMES, track.frames) * FRAME_SAMPLES, FRAME_SAMPLES):
        octets = slice(2 * start, 2 * (start + FRAME_SAMPLES))
        playing = any(span.start <= start < span.end for span in track.speaking)
        inputs.append((caller[octets], far[octets] if playing else None))
    return inputs


def cpu_us_per_frame(tracks: Sequence[Track], candidate: Candidate) -> float:
    """Thread CPU time of ``push`` for one 20 ms frame."""
    inputs = _frames(tracks)
    rounds: list[float] = []
    for _ in range(CPU_ROUNDS):
        push = candidate.make().push
        began = time.thread_time()
        for pcm, heard in inputs:
            push(pcm, heard)
        rounds.append((time.thread_time() - began) / len(inputs))
    return round(min(rounds) * 1e6, 2)


def batched_cpu_us_per_frame(tracks: Sequence[Track], model: Path) -> float:
    """The same of :data:`BATCHED_CALLS` calls that share one Silero, its runs included."""
    inputs = _frames(tracks)[: CPU_FRAMES // BATCHED_CALLS * 4]
    batch = SileroBatch(model, most_voices=BATCHED_CALLS)
    pushes = [TurnDetector(voice=batch.voice()).push for _ in range(BATCHED_CALLS)]
    began = time.thread_time()
    for pcm, heard in inputs:
        for push in pushes:
            push(pcm, heard)
        batch.run()
    taken = time.thread_time() - began
    return round(taken / len(inputs) / BATCHED_CALLS * 1e6, 2)
