"""Who is on the telephone: a script of what to say and when, as one frame after another."""

from __future__ import annotations

import math
from array import array
from base64 import b64encode
from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from operator import attrgetter

import msgspec

from rtcore.audio import FRAME_MS, RATE_HZ
from rtcore.testing.ear import Ear
from rtcore.testing.line import LineFormat

__all__ = [
    "Action",
    "Caller",
    "Stretch",
    "Utterance",
    "dtmf",
    "hang_up",
    "interrupt_after",
    "say",
    "wait",
    "wait_for_agent_quiet",
]

WINDOW_SAMPLES = RATE_HZ // 100  # 10 ms: short beside a syllable, long beside a pitch period
VOICED_MIN_RMS = 100.0  # int16; about -50 dBFS, under any telephone speech
VOICED_BELOW_PEAK = 0.05  # -26 dB under the loudest window: noise between words is softer
STRETCH_PAUSE_MS = 1000  # a longer pause parts what a caller says into two turns
PHRASE_PAUSE_MS = 200  # and one this long could be taken for their end
TALKED_OVER_MS = 1000  # an agent that goes on so long after us has not been interrupted by us
WAIT_LIMIT_MS = 30_000  # no script waits for an agent longer than this by default


class Stretch(msgspec.Struct, frozen=True, kw_only=True):
    """Speech of the caller, in samples at 8000 Hz: the first voiced one, and past the last."""

    start: int
    end: int


