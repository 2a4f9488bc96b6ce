"""The twin of ``_far_end``: the same classes, slow and obvious. They are the specification."""

from __future__ import annotations

from abc import ABC, abstractmethod

from rtcore.audio import FRAME_SAMPLES
from rtcore.media._paced import PacedSound

__all__ = ["FarEnd", "HeardCount"]


class HeardCount:
    """See ``_far_end.HeardCount``."""

    def __init__(self) -> None:
        self.appended = self.sent = self.heard = 0
        self._lag = self._lag_left = 0

    def note_sent(self, sent: int) -> None:
        if self.heard >= self.sent and sent > self.sent:
            self._lag_left = self._lag
        self.sent = sent

    def advance(self, samples: int) -> bool:
        if self._lag_left > 0:
            self._lag_left -= samples
            return False
        position = min(self.sent, self.heard + samples)
        if position <= self.heard:
            return False
        self.heard = position
        return True


class FarEnd(ABC):
    """See ``_far_end.FarEnd``."""

    _ledger: HeardCount
    _playout: PacedSound

    @abstractmethod
    def _on_drained(self) -> None: ...

    def listen(self) -> bytes | None:
        ledger, playout = self._ledger, self._playout
        if ledger.heard >= ledger.appended:
            return None
        if ledger.sent != playout.sent:
            ledger.note_sent(playout.sent)
        if not ledger.advance(FRAME_SAMPLES):
            return None
        if ledger.heard >= ledger.appended:
            self._on_drained()
        return playout.heard_frame(ledger.heard)
