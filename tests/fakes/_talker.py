"""What a fake speech-to-speech model says: by what it heard, or by a script."""

from __future__ import annotations

import msgspec

from rtcore.audio import RATE_HZ, frame_power
from rtcore.testing import speak
from tests.fakes import _voice

Call = tuple[str, dict[str, object]]  # a function and its arguments
Part = str | tuple[Call, ...]  # said, or called together
Answer = str | tuple[str | Call, ...]
RESULTS = "{results}"  # in what is said: what the functions before have returned
PIECE_BYTES = RATE_HZ // 10 * 2  # 100 ms
VOICED_POWER = 300.0**2  # mean square of a piece that holds a voice


def parts_of(words: list[str]) -> list[Part]:
    """What is made of a turn that was understood."""
    lookup: Call = ("lookup", {"id": "1"})
    if "order" in words:
        calls = (lookup, lookup) if "number" in words else (lookup,)
        return ["One moment.", calls, f"It is {RESULTS}."]
    return [f"You said {' '.join(words)}."]


def scripted(answer: Answer) -> list[Part]:
    """The parts of a scripted answer; each function is called alone."""
    if isinstance(answer, str):
        return [answer]
    return [part if isinstance(part, str) else (part,) for part in answer]


def arguments_of(call: Call) -> str:
    return msgspec.json.encode(call[1]).decode()


def is_loud(pcm: bytes) -> bool:
    return frame_power(pcm) > VOICED_POWER


def pieces_of(text: str, *, is_speech: bool) -> list[tuple[str, bytes]]:
    """``text`` and its sound at 8000 Hz, piece by piece; speech, for who listens to a call."""
    if not is_speech:
        return [(piece, _voice.pcm_of(piece)) for piece in _voice.pieces_of(text)]
    pcm = speak(text).pcm
    starts = range(0, len(pcm), PIECE_BYTES)
    return [(text if at == 0 else "", pcm[at : at + PIECE_BYTES]) for at in starts]
