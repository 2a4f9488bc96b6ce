"""The voice of the fakes: each character is 10 ms of a tone of its own, so sound can be read."""

from __future__ import annotations

import array

from rtcore.audio import RATE_HZ, mulaw_to_pcm

CHAR_SAMPLES = 80
CHUNK_CHARS = 8  # of a message
TONE_FIRST = 0x30  # -18 dB under full scale, the others softer: no louder than a caller


def mulaw_of(text: str) -> bytes:
    """The sound of ``text`` as µ-law at 8000 Hz."""
    return b"".join(bytes([TONE_FIRST + ord(char) % 32]) * CHAR_SAMPLES for char in text)


def pcm_of(text: str, rate_hz: int = RATE_HZ) -> bytes:
    """The sound of ``text`` as pcm, each sample repeated up to ``rate_hz``."""
    pcm = array.array("h", mulaw_to_pcm(mulaw_of(text)))
    times = rate_hz // RATE_HZ
    return array.array("h", [sample for sample in pcm for _ in range(times)]).tobytes()


def pieces_of(text: str) -> list[str]:
    return [text[at : at + CHUNK_CHARS] for at in range(0, len(text), CHUNK_CHARS)]
