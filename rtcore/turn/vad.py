"""What tells voice from the rest; the spells made of its answers are in ``_every_frame``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from typing_extensions import Buffer

__all__ = ["VoiceDetector"]


class VoiceDetector(Protocol):
    """Anything that tells voice from the rest, one 20 ms frame of 8 kHz at a time."""

    def push(self, pcm: Buffer) -> bool:
        """Say whether voice is present; called with every frame of the call, in order."""
        ...
