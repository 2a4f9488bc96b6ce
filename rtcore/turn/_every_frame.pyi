from collections.abc import Callable
from typing import Final

from typing_extensions import Buffer

from rtcore.audio import Concealer
from rtcore.turn._guard import Guard
from rtcore.turn.endpointing import Endpointer
from rtcore.turn.events import Event

UNCHANGED: Final = 0
STARTED: Final = 1
STOPPED: Final = 2
NO_CHUNK: Final = -1
WINDOW_MIN_MS: Final = 20
READ_FRAMES: Final = 2
STALL_MS: Final = 100
FAR_GAP_SAMPLES: Final = 4800

class InOrder:
    frames: int
    _expected: int
    _window_ms: float
    _last_s: float
    _held_since_s: float
    _held: dict[int, bytes]
    _concealer: Concealer
    def push(self, frame: bytes, chunk: int | None, now_s: float) -> list[bytes]: ...
    def is_due(self, now_s: float) -> bool: ...

class VoiceSpell:
    def __init__(self, start_ms: int, stop_ms: int) -> None: ...
    @property
    def active(self) -> bool: ...
    @property
    def onset_sample(self) -> int: ...
    @property
    def end_sample(self) -> int: ...
    @property
    def voiced_frames(self) -> int: ...
    @property
    def is_stirring(self) -> bool: ...
    def configure(self, start_ms: int, stop_ms: int) -> None: ...
    def push(self, voiced: bool, periodic: bool, now: int, likely: bool = False) -> int: ...
    def reset(self) -> None: ...

class FrameWatch:
    _guard: Guard
    _spell: VoiceSpell
    _turn: Endpointer
    _now: int
    _due: int
    _deaf_until: int
    _far_at: int
    _weighs: bool
    _is_wary: bool
    def __init__(
        self,
        guard: Guard,
        judge_voice: Callable[[Buffer], bool],
        spell: VoiceSpell,
        turn: Endpointer,
    ) -> None: ...
    def push(self, pcm: Buffer, far: Buffer | None = None) -> list[Event]: ...
    @property
    def is_awaited(self) -> bool: ...

class SpeechGate:
    def __init__(self, *, preroll_ms: int, chunk_ms: int, pass_all: bool) -> None: ...
    @property
    def is_open(self) -> bool: ...
    def push(self, frame: bytes) -> tuple[int, bytes] | None: ...
    def open(self) -> tuple[int, bytes] | None: ...
    def close(self) -> tuple[int, bytes] | None: ...
