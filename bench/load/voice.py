"""What the callers say: a synthetic voice, in whole 20 ms frames that are encoded once for all.

The scripted voice of :mod:`rtcore.testing` is made to be recognised again to the sample; this
one is made to be taken for a human by voice detectors of any make: it glides in pitch, moves
between vowels and closes its syllables with breath.
"""

from __future__ import annotations

import math
import random
from array import array
from base64 import b64encode
from functools import lru_cache
from pathlib import Path

import msgspec

from rtcore.audio import (
    FRAME_BYTES,
    FRAME_MS,
    FRAME_SAMPLES,
    RATE_HZ,
    frame_power,
    pcm_to_mulaw,
)
from rtcore.errors import ConfigError
from rtcore.testing import Utterance, read_wav

__all__ = ["FRAME_S", "Speech", "hush", "paused", "question", "recorded", "speech_of", "voiced"]

FRAME_S = FRAME_MS / 1000
NOISE_RMS = 20.0  # of int16, -64 dBFS: an idle telephone line is never digital silence
NOISE_FRAMES = 50  # one second, over and over
PEAK = 9000.0  # of int16; -11 dBFS, a caller who speaks up
SYLLABLE_S = 0.2  # five a second, brisk
PITCH_HZ = 125.0  # of a man; falls by a fifth over a sentence
SWING = 0.14  # of the pitch within a syllable: notes hold theirs, voices do not
# formants of five vowels of men, Hz (Peterson and Barney, 1952: heed, head, hod, hawed, who'd)
VOWELS_HZ = ((270, 2290), (530, 1840), (730, 1090), (570, 840), (300, 870))
BANDWIDTHS_HZ = (70, 110)
BREATH = 0.01  # of the pulses' strength: the part of a voice that is no tone


class Speech(msgspec.Struct, frozen=True, kw_only=True):
    """An utterance as base64 µ-law frames.

    ``first_s`` and ``last_s``: from the start of its first frame to its first voiced sample and
    past its last.
    """

    frames: tuple[bytes, ...]
    first_s: float
    last_s: float


def speech_of(pcm: bytes) -> Speech:
    """``pcm`` (int16 at 8000 Hz) over the line's noise.

    Raises:
        ValueError: there is no voice in it.
    """
    utterance = Utterance(pcm)
    if not utterance.stretches:
        raise ValueError("nothing to be heard in what the caller should say")
    sound = array("h", pcm)
    sound.extend([0] * (-len(sound) % FRAME_SAMPLES))
    return Speech(
        frames=_frames(_over_noise(sound)),
        first_s=utterance.stretches[0].start / RATE_HZ,
        last_s=utterance.stretches[-1].end / RATE_HZ,
    )


@lru_cache(maxsize=8)
def question(syllables: int = 6) -> Speech:
    """Something that sounds like speech, ``syllables`` times 200 ms of it."""
    return speech_of(voiced(syllables))


def recorded(path: Path) -> bytes:
    """A recording from its first voiced sample to its last, int16 at 8000 Hz.

    Raises:
        OSError: it cannot be read.
        ValueError: it is no recording, or nobody speaks in it.
    """
    try:
        pcm = read_wav(path)
    except ConfigError as exc:
        raise ValueError(str(exc)) from exc
    stretches = Utterance(pcm).stretches
    if not stretches:
        raise ValueError(f"{path}: nobody speaks in it")
    return pcm[stretches[0].start * 2 : stretches[-1].end * 2]


def paused(pcm: bytes, pause_ms: int = 500) -> Speech:
    """``pcm`` with a pause near its middle, in which nobody should answer."""
    frames = len(pcm) // FRAME_BYTES
    middle = range(frames * 2 // 5, frames * 3 // 5 + 1)
    quietest = min(middle, key=lambda n: frame_power(pcm[n * FRAME_BYTES : (n + 1) * FRAME_BYTES]))
    at = quietest * FRAME_BYTES
    return speech_of(pcm[:at] + bytes(pause_ms * RATE_HZ // 1000 * 2) + pcm[at:])


def voiced(syllables: int, seed: int = 1) -> bytes:
    """The voice: pulses that ring in two resonances side by side; int16 at 8000 Hz."""
    dice = random.Random(seed)
    samples = round(SYLLABLE_S * RATE_HZ)
    total, phase, sound = syllables * samples, 0.0, list[float]()
    state = [(0.0, 0.0)] * len(BANDWIDTHS_HZ)
    vowel = VOWELS_HZ[0]
    for _ in range(syllables):
        before, vowel = vowel, dice.choice([v for v in VOWELS_HZ if v != vowel])
        lift = dice.uniform(0.8, 1.2)
        for n in range(samples):
            done = n / samples
            glide = min(1.0, 2 * done)  # from vowel to vowel in the first half
            fall = 1 - 0.2 * len(sound) / total
            pitch_hz = PITCH_HZ * fall * (1 + SWING * lift * math.sin(math.tau * done))
            phase += pitch_hz / RATE_HZ
            value = dice.gauss(0, BREATH)
            if phase >= 1:
                phase -= 1
                value += 1.0
            heard = 0.0
            for at, width in enumerate(BANDWIDTHS_HZ):
                hz = before[at] + (vowel[at] - before[at]) * glide
                state[at] = _ring(value, state[at], hz, width)
                heard += state[at][0]
            sound.append(heard * (0.5 + 0.5 * math.sin(math.pi * done)))
    scale = PEAK / max(abs(value) for value in sound)
    return array("h", (round(value * scale) for value in sound)).tobytes()


def _ring(
    value: float, state: tuple[float, float], hz: float, width_hz: float
) -> tuple[float, float]:
    """One step of a two-pole resonator: its last two samples, the newest first."""
    radius = math.exp(-math.pi * width_hz / RATE_HZ)
    value += 2 * radius * math.cos(math.tau * hz / RATE_HZ) * state[0] - radius**2 * state[1]
    return value, state[0]


@lru_cache(maxsize=1)
def hush() -> tuple[bytes, ...]:
    """A second of an idle line."""
    return _frames(_over_noise(array("h", [0] * (NOISE_FRAMES * FRAME_SAMPLES))))


def _over_noise(sound: array[int]) -> array[int]:
    dice = random.Random(1)  # the same noise every run
    return array("h", (max(-32768, min(32767, round(s + dice.gauss(0, NOISE_RMS)))) for s in sound))


def _frames(sound: array[int]) -> tuple[bytes, ...]:
    line = pcm_to_mulaw(sound.tobytes())
    return tuple(
        b64encode(line[at : at + FRAME_SAMPLES]) for at in range(0, len(line), FRAME_SAMPLES)
    )
