"""The shape of a frame, and all that is done to audio: the public face of the kernels.

*pcm* is always int16 little-endian mono, as octets: that is also the ``l16`` of a carrier's
stream, which therefore needs no codec. Every function takes any contiguous buffer (``bytes``,
``bytearray``, ``memoryview``, ``array('h')``, a numpy int16 array); nothing here needs numpy.
Odd lengths where samples are meant raise :class:`ValueError`.

G.711 in one line: ``pcm_to_mulaw(mulaw_to_pcm(payload))`` is ``payload``, save that µ-law's
second zero (0x7F) becomes its first (0xFF).
"""

from __future__ import annotations

from rtcore._audio import (
    alaw_to_pcm,
    alaw_to_pcm_into,
    frame_power,
    level_dbfs,
    mulaw_to_pcm,
    mulaw_to_pcm_into,
    pcm_to_alaw,
    pcm_to_alaw_into,
    pcm_to_mulaw,
    pcm_to_mulaw_into,
    peak,
)
from rtcore._streams import RATES_HZ, Concealer, Resampler

__all__ = [
    "FRAME_BYTES",
    "FRAME_MS",
    "FRAME_SAMPLES",
    "RATES_HZ",
    "RATE_HZ",
    "Concealer",
    "Reframer",
    "Resampler",
    "alaw_to_pcm",
    "alaw_to_pcm_into",
    "frame_power",
    "level_dbfs",
    "mulaw_to_pcm",
    "mulaw_to_pcm_into",
    "pcm_to_alaw",
    "pcm_to_alaw_into",
    "pcm_to_mulaw",
    "pcm_to_mulaw_into",
    "peak",
]

RATE_HZ = 8000  # the telephone's rate, and that of all audio between our rooms
FRAME_MS = 20  # one ptime
FRAME_SAMPLES = RATE_HZ * FRAME_MS // 1000  # 160
FRAME_BYTES = FRAME_SAMPLES * 2  # int16, little-endian


class Reframer:
    """Cut a stream of pcm that comes in pieces of any size into frames of one size.

    Less than a frame is ever held back. A piece may end in the middle of a sample.

    Args:
        frame_bytes: octets of a frame, even and positive: 20 ms at 8000 Hz unless told.

    Raises:
        ValueError: ``frame_bytes`` is odd or not positive.
    """

    def __init__(self, frame_bytes: int = FRAME_BYTES) -> None:
        if frame_bytes <= 0 or frame_bytes % 2:
            raise ValueError(
                f"frame_bytes is {frame_bytes}: int16 samples need an even, positive number"
            )
        self.frame_bytes = frame_bytes
        self._rest = b""

    def push(self, pcm: bytes | bytearray | memoryview) -> list[bytes]:
        """Take in a piece of any size; return the frames that are whole by now, in order."""
        size, piece = self.frame_bytes, bytes(pcm)  # no copy of what is bytes already
        if not self._rest and len(piece) == size:  # the carrier's usual case: nothing to cut
            return [piece]
        stream = self._rest + piece
        whole = len(stream) // size * size
        self._rest = stream[whole:]
        return [stream[at : at + size] for at in range(0, whole, size)]

    def flush(self) -> list[bytes]:
        """End the stream: return what is left as one frame padded with silence, if any is left.

        Half a sample is dropped. What is pushed next begins a new stream.
        """
        rest, self._rest = self._rest, b""
        samples = rest[: len(rest) // 2 * 2]
        return [samples.ljust(self.frame_bytes, b"\0")] if samples else []
