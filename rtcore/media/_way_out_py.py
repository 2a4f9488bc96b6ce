"""The twin of ``_way_out``: the same class, slow and obvious. It is the specification."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import trio

    from rtcore.media._wire import Wire
    from rtcore.media.pacer import Pacer
    from rtcore.media.playout import Playout
    from rtcore.protocol._media import MediaWriter
    from rtcore.protocol.events import Checkpoint

__all__ = ["WayOut"]


class WayOut(ABC):
    """See ``_way_out.WayOut``."""

    due_s = 0.0
    playout: Playout
    _codec: MediaWriter
    _wire: Wire | None
    _pacer: Pacer
    _room: trio.Event | None = None
    _unsent_max: int

    @abstractmethod
    def _write(self, piece: bytes | Checkpoint) -> None: ...

    def pump(self, now_s: float) -> None:
        for piece in self.playout.due(now_s):
            if self._wire is not None and isinstance(piece, bytes):
                message = self._codec.write_piece(piece)
                if message is not None and self._wire.send_text(message):
                    continue
            self._write(piece)
        if not self.playout.is_waiting:
            self._pacer.rest(self)
        self.due_s = self.playout.due_s
        if self._room is not None and self.playout.unsent_samples <= self._unsent_max // 2:
            self._room.set()
            self._room = None
