from abc import ABC, abstractmethod
from collections.abc import Callable

from rtcore._far_end import FarEnd
from rtcore.ears import Ears
from rtcore.media._wire import Wire
from rtcore.ports import Recorder
from rtcore.protocol._media import MediaReader
from rtcore.speech_link import SpeechLink
from rtcore.turn import TurnDetector, events
from rtcore.turn._every_frame import SpeechGate
from rtcore.turn.media_clock import MediaClock

class WayIn(ABC):
    _codec: MediaReader
    _clock: MediaClock
    _detector: TurnDetector
    _gate: SpeechGate | None
    _ears: Ears | SpeechLink
    _far_end: FarEnd
    recorder: Recorder | None
    _wire: Wire | None
    def __init__(self, time_s: Callable[[], float]) -> None: ...
    def _on_messages(self, messages: list[bytes]) -> None: ...
    def _hear(self, frame: bytes) -> None: ...
    def _hurry(self) -> None: ...
    def tick(self, now_s: float) -> None: ...
    @abstractmethod
    def _on_unusual(self, message: bytes) -> None: ...
    @abstractmethod
    def _on_turn(self, decided: list[events.Event]) -> None: ...
    @abstractmethod
    def _is_overdue(self) -> None: ...
