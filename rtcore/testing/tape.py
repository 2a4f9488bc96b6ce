"""Where a call is recorded: both directions, aligned to the sample."""

from __future__ import annotations

from array import array

from rtcore.testing.line import LineFormat

__all__ = ["Tape", "interleave"]


class Tape:
    """Both directions as they were on the line, in its encoding; kept in memory.

    Sample n of either is what was said, or heard, at sample n of the call.
    """

    def __init__(self) -> None:
        self.caller = bytearray()
        self.agent = bytearray()

    def hear_caller(self, payload: bytes) -> None:
        self.caller += payload

    def hear_agent(self, payload: bytes) -> None:
        self.agent += payload

    def flush(self, line: LineFormat) -> None:
        """Called once a second and at the end, for a tape that does not keep what it hears."""


def interleave(left: bytes, right: bytes) -> bytes:
    """Two mono int16 signals as one stereo; the shorter one ends in silence."""
    samples = max(len(left), len(right)) // 2
    stereo = array("h", bytes(samples * 4))
    for side, pcm in enumerate((left, right)):
        stereo[side::2] = array("h", pcm) + array("h", bytes(samples * 2 - len(pcm)))
    return stereo.tobytes()
