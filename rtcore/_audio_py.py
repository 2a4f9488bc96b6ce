"""The audio kernels in plain Python: slow, obvious, and what the compiled ones must equal.

Samples are ints here, not octets. Nothing imports this module but tests.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Iterator, Sequence

__all__ = [
    "Concealer",
    "Resampler",
    "compress_alaw",
    "compress_mulaw",
    "design",
    "expand_alaw",
    "expand_mulaw",
    "frame_power",
    "level_dbfs",
    "peak",
]


def clipped(sample: int) -> int:
    return min(32767, max(-32768, sample))


# --- G.711: eight segments of sixteen steps, each segment twice as coarse as the one before ---

SEGMENTS = [(segment, step) for segment in range(8) for step in range(16)]

# µ-law, in units of 14 bits: where the interval of each code begins, and what it expands to.
# The 33 makes the segments powers of two; the first interval reaches below zero.
MULAW_BEGINS = [((16 + step) << (segment + 1)) - 33 for segment, step in SEGMENTS]
MULAW_LEVELS = [((33 + 2 * step) << segment) - 33 for segment, step in SEGMENTS]

# A-law, in units of 13 bits; the first two segments are equally fine.
ALAW_BEGINS = [2 * step if segment == 0 else (16 + step) << segment for segment, step in SEGMENTS]
ALAW_ENDS = [*ALAW_BEGINS[1:], 4096]
ALAW_LEVELS = [(begin + end) / 2 for begin, end in zip(ALAW_BEGINS, ALAW_ENDS, strict=True)]


def compress_mulaw(sample: int) -> int:
    """Return the octet for a 16-bit sample: the code is sent inverted, its top bit for plus."""
    units = sample >> 2
    code = bisect_right(MULAW_BEGINS, abs(units)) - 1
    return (code if units < 0 else 0x80 | code) ^ 0x7F


def expand_mulaw(octet: int) -> int:
    level = 4 * MULAW_LEVELS[(octet ^ 0x7F) & 0x7F]
    return level if octet & 0x80 else -level


def compress_alaw(sample: int) -> int:
    """Return the octet for a 16-bit sample: every second bit of the code is sent inverted."""
    units = sample >> 3
    code = bisect_right(ALAW_BEGINS, units if units >= 0 else -units - 1) - 1
    return (code if units < 0 else 0x80 | code) ^ 0x55


def expand_alaw(octet: int) -> int:
    code = octet ^ 0x55
    level = int(8 * ALAW_LEVELS[code & 0x7F])
    return level if code & 0x80 else -level


# --- levels ---


def frame_power(samples: Sequence[int]) -> float:
    return sum(sample * sample for sample in samples) / len(samples) if samples else 0.0


def level_dbfs(samples: Sequence[int]) -> float:
    power = frame_power(samples)
    return max(-127.0, 10 * math.log10(power / 32768**2)) if power else -127.0


def peak(samples: Sequence[int]) -> int:
    return max((abs(sample) for sample in samples), default=0)


# --- resampling ---

HALF_SPAN = 16  # samples of the slower rate on each side of the filter's middle
CUTOFF = 0.95
KAISER_BETA = 5.0
UNITY = 1 << 14


def bessel_i0(x: float) -> float:
    term = total = 1.0
    k = 0
    while term > 1e-17 * total:
        k += 1
        term *= x * x / (4.0 * k * k)
        total += term
    return total


def prototype(at: float) -> float:
    inside = 1.0 - (at / HALF_SPAN) * (at / HALF_SPAN)
    if inside <= 0.0:
        return 0.0
    sinc = math.sin(math.pi * CUTOFF * at) / (math.pi * CUTOFF * at) if at else 1.0
    return sinc * bessel_i0(KAISER_BETA * math.sqrt(inside))


def design(up: int, down: int) -> list[int]:
    """Return the taps at ``up`` times the input rate; those of each phase sum to UNITY."""
    ratio = max(up, down)
    length = 2 * HALF_SPAN * ratio
    exact = [prototype(j / ratio - HALF_SPAN) for j in range(length)]
    taps = [0] * length
    for phase in range(up):
        places = range(phase, length, up)
        weight = left = 0.0
        for j in places:
            weight += exact[j]
        for j in places:  # what rounding leaves is handed on to the next tap
            wanted = exact[j] / weight * UNITY + left
            taps[j] = math.floor(wanted + 0.5)
            left = wanted - taps[j]
    return taps


class Resampler:
    """By the definition: put zeros between the samples, filter, keep every ``down``-th."""

    def __init__(self, from_hz: int, to_hz: int) -> None:
        divisor = math.gcd(from_hz, to_hz)
        self.up, self.down = to_hz // divisor, from_hz // divisor
        self.taps = design(self.up, self.down)
        self.heard: list[int] = []
        self.made = 0

    def push(self, samples: Sequence[int]) -> list[int]:
        self.heard += samples
        if self.up == self.down:
            return list(samples)
        out = []
        while self.made * self.down < len(self.heard) * self.up:
            at = self.made * self.down
            total = 0
            for j in range(at % self.up, len(self.taps), self.up):
                index = (at - j) // self.up
                total += self.taps[j] * self.heard[index] if index >= 0 else 0
            out.append(clipped((total + UNITY // 2) // UNITY))
            self.made += 1
        return out


# --- loss concealment: the figures are those of G.711 Appendix I, at 8 kHz ---

PITCHES = range(40, 121)
MATCH = 160
FADE_START, FADE_END = 80, 480
HISTORY = max(PITCHES) + MATCH


def weighted(sample: int, weight: int) -> int:
    return (sample * weight + 16384) >> 15


def find_pitch(history: Sequence[int]) -> int:
    """Return the lag at which the last 160 samples are most like those before them."""
    now = history[-MATCH:]
    pitch, best = max(PITCHES), 0.0
    for lag in PITCHES:
        then = history[-MATCH - lag : -lag]
        likeness = sum(a * b for a, b in zip(now, then, strict=True))
        if likeness > 0 and (score := likeness / math.sqrt(sum(b * b for b in then))) > best:
            pitch, best = lag, score
    return pitch


def continuation(history: Sequence[int], pitch: int) -> Iterator[int]:
    """Yield what follows ``history`` if nothing arrives any more, without end."""
    quarter = pitch // 4
    period = list(history[-pitch:])
    before = history[-pitch - quarter : -pitch]
    for i in range(quarter):  # loop without a step: end in what came before the beginning
        weight = ((i + 1) << 15) // quarter
        place = pitch - quarter + i
        period[place] = weighted(period[place], 32768 - weight) + weighted(before[i], weight)
    step = history[-1] - history[-pitch - 1]
    at = 0
    while True:
        sample = period[at % pitch]
        if at >= FADE_END:
            sample = 0
        elif at < quarter:
            sample = clipped(sample + weighted(step, ((quarter - at) << 15) // quarter))
        elif at > FADE_START:
            sample = weighted(sample, ((FADE_END - at) << 15) // (FADE_END - FADE_START))
        yield sample
        at += 1


class Concealer:
    def __init__(self, frame_samples: int = 160) -> None:
        self.frame_samples = frame_samples
        self.history = [0] * HISTORY
        self.made_up: Iterator[int] | None = None
        self.lost_samples = 0
        self.quarter = 0

    def lost(self) -> list[int]:
        if self.made_up is None:
            pitch = find_pitch(self.history)
            self.made_up, self.quarter = continuation(self.history, pitch), pitch // 4
        out = [next(self.made_up) for _ in range(self.frame_samples)]
        self.lost_samples += self.frame_samples
        self.history = (self.history + out)[-HISTORY:]
        return out

    def good(self, frame: Sequence[int]) -> list[int]:
        out = list(frame)
        if self.made_up is not None and out:
            join = min(80, len(out), self.quarter + 32 * (self.lost_samples // 80))
            for i in range(join):
                weight = ((i + 1) << 15) // (join + 1)
                old = next(self.made_up)
                out[i] = weighted(out[i], weight) + weighted(old, 32768 - weight)
            self.made_up, self.lost_samples = None, 0
        self.history = (self.history + out)[-HISTORY:]
        return out
