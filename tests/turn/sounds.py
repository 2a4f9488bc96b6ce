"""Frames of 20 ms whose nature is known: silence, noise, tones, keys, and something voice-like."""

from __future__ import annotations

import math
import random
from array import array

RATE_HZ, FRAME = 8000, 160

KEYS = {
    key: (low, high)
    for low, row in zip((697, 770, 852, 941), ("123A", "456B", "789C", "*0#D"), strict=True)
    for high, key in zip((1209, 1336, 1477, 1633), row, strict=True)
}


def _clip(values: list[float]) -> array[int]:
    return array("h", [max(-32768, min(32767, round(value))) for value in values])


def _amplitude(level_dbfs: float) -> float:
    """Of a sine whose power is ``level_dbfs``."""
    return 32768.0 * math.sqrt(2.0) * 10.0 ** (level_dbfs / 20.0)


def silence() -> array[int]:
    return array("h", bytes(2 * FRAME))


def noise(level_dbfs: float, seed: int) -> array[int]:
    rng = random.Random(seed)
    sigma = 32768.0 * 10.0 ** (level_dbfs / 20.0)
    return _clip([rng.gauss(0.0, sigma) for _ in range(FRAME)])


def tone(hertz: float, level_dbfs: float, at: int = 0) -> array[int]:
    """Frame number ``at`` of a sine."""
    amplitude, turn = _amplitude(level_dbfs), 2.0 * math.pi * hertz / RATE_HZ
    return _clip([amplitude * math.sin(turn * (at * FRAME + i)) for i in range(FRAME)])


def dtmf(key: str, level_dbfs: float, at: int = 0) -> array[int]:
    low, high = KEYS[key]
    return array(
        "h",
        [
            a + b
            for a, b in zip(
                tone(low, level_dbfs - 3, at), tone(high, level_dbfs - 3, at), strict=True
            )
        ],
    )


def hoarse(frames: int, seed: int = 1) -> list[array[int]]:
    """A voice without a pitch: pulses 7.5 to 8.6 ms apart, by chance, ringing as a vowel does."""
    rng, values = random.Random(seed), []
    while len(values) < frames * FRAME:
        for n in range(rng.randrange(60, 70)):
            ring = math.exp(-0.03 * n) * math.cos(0.4477 * n)
            values.append(6000.0 * (ring + math.exp(-0.04 * n) * math.cos(0.8639 * n)))
    return [_clip(values[at * FRAME : (at + 1) * FRAME]) for at in range(frames)]


def _phase(sample: int) -> float:
    """Of the glottis: 130 Hz, gliding by 15 % three times a second."""
    time = sample / RATE_HZ
    glide = 2.0 * math.pi * 3.0
    return 2.0 * math.pi * 130.0 * (time - 0.15 / glide * math.cos(glide * time))


def voice(index: int, level_dbfs: float) -> array[int]:
    """Frame ``index`` of an endless vowel: harmonics under two formants, swelling 4 a second."""
    values = []
    for sample in range(index * FRAME, (index + 1) * FRAME):
        phase = _phase(sample)
        swell = 0.75 + 0.25 * math.sin(2.0 * math.pi * 4.0 * sample / RATE_HZ)
        values.append(
            swell
            * sum(
                math.sin(k * phase)
                * (
                    1.0 / (1.0 + ((k * 130 - 550) / 150) ** 2)
                    + 0.6 / (1.0 + ((k * 130 - 1500) / 200) ** 2)
                )
                for k in range(1, 20)
            )
        )
    return _clip([value * _amplitude(level_dbfs) * 0.75 for value in values])
