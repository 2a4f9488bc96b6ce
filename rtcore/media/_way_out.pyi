from abc import ABC, abstractmethod

import trio

from rtcore.media._wire import Wire
from rtcore.media.pacer import Pacer
from rtcore.media.playout import Playout
from rtcore.protocol._media import MediaWriter
from rtcore.protocol.events import Checkpoint

class WayOut(ABC):
    due_s: float
    playout: Playout
    _codec: MediaWriter
    _wire: Wire | None
    _pacer: Pacer
    _room: trio.Event | None
    _unsent_max: int
    def pump(self, now_s: float) -> None: ...
    @abstractmethod
    def _write(self, piece: bytes | Checkpoint) -> None: ...
