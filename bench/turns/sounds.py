"""What is on a line beside speech: noises that are not words, noise floors, echo, µ-law."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from bench.turns.labels import RATE_HZ, Samples, active_dbfs, ms
from bench.turns.sources import Library
from rtcore.audio import mulaw_to_pcm, pcm_to_mulaw

__all__ = ["EVENT_KINDS", "at_level", "echo_of", "event_sound", "noise_bed", "through_mulaw"]


def through_mulaw(pcm: Samples) -> NDArray[np.int16]:
    """What is left of ``pcm`` after one pass through G.711 µ-law."""
    linear = np.clip(np.rint(pcm), -32768, 32767).astype("<i2")
    return np.frombuffer(mulaw_to_pcm(pcm_to_mulaw(linear.tobytes())), "<i2")


def _gain(db: float) -> float:
    return math.pow(10.0, db / 20.0)


def at_level(pcm: Samples, level_dbfs: float) -> Samples:
    """``pcm`` scaled so that its active level is ``level_dbfs``."""
    return pcm * _gain(level_dbfs - active_dbfs(pcm))


def noise_bed(length: int, level_dbfs: float, rng: Generator, recording: Samples | None) -> Samples:
    """``length`` samples of noise at an RMS of ``level_dbfs``: a recording, or white."""
    if recording is None:
        bed = rng.standard_normal(length)
    else:
        offset = int(rng.integers(len(recording)))
        bed = np.resize(np.roll(recording, -offset), length)
    return bed * (32768.0 * _gain(level_dbfs) / float(np.sqrt(np.mean(bed**2))))


def echo_of(far: Samples, loss_db: float, delay_samples: int, *, clipped: bool) -> Samples:
    """What returns of ``far``: later, quieter and, where ``clipped``, flattened at a third
    of its peak before the loss is taken (a loudspeaker at its limit)."""
    returned = far
    if clipped and len(far):
        peak = float(np.max(np.abs(far))) or 1.0
        returned = np.clip(far, -peak / 3, peak / 3)
        returned = returned * np.sqrt(np.mean(far**2) / max(float(np.mean(returned**2)), 1e-9))
    delayed = np.concatenate((np.zeros(delay_samples), returned))
    return delayed * _gain(-loss_db)


def _cough(rng: Generator, _library: Library) -> Samples:
    """A burst and a weaker, partly voiced tail: broadband noise under two decays."""
    burst, tail = ms(rng.uniform(60, 110)), ms(rng.uniform(120, 260))
    noise = rng.standard_normal(burst + tail)
    noise = np.convolve(noise, np.hanning(5) / np.hanning(5).sum(), "same")
    envelope = np.concatenate(
        (np.exp(-np.linspace(0, 1.5, burst)), 0.35 * np.exp(-np.linspace(0, 4, tail)))
    )
    pitch = np.sin(2 * np.pi * rng.uniform(140, 260) * np.arange(burst + tail) / RATE_HZ)
    pitch[:burst] = 0.0
    one = (noise + 0.6 * pitch) * envelope
    repeats = int(rng.integers(1, 3))
    return np.concatenate([np.concatenate((one, np.zeros(ms(130)))) for _ in range(repeats)])


def _clicks(rng: Generator, _library: Library) -> Samples:
    """Keys of a keyboard: 3 to 8 ticks of a few milliseconds, 90 to 220 ms apart."""
    out = [np.zeros(0)]
    for _ in range(int(rng.integers(3, 9))):
        tick = ms(rng.uniform(4, 12))
        out.append(rng.standard_normal(tick) * np.exp(-np.linspace(0, 5, tick)))
        out.append(np.zeros(ms(rng.uniform(90, 220))))
    return np.concatenate(out)


def _breath(rng: Generator, _library: Library) -> Samples:
    length = ms(rng.uniform(300, 700))
    return rng.standard_normal(length) * np.hanning(length)


def _knock(rng: Generator, _library: Library) -> Samples:
    """Two to four blows on wood: a low resonance that dies within 60 ms."""
    out = [np.zeros(0)]
    hertz = rng.uniform(150, 400)
    for _ in range(int(rng.integers(2, 5))):
        blow = np.arange(ms(60)) / RATE_HZ
        ring = np.sin(2 * np.pi * hertz * blow) + 0.3 * rng.standard_normal(len(blow))
        out.append(ring * np.exp(-blow * 80))
        out.append(np.zeros(ms(rng.uniform(120, 260))))
    return np.concatenate(out)


def _dtmf(rng: Generator, library: Library) -> Samples:
    if library.tones:
        pcm = library.tones[int(rng.integers(len(library.tones)))].pcm
        loud = np.flatnonzero(np.abs(pcm) > 0.05 * np.max(np.abs(pcm)))
        return pcm[loud[0] : loud[-1] + 1]
    low, high = float(rng.choice([697, 770, 852, 941])), float(rng.choice([1209, 1336, 1477]))
    time = np.arange(ms(200)) / RATE_HZ
    return np.sin(2 * np.pi * low * time) + np.sin(2 * np.pi * high * time)


def _music(rng: Generator, _library: Library) -> Samples:
    """Hold music: 1.5 s of a plucked arpeggio, each note with three harmonics."""
    out = [np.zeros(0)]
    root = rng.uniform(180, 330)
    for semitones in rng.permutation([0, 4, 7, 12, 7, 4]):
        time = np.arange(ms(250)) / RATE_HZ
        hertz = root * 2.0 ** (semitones / 12.0)
        note = sum(np.sin(2 * np.pi * hertz * k * time) / k for k in (1, 2, 3))
        out.append(note * np.exp(-time * 5))
    return np.concatenate(out)


def _bark(rng: Generator, library: Library) -> Samples:
    if not library.barks:
        return _cough(rng, library)
    pcm = library.barks[int(rng.integers(len(library.barks)))].pcm
    loud = np.flatnonzero(np.abs(pcm) > 0.05 * np.max(np.abs(pcm)))
    return pcm[loud[0] : min(loud[-1] + 1, loud[0] + ms(1500))]


_MAKERS: dict[str, Callable[[Generator, Library], Samples]] = {
    "cough": _cough,
    "clicks": _clicks,
    "breath": _breath,
    "knock": _knock,
    "dtmf": _dtmf,
    "music": _music,
    "bark": _bark,
}
EVENT_KINDS = tuple(_MAKERS)


def event_sound(kind: str, rng: Generator, library: Library) -> Samples:
    """One noise that is not a word, at a peak of -6 to -20 dBFS (breath 12 dB below that)."""
    sound = _MAKERS[kind](rng, library)
    peak_dbfs = float(rng.uniform(-20, -6)) - (12.0 if kind == "breath" else 0.0)
    return sound * (32768.0 * _gain(peak_dbfs) / float(np.max(np.abs(sound))))
