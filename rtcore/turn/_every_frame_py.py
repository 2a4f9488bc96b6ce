"""The twin of ``_every_frame``: the same classes, slow and obvious. It is the specification."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING

from rtcore.audio import FRAME_MS, FRAME_SAMPLES, Concealer
from rtcore.turn._guard import AUDIBLE, FAR, LOUD, PERIODIC, TONE, Guard
from rtcore.turn.endpointing import Endpointer
from rtcore.turn.events import Event

if TYPE_CHECKING:
    from typing_extensions import Buffer

__all__ = ["FrameWatch", "InOrder", "SpeechGate", "VoiceSpell"]

UNCHANGED, STARTED, STOPPED = 0, 1, 2
NO_CHUNK = -1
WINDOW_MIN_MS, READ_FRAMES, STALL_MS = 20, 2, 100
FAR_GAP_SAMPLES, WENT_ON_SAMPLES = 4800, 480


class InOrder(ABC):
    """See ``_every_frame.InOrder``."""

    def __init__(self) -> None:
        self.frames = 0
        self._expected = NO_CHUNK
        self._window_ms = float(WINDOW_MIN_MS)
        self._last_s = math.inf
        self._held_since_s = 0.0
        self._held: dict[int, bytes] = {}
        self._concealer = Concealer()

    @abstractmethod
    def _sort(self, frame: bytes, chunk: int | None, now_s: float) -> list[bytes]: ...

    def push(self, frame: bytes, chunk: int | None, now_s: float) -> list[bytes]:
        is_next = chunk is None or self._expected in (NO_CHUNK, chunk)
        if self._held or not is_next:
            return self._sort(frame, chunk, now_s)
        if chunk is not None:
            self._expected = chunk + 1
        self._window_ms = max(WINDOW_MIN_MS, self._window_ms - 0.01)
        self.frames += 1
        self._last_s = now_s
        return [self._concealer.good(frame)]

    def is_due(self, now_s: float) -> bool:
        if self._held:
            return (now_s - self._held_since_s) * 1000 >= self._window_ms
        return (now_s - self._last_s) * 1000 >= STALL_MS


class VoiceSpell:
    """See ``_every_frame.VoiceSpell``."""

    def __init__(self, start_ms: int, stop_ms: int) -> None:
        self.active = False
        self.onset_sample = self.end_sample = self.voiced_frames = 0
        self._voiced = self._periodic = [False] * 8
        self.configure(start_ms, stop_ms)

    def configure(self, start_ms: int, stop_ms: int) -> None:
        self._start_frames = max(start_ms // FRAME_MS, 1)
        self._stop_ms = stop_ms

    def push(self, voiced: bool, periodic: bool, now: int, likely: bool = False) -> int:
        self._voiced = [*self._voiced[-7:], voiced]
        self._periodic = [*self._periodic[-7:], periodic]
        if self.active:
            return self._go_on(voiced, now)
        count = self._start_frames + 1  # one frame may miss
        recent, pitched = self._voiced[-count:], self._periodic[-count:]
        has_pitch = any(a and b for a, b in zip(recent, pitched, strict=True))
        if voiced and has_pitch and sum(recent) + likely >= self._start_frames:
            self.active = True
            self.voiced_frames = sum(recent)
            self.onset_sample = now - (len(recent) - recent.index(True)) * FRAME_SAMPLES
            self.end_sample = now
            return STARTED
        return UNCHANGED

    def _go_on(self, voiced: bool, now: int) -> int:
        silence = now - self.end_sample
        if voiced:
            self.voiced_frames += 1
            if silence <= WENT_ON_SAMPLES or any(self._voiced[-3:-1]):
                self.end_sample = now
        elif silence >= self._stop_ms * 8:
            self.active = False
            return STOPPED
        return UNCHANGED

    @property
    def is_stirring(self) -> bool:
        return not self.active and any(self._voiced[-2:])

    def reset(self) -> None:
        self.active = False
        self._voiced = self._periodic = [False] * 8


class FrameWatch(ABC):
    """See ``_every_frame.FrameWatch``."""

    def __init__(
        self,
        guard: Guard,
        judge_voice: Callable[[Buffer], bool],
        spell: VoiceSpell,
        turn: Endpointer,
    ) -> None:
        self._guard, self._judge_voice, self._spell, self._turn = guard, judge_voice, spell, turn
        self._now = self._due = self._deaf_until = 0
        self._far_at = -FAR_GAP_SAMPLES
        self._weighs = self._is_wary = False

    @abstractmethod
    def _look(self, change: int, voiced: bool, flags: int, sounds: bool) -> list[Event]: ...

    def push(self, pcm: Buffer, far: Buffer | None = None) -> list[Event]:
        flags = self._guard.push(pcm, far)
        now = self._now = self._now + FRAME_SAMPLES
        is_voice, is_heard = self._judge_voice(pcm), flags & (AUDIBLE | TONE) == AUDIBLE
        voiced = is_voice and is_heard and now > self._deaf_until
        likely = flags & LOUD != 0 or self._turn.is_open
        change = self._spell.push(voiced, flags & PERIODIC != 0, now, likely)
        sounds = flags & FAR != 0 and now - self._far_at > FAR_GAP_SAMPLES
        if flags & FAR:
            self._far_at = now
        if change or sounds or self._weighs or now >= self._due:
            return self._look(change, voiced, flags, sounds)
        return []

    @property
    def is_awaited(self) -> bool:
        spell, end = self._spell, self._now + READ_FRAMES * FRAME_SAMPLES
        may_stop = spell.active and spell.end_sample + spell._stop_ms * 8 <= end
        may_start = any(spell._voiced[-spell._start_frames :])
        may_be_suspect = self._is_wary and (spell.active or may_start)
        return self._due <= end or may_stop or may_be_suspect


class SpeechGate:
    """See ``_every_frame.SpeechGate``."""

    def __init__(self, *, preroll_ms: int, chunk_ms: int, pass_all: bool) -> None:
        self._preroll: deque[bytes] = deque(maxlen=preroll_ms // FRAME_MS)
        self._chunk_frames = max(1, chunk_ms // FRAME_MS)
        self._frames: list[bytes] = []
        self._pushed = 0
        self._pass_all = self.is_open = pass_all

    def push(self, frame: bytes) -> tuple[int, bytes] | None:
        if len(frame) != FRAME_SAMPLES * 2:
            raise ValueError("a frame is 160 samples of int16 (320 octets)")
        self._pushed += 1
        if not self.is_open:
            self._preroll.append(frame)
            return None
        self._frames.append(frame)
        return self._take() if len(self._frames) >= self._chunk_frames else None

    def open(self) -> tuple[int, bytes] | None:
        if self.is_open:
            return None
        self.is_open = True
        self._frames = list(self._preroll)
        self._preroll.clear()
        return self._take()

    def close(self) -> tuple[int, bytes] | None:
        self.is_open = self._pass_all
        return self._take()

    def _take(self) -> tuple[int, bytes] | None:
        frames, self._frames = self._frames, []
        start = (self._pushed - len(frames)) * FRAME_SAMPLES
        return (start, b"".join(frames)) if frames else None
