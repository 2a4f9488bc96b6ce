"""The twin of ``_guard``: the same decisions, slow and obvious. It is the specification."""

from __future__ import annotations

import math
import struct
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from typing_extensions import Buffer

__all__ = ["AUDIBLE", "FAR", "LIVELY", "LOUD", "PERIODIC", "STEADY", "TONE", "Guard"]

AUDIBLE, FAR, PERIODIC, TONE, LIVELY, STEADY, LOUD = 1, 2, 4, 8, 16, 32, 64

FRAME, HALF, SPAN = 160, 80, 160
LAG_MIN, LAG_MAX = 10, 57
STEADY_FRAMES = 2
FAR_MAX = 100
FLOOR_BLOCK = FLOOR_BLOCKS = 10
SILENCE_DBFS = -100.0
FLOOR_LOWEST_DBFS, FLOOR_HIGHEST_DBFS, FLOOR_FIRST_DBFS = -70.0, -30.0, -60.0
FAR_AUDIBLE_DBFS = -50.0
LOUD_DB = 6.0
LOSS_FIRST_DB, LOSS_LOWEST_DB, LOSS_HIGHEST_DB = 10.0, 8.0, 40.0
PERIODIC_ONSET, LIVELY_PERIODICITY, STEADY_SHARE = 0.5, 0.65, 0.92
PEAK_FALL_DB = 0.02
DTMF_HZ = (697.0, 770.0, 852.0, 941.0, 1209.0, 1336.0, 1477.0, 1633.0)


def read(frame: Buffer) -> list[int]:
    octets = bytes(memoryview(frame).cast("B"))
    if len(octets) != 2 * FRAME:
        raise ValueError("a frame is 160 samples of int16 (320 octets)")
    return list(struct.unpack("<160h", octets))


def level_dbfs(pcm: list[int]) -> float:
    power = sum(sample * sample for sample in pcm) / FRAME / 32768.0**2
    return 10.0 * math.log10(power) if power else SILENCE_DBFS


def is_dtmf(half: list[int]) -> bool:
    """Whether one low and one high DTMF frequency hold three quarters of the energy."""

    def power(hertz: float) -> float:  # Goertzel, of 80 samples at 4 kHz
        turn, s1, s2 = 2.0 * math.cos(2.0 * math.pi * hertz / 4000.0), 0.0, 0.0
        for sample in half:
            s1, s2 = sample + turn * s1 - s2, s1
        return s1 * s1 + s2 * s2 - turn * s1 * s2

    low, high = max(map(power, DTMF_HZ[:4])), max(map(power, DTMF_HZ[4:]))
    whole = sum(sample * sample for sample in half) * HALF / 2.0
    return low > 0.1 * whole and high > 0.1 * whole and low + high > 0.75 * whole


def correlations(history: list[int]) -> dict[int, float]:
    """Normalised autocorrelation of two frames at 4 kHz, by lag; none below 0."""
    shift = 0
    while max(abs(sample) for sample in history) >> shift > 4000:
        shift += 1
    x = [sample >> shift for sample in history]
    late, found = x[LAG_MAX:], {}
    for lag in range(LAG_MIN, LAG_MAX + 1):
        early = x[LAG_MAX - lag : SPAN - lag]
        product = sum(a * b for a, b in zip(late, early, strict=True))
        energy = float(sum(a * a for a in late)) * float(sum(b * b for b in early))
        if product > 0 and energy > 0:
            found[lag] = product / math.sqrt(energy)
    return found


