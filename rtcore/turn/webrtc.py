"""The one place that knows webrtcvad: the default voice detector."""

from __future__ import annotations

from typing import TYPE_CHECKING

import webrtcvad

from rtcore.audio import FRAME_SAMPLES, RATE_HZ

if TYPE_CHECKING:
    from typing_extensions import Buffer

__all__ = ["WebRtcVoice"]

# its functions, not its class: that one measures frames with len() and so refuses arrays
_lib = webrtcvad._webrtcvad
_process = _lib.process


class WebRtcVoice:
    """webrtcvad on 20 ms frames of 8 kHz: 1.0 to 1.5 us each, holds on for 60 to 80 ms."""

    __slots__ = ("_vad",)

    def __init__(self, mode: int = 3) -> None:
        self._vad = _lib.create()
        _lib.init(self._vad)
        _lib.set_mode(self._vad, mode)

    def push(self, pcm: Buffer) -> bool:
        """Say whether this frame holds voice. Every frame must come here: it adapts to noise."""
        return bool(_process(self._vad, RATE_HZ, pcm, FRAME_SAMPLES))

    def set_mode(self, mode: int) -> None:
        """Change how sure it must be, 0 (lax) to 3 (strict), in mid-call."""
        _lib.set_mode(self._vad, mode)
