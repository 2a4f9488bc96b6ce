"""How sound travels on a carrier's line: three encodings, seen from the carrier's side."""

from __future__ import annotations

from array import array
from typing import Literal

import msgspec

from rtcore.audio import (
    FRAME_MS,
    RATE_HZ,
    Resampler,
    alaw_to_pcm,
    mulaw_to_pcm,
    pcm_to_alaw,
    pcm_to_mulaw,
)

__all__ = ["ALAW_8K", "L16_8K", "L16_16K", "MULAW_8K", "LineFormat"]

AUDIBLE = 256  # a sample this large is sound: -42 dBFS, over any codec's idle noise
CONTENT_TYPES = {"mulaw": "audio/x-mulaw", "alaw": "audio/x-alaw", "l16": "audio/x-l16"}
SILENCE = {"mulaw": b"\xff", "alaw": b"\xd5", "l16": b"\0\0"}


class LineFormat(msgspec.Struct, frozen=True, kw_only=True):
    """An encoding and its rate; positions on a line are counted in its own samples."""

    encoding: Literal["mulaw", "alaw", "l16"]
    rate_hz: int

    @property
    def content_type(self) -> str:
        return CONTENT_TYPES[self.encoding]

    @property
    def sample_bytes(self) -> int:
        return len(SILENCE[self.encoding])

    @property
    def frame_samples(self) -> int:
        return self.rate_hz * FRAME_MS // 1000

    def silence(self, samples: int) -> bytes:
        return SILENCE[self.encoding] * samples

    def encode(self, pcm: bytes) -> bytes:
        """``pcm`` (int16 at 8000 Hz) as it goes on the line."""
        if self.rate_hz != RATE_HZ:
            resampler = Resampler(RATE_HZ, self.rate_hz)
            pcm = resampler.push(pcm) + resampler.flush()
        if self.encoding == "mulaw":
            return pcm_to_mulaw(pcm)
        if self.encoding == "alaw":
            return pcm_to_alaw(pcm)
        return pcm

    def decode(self, payload: bytes) -> bytes:
        """``payload`` as int16 at the line's rate."""
        if self.encoding == "mulaw":
            return mulaw_to_pcm(payload)
        if self.encoding == "alaw":
            return alaw_to_pcm(payload)
        return payload

    def loud_span(self, payload: bytes) -> tuple[int, int] | None:
        """The first audible sample of ``payload`` and the one after the last; None in silence.

        Two table look-ups over the octets and no sample is ever decoded: hundreds of lines are
        listened to at once.
        """
        if self.encoding == "l16":  # the high octet alone says whether a sample is audible
            payload = payload[1::2]
        mask = payload.translate(_LOUD[self.encoding])
        first = mask.find(1)
        return None if first < 0 else (first, mask.rfind(1) + 1)


def _loud(decoded: bytes) -> bytes:
    return bytes(abs(sample) >= AUDIBLE for sample in array("h", decoded))


_OCTETS = bytes(range(256))
_LOUD = {
    "mulaw": _loud(mulaw_to_pcm(_OCTETS)),
    "alaw": _loud(alaw_to_pcm(_OCTETS)),
    "l16": bytes(octet not in (0x00, 0xFF) for octet in _OCTETS),
}

MULAW_8K = LineFormat(encoding="mulaw", rate_hz=8000)
ALAW_8K = LineFormat(encoding="alaw", rate_hz=8000)
L16_8K = LineFormat(encoding="l16", rate_hz=8000)
L16_16K = LineFormat(encoding="l16", rate_hz=16000)