class Guard:
    """See ``_guard.Guard``."""

    def __init__(
        self,
        *,
        noise_margin_db: float = 11.0,
        echo_margin_db: float = 4.5,
        voice_range_db: float = 30.0,
        far_window_frames: int = 30,
    ) -> None:
        if not 1 <= far_window_frames <= FAR_MAX:
            raise ValueError(f"far_window_frames is 1..{FAR_MAX}")
        self.noise_margin_db = noise_margin_db
        self.echo_margin_db = echo_margin_db
        self.voice_range_db = voice_range_db
        self.far_window_frames = far_window_frames
        self.relief_db = 0.0
        self.level_dbfs = self.far_dbfs = self.threshold_dbfs = SILENCE_DBFS
        self.voice_dbfs = SILENCE_DBFS
        self.floor_dbfs = FLOOR_FIRST_DBFS
        self.return_loss_db = LOSS_FIRST_DB
        self.periodicity = 0.0
        self.lag_samples = self.steady_frames = 0
        self._far = [SILENCE_DBFS] * FAR_MAX  # newest last
        self._blocks = [FLOOR_FIRST_DBFS] * FLOOR_BLOCKS  # newest last
        self._block_frames = 0
        self._smooth = self._block_min = FLOOR_FIRST_DBFS
        self._learned = 0
        self._history = [0] * SPAN

    def push(self, pcm: Buffer, far: Buffer | None = None) -> int:
        near = read(pcm)
        level = self.level_dbfs = level_dbfs(near)
        self.far_dbfs = SILENCE_DBFS if far is None else level_dbfs(read(far))
        self._far = [*self._far[1:], self.far_dbfs]
        loud = [x for x in self._far[-self.far_window_frames :] if x > FAR_AUDIBLE_DBFS]
        flags = FAR if self.far_dbfs > FAR_AUDIBLE_DBFS else 0
        self._follow_noise(level, bool(loud))

        threshold = max(
            self.floor_dbfs + self.noise_margin_db, self.voice_dbfs - self.voice_range_db
        )
        if loud:
            echo = max(loud) - self.return_loss_db + self.echo_margin_db
            if echo > threshold:
                threshold = echo
                if level > echo + LOUD_DB:
                    flags |= LOUD
            if 2 * len(loud) >= self.far_window_frames:
                self._learn_loss(max(loud) - level, level > threshold)
        threshold -= self.relief_db
        self.threshold_dbfs = threshold

        halved = [(near[i] + near[i + 1]) >> 1 for i in range(0, FRAME, 2)]
        self._history = self._history[HALF:] + halved
        if level > threshold:
            flags |= AUDIBLE
            if is_dtmf(halved):
                flags |= TONE
            else:
                self._follow_pitch()
                if self.periodicity > LIVELY_PERIODICITY:
                    flags |= LIVELY if self.steady_frames < STEADY_FRAMES else STEADY
                if self.periodicity > PERIODIC_ONSET:
                    flags |= PERIODIC
                    if not loud:
                        self.voice_dbfs = max(self.voice_dbfs, level)
        if self.voice_dbfs > SILENCE_DBFS:
            self.voice_dbfs -= PEAK_FALL_DB
        return flags

    def _follow_noise(self, level: float, far_active: bool) -> None:
        self._smooth += 0.4 * (level - self._smooth)
        self._block_min = min(self._block_min, self._smooth)
        self._blocks[-1] = min(self._blocks[-1], self._block_min)
        if not far_active:
            self._block_frames += 1
            if self._block_frames == FLOOR_BLOCK:
                self._block_frames = 0
                self._block_min = self._smooth
                self._blocks = [*self._blocks[1:], self._smooth]
        self.floor_dbfs = min(max(min(self._blocks), FLOOR_LOWEST_DBFS), FLOOR_HIGHEST_DBFS)

    def _learn_loss(self, loss_db: float, is_open: bool) -> None:
        if loss_db < self.return_loss_db:
            step = -0.05 if is_open else -0.3
        else:
            self._learned += 1
            step = max(2.0 / self._learned, 0.015)
        self.return_loss_db = min(max(self.return_loss_db + step, LOSS_LOWEST_DB), LOSS_HIGHEST_DB)

    def _follow_pitch(self) -> None:
        found = correlations(self._history)
        lag = max(found, key=lambda lag: found[lag], default=0)
        best, kept = found.get(lag, 0.0), found.get(self.lag_samples, 0.0)
        is_steady = best > LIVELY_PERIODICITY and kept > STEADY_SHARE * best
        self.steady_frames = self.steady_frames + 1 if is_steady else 0
        self.periodicity, self.lag_samples = best, lag
