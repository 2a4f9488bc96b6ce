"""The twin of ``_way_in``: the same class, slow and obvious. It is the specification."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import TYPE_CHECKING

from rtcore._far_end import FarEnd
from rtcore.ears import Ears
from rtcore.protocol._media import NO_CHUNK, MediaReader

if TYPE_CHECKING:
    from rtcore.media._wire import Wire
    from rtcore.ports import Recorder
    from rtcore.speech_link import SpeechLink
    from rtcore.turn import TurnDetector, events
    from rtcore.turn._every_frame import SpeechGate
    from rtcore.turn.media_clock import MediaClock

__all__ = ["WayIn"]


class WayIn(ABC):
    """See ``_way_in.WayIn``."""

    _codec: MediaReader
    _clock: MediaClock
    _detector: TurnDetector
    _gate: SpeechGate | None
    _ears: Ears | SpeechLink
    _far_end: FarEnd
    recorder: Recorder | None
    _wire: Wire | None

    def __init__(self, time_s: Callable[[], float]) -> None:
        self._time_s = time_s

    @abstractmethod
    def _on_unusual(self, message: bytes) -> None: ...

    @abstractmethod
    def _on_turn(self, decided: list[events.Event]) -> None: ...

    @abstractmethod
    def _is_overdue(self) -> None: ...

    def _on_messages(self, messages: list[bytes]) -> None:
        now_s = self._time_s()
        for message in messages:
            frame = self._codec.read_frame(message)
            if frame is None:
                self._on_unusual(message)
                continue
            number = None if self._codec.chunk == NO_CHUNK else self._codec.chunk
            for each in self._clock.push(frame, number, now_s):
                self._hear(each)
        self._hurry()

    def _hurry(self) -> None:
        if self._wire is not None:
            self._wire.hurry(self._detector.is_awaited)

    def _hear(self, frame: bytes) -> None:
        far = self._far_end.listen()
        if self.recorder is not None:
            self.recorder.push(frame, far)
        decided = self._detector.push(frame, far)
        if self._gate is None:
            self._ears.push(frame)
        elif (chunk := self._gate.push(frame)) is not None:
            assert isinstance(self._ears, Ears)
            self._ears.hand_on(chunk)
        if decided:
            self._on_turn(decided)

    def tick(self, now_s: float) -> None:
        if self._clock.is_due(now_s):
            self._is_overdue()
