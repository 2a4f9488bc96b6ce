from abc import ABC, abstractmethod

from rtcore.media._paced import PacedSound

class HeardCount:
    appended: int
    sent: int
    heard: int
    _lag: int
    _lag_left: int
    def note_sent(self, sent: int) -> None: ...
    def advance(self, samples: int) -> bool: ...

class FarEnd(ABC):
    _ledger: HeardCount
    _playout: PacedSound
    def listen(self) -> bytes | None: ...
    @abstractmethod
    def _on_drained(self) -> None: ...