class Utterance:
    """Something to say: int16 at 8000 Hz, its voice found and its frames encoded once.

    ``stretches`` bridge pauses of up to a second, ``phrases`` of up to 200 ms. One utterance
    may be said by any number of callers.
    """

    def __init__(self, pcm: bytes) -> None:
        self.pcm = pcm
        voiced = _voiced_windows(array("h", pcm))
        self.stretches = tuple(_bridged(voiced, STRETCH_PAUSE_MS, len(pcm) // 2))
        self.phrases = tuple(_bridged(voiced, PHRASE_PAUSE_MS, len(pcm) // 2))
        self._frames: dict[LineFormat, list[bytes]] = {}

    def frames(self, line: LineFormat) -> list[bytes]:
        """Its 20 ms frames as base64, the last one filled with silence."""
        if line not in self._frames:
            sound = line.encode(self.pcm)
            size = line.frame_samples * line.sample_bytes
            self._frames[line] = [
                b64encode(
                    sound[at : at + size]
                    + line.silence((size - len(sound) + at) // line.sample_bytes)
                )
                for at in range(0, len(sound), size)
            ]
        return self._frames[line]


class Say(msgspec.Struct, frozen=True):
    utterance: Utterance


class Wait(msgspec.Struct, frozen=True):
    ms: float


class WaitForAgentQuiet(msgspec.Struct, frozen=True):
    ms: float
    limit_ms: float
    begin_limit_ms: float


class InterruptAfter(msgspec.Struct, frozen=True):
    ms: float
    utterance: Utterance
    limit_ms: float


class Dtmf(msgspec.Struct, frozen=True):
    digits: str


class HangUp(msgspec.Struct, frozen=True):
    pass


Action = Say | Wait | WaitForAgentQuiet | InterruptAfter | Dtmf | HangUp


def say(speech: bytes | Utterance) -> Action:
    """Speak, whatever the agent does; bytes are int16 at 8000 Hz."""
    return Say(_utterance(speech))


def wait(ms: float) -> Action:
    """Keep silent for ``ms``."""
    return Wait(ms)


def wait_for_agent_quiet(
    ms: float, limit_ms: float = WAIT_LIMIT_MS, begin_limit_ms: float | None = None
) -> Action:
    """Keep silent until the agent has spoken since we last did, and then been quiet for ``ms``.

    Gives up if it has not begun after ``begin_limit_ms`` (by default ``limit_ms``), or goes on for
    ``limit_ms`` then.
    """
    return WaitForAgentQuiet(ms, limit_ms, limit_ms if begin_limit_ms is None else begin_limit_ms)


def interrupt_after(
    ms: float, speech: bytes | Utterance, limit_ms: float = WAIT_LIMIT_MS
) -> Action:
    """Speak once the agent has been audible for ``ms``; not at all after ``limit_ms``."""
    return InterruptAfter(ms, _utterance(speech), limit_ms)


def dtmf(digits: str) -> Action:
    """Press keys: one or more of ``0-9 * # A-D``."""
    return Dtmf(digits)


def hang_up() -> Action:
    """End the call here; the end of a script does the same."""
    return HangUp()


class Caller:
    """Performs a script: each :meth:`next_frame` is the 20 ms that were spoken just now.

    Args:
        press: called with the digits at the moment a key is pressed.
    """

    def __init__(
        self, script: Sequence[Action], line: LineFormat, ear: Ear, press: Callable[[str], None]
    ) -> None:
        self.stretches: list[Stretch] = []
        self.phrases: list[Stretch] = []
        self.missed_interruptions = 0
        self._line = line
        self._ear = ear
        self._press = press
        self._silence = b64encode(line.silence(line.frame_samples))
        self._frame_count = 0  # frames spoken, silent ones too
        self._spoke_until = 0  # line sample after our last speech or key
        self._frames = self._perform(script)

    def phrase_at(self, sample: int) -> Stretch | None:
        """The phrase in which that sample (at 8000 Hz) lies."""
        number = bisect_right(self.phrases, sample, key=attrgetter("start")) - 1
        return self.phrases[number] if number >= 0 and sample < self.phrases[number].end else None

    def next_frame(self) -> bytes | None:
        """The next frame as base64; None when the caller has hung up."""
        frame = next(self._frames, None)
        self._frame_count += frame is not None
        return frame

    @property
    def _now(self) -> int:
        return self._frame_count * self._line.frame_samples

    def _perform(self, script: Sequence[Action]) -> Iterator[bytes]:
        for action in script:
            match action:
                case Say(utterance):
                    yield from self._speak(utterance)
                case Wait(ms):
                    yield from self._keep_silent(ms, _never)
                case WaitForAgentQuiet(ms, limit_ms, begin_limit_ms):
                    yield from self._keep_silent(begin_limit_ms, self._has_begun)
                    if self._has_begun():
                        yield from self._keep_silent(limit_ms, partial(self._fell_quiet, ms))
                case InterruptAfter(ms, utterance, limit_ms):
                    yield from self._keep_silent(limit_ms, partial(self._is_speaking, ms))
                    if self._is_speaking(ms):
                        yield from self._speak(utterance)
                    else:
                        self.missed_interruptions += 1
                case Dtmf(digits):
                    self._press(digits)
                    self._spoke_until = self._now
                case HangUp():
                    return

    def _speak(self, utterance: Utterance) -> Iterator[bytes]:
        at = self._frame_count * RATE_HZ * FRAME_MS // 1000
        self.stretches += [_later(part, at) for part in utterance.stretches]
        self.phrases += [_later(part, at) for part in utterance.phrases]
        yield from utterance.frames(self._line)
        self._spoke_until = self._now

    def _keep_silent(self, limit_ms: float, is_enough: Callable[[], bool]) -> Iterator[bytes]:
        for _ in range(math.ceil(limit_ms / FRAME_MS)):
            if is_enough():
                return
            yield self._silence

    def _has_begun(self) -> bool:
        """Whether the agent has spoken since we did; the tail of what we talked over is not it."""
        if not self._ear.runs:
            return False
        run = self._ear.runs[-1]
        return (
            run.start >= self._spoke_until
            or self._ms(run.end - self._spoke_until) >= TALKED_OVER_MS
        )

    def _fell_quiet(self, ms: float) -> bool:
        return self._ms(self._now - self._ear.runs[-1].end) >= ms

    def _is_speaking(self, ms: float) -> bool:
        if not self._ear.is_audible(self._now):
            return False
        started = max(self._ear.runs[-1].start, self._spoke_until)
        return self._ms(self._now - started) >= ms

    def _ms(self, samples: int) -> float:
        return samples * 1000 / self._line.rate_hz


def _never() -> bool:
    return False


def _utterance(speech: bytes | Utterance) -> Utterance:
    return speech if isinstance(speech, Utterance) else Utterance(speech)


def _later(part: Stretch, samples: int) -> Stretch:
    return Stretch(start=part.start + samples, end=part.end + samples)


def _voiced_windows(pcm: array[int]) -> list[int]:
    """The numbers of the 10 ms windows that are near the loudest."""
    levels = [
        math.sqrt(sum(s * s for s in window) / len(window))
        for at in range(0, len(pcm), WINDOW_SAMPLES)
        if (window := pcm[at : at + WINDOW_SAMPLES])
    ]
    floor = max(VOICED_MIN_RMS, max(levels, default=0.0) * VOICED_BELOW_PEAK)
    return [number for number, level in enumerate(levels) if level >= floor]


def _bridged(voiced: Sequence[int], pause_ms: int, samples: int) -> Iterator[Stretch]:
    """Voiced windows as stretches, pauses of up to ``pause_ms`` included."""
    pause = pause_ms * RATE_HZ // 1000 // WINDOW_SAMPLES
    first = 0
    for at, number in enumerate(voiced):
        if at + 1 == len(voiced) or voiced[at + 1] - number > pause:
            end = min((number + 1) * WINDOW_SAMPLES, samples)
            yield Stretch(start=voiced[first] * WINDOW_SAMPLES, end=end)
            first = at + 1
