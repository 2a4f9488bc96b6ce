"""From single frames to spells of voice: which frames count, when a spell begins and ends."""

from __future__ import annotations

import enum
from typing import TYPE_CHECKING, Protocol

from rtcore.audio import FRAME_SAMPLES

if TYPE_CHECKING:
    from typing_extensions import Buffer

__all__ = ["Change", "VoiceDetector", "VoiceSpell"]


class VoiceDetector(Protocol):
    """Anything that tells voice from the rest, one 20 ms frame of 8 kHz at a time."""

    def push(self, pcm: Buffer) -> bool:
        """Say whether voice is present; called with every frame of the call, in order."""
        ...


class Change(enum.Enum):
    """What a frame did to the spell."""

    STARTED = "started"
    STOPPED = "stopped"


class VoiceSpell:
    """Hysteresis: a spell starts with most of a few frames voiced and ends after a silence.

    Within a spell a single voiced frame after a gap of 60 ms (a breath, a click on the line)
    does not prolong it; two of three do. So the silence is counted from the last real voice.
    """

    __slots__ = (
        "_bits",
        "_pause_samples",
        "_pitch",
        "_start_frames",
        "_start_mask",
        "active",
        "end_sample",
        "onset_sample",
        "voiced_frames",
    )

    def __init__(self, start_ms: int, stop_ms: int) -> None:
        self.active = False
        self.onset_sample = 0  # of the present or last spell
        self.end_sample = 0  # end of its last voiced frame
        self.voiced_frames = 0  # in it
        self._bits = 0  # the last frames, newest lowest: voiced or not
        self._pitch = 0  # the same: periodic or not
        self.configure(start_ms, stop_ms)

    def configure(self, start_ms: int, stop_ms: int) -> None:
        self._start_frames = max(start_ms // 20, 1)
        self._start_mask = (1 << (self._start_frames + 1)) - 1  # one frame may miss
        self._pause_samples = stop_ms * 8

    def push(self, voiced: bool, periodic: bool, now: int, likely: bool = False) -> Change | None:
        """Take one frame that ended at ``now``; a spell starts only where there is pitch.

        Where it is ``likely`` to be voice, one frame less will do: far above what the line may
        return of our own voice, or in the pause of a turn, which is cut off otherwise.
        """
        self._pitch = (self._pitch << 1 | periodic) & 0xFF
        bits = self._bits = (self._bits << 1 | voiced) & 0xFF
        if self.active:
            if voiced:
                self.voiced_frames += 1
                if now - self.end_sample <= 480 or bits & 0b110:  # went on, or two of three
                    self.end_sample = now
            elif now - self.end_sample >= self._pause_samples:
                self.active = False
                return Change.STOPPED
            return None
        if voiced:
            recent = bits & self._start_mask
            if recent.bit_count() + likely >= self._start_frames and recent & self._pitch:
                self.active = True
                self.voiced_frames = recent.bit_count()
                self.onset_sample = now - recent.bit_length() * FRAME_SAMPLES
                self.end_sample = now
                return Change.STARTED
        return None

    @property
    def is_stirring(self) -> bool:
        """Whether a spell may be about to start: one of the last two frames was voiced."""
        return not self.active and self._bits & 0b11 != 0

    def reset(self) -> None:
        """Forget the spell: what was heard so far does not count."""
        self.active = False
        self._bits = self._pitch = 0
