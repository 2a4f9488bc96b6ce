"""The shape of a frame: the audio every room agrees on."""

from __future__ import annotations

__all__ = ["FRAME_BYTES", "FRAME_MS", "FRAME_SAMPLES", "RATE_HZ"]

RATE_HZ = 8000  # the telephone's rate, and that of all audio between our rooms
FRAME_MS = 20  # one ptime
FRAME_SAMPLES = RATE_HZ * FRAME_MS // 1000  # 160
FRAME_BYTES = FRAME_SAMPLES * 2  # int16, little-endian
