"""Detectors behind one interface: other systems' rules, run on the same frames as ours.

Only the voice-activity part of the peers is run: their end-of-turn models are either licensed for
their own framework only or not installed here, and Pipecat's loudness gate is not modelled. None
takes the far end as an input. Parameters are the defaults published with the version named.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

import numpy as np
import webrtcvad

from rtcore.audio import FRAME_SAMPLES, RATE_HZ
from rtcore.turn.completeness import Expectation
from rtcore.turn.events import (
    AgentState,
    BargeInConfirmed,
    BargeInDismissed,
    BargeInSuspected,
    Event,
    SpeechStarted,
    SpeechStopped,
    Transcript,
    TurnEnded,
)

__all__ = ["RULES", "Detector", "Rule", "TimerDetector", "Vad", "make_vad"]


class Detector(Protocol):
    """What the bench drives: the interface of ``rtcore.turn.TurnDetector``."""

    def push(self, pcm: bytes, far: bytes | None) -> list[Event]: ...

    def transcript(self, transcript: Transcript) -> list[Event]: ...

    def agent(self, state: AgentState) -> list[Event]: ...

    def expect(self, expectation: Expectation) -> list[Event]: ...


class Vad(Protocol):
    """Speech or not, for each whole window of ``window_samples``."""

    window_samples: int

    def voiced(self, window: bytes, speaking: bool) -> bool: ...


class WebrtcVad:
    """webrtcvad at its strictest, 20 ms windows."""

    window_samples = FRAME_SAMPLES

    def __init__(self) -> None:
        self._vad = webrtcvad.Vad(3)

    def voiced(self, window: bytes, speaking: bool) -> bool:
        return bool(self._vad.is_speech(window, RATE_HZ))


class EnergyVad:
    """Level over a tracked noise floor: the simplest thing that works on a clean line."""

    window_samples = FRAME_SAMPLES
    margin_db = 12.0
    quietest_dbfs = -50.0
    rise_db = 0.02  # a frame: a floor that has risen is believed after seconds

    def __init__(self) -> None:
        self._floor_dbfs = -60.0

    def voiced(self, window: bytes, speaking: bool) -> bool:
        samples = np.frombuffer(window, "<i2").astype(np.float64)
        power = float(samples @ samples) / len(samples) / 32768.0**2
        level_dbfs = 10.0 * math.log10(power + 1e-10)
        self._floor_dbfs = min(level_dbfs, self._floor_dbfs + self.rise_db)
        margin_db = self.margin_db / 2 if speaking else self.margin_db
        return level_dbfs > max(self._floor_dbfs + margin_db, self.quietest_dbfs)


class SileroVad:
    """Silero's ONNX model at 8000 Hz, one stream, as the peers run it."""

    window_samples = 256
    context_samples = 32

    def __init__(self, model: Path, on: float, off: float, reset_s: float | None) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        self._session = onnxruntime.InferenceSession(
            str(model), options, providers=["CPUExecutionProvider"]
        )
        self._on, self._off = on, off
        self._reset_windows = None if reset_s is None else int(reset_s * RATE_HZ) // 256
        self._windows = 0
        self._rate = np.array(RATE_HZ, np.int64)
        self._forget()

    def _forget(self) -> None:
        self._state = np.zeros((2, 1, 128), np.float32)
        self._context = np.zeros((1, self.context_samples), np.float32)

    def voiced(self, window: bytes, speaking: bool) -> bool:
        if self._reset_windows is not None and self._windows % self._reset_windows == 0:
            self._forget()
        self._windows += 1
        samples = np.frombuffer(window, "<i2").astype(np.float32)[None] / 32768.0
        heard = np.concatenate((self._context, samples), axis=1)
        score, self._state = self._session.run(
            None, {"input": heard, "state": self._state, "sr": self._rate}
        )
        self._context = heard[:, -self.context_samples :]
        return bool(score[0, 0] >= (self._off if speaking else self._on))


@dataclass(frozen=True, kw_only=True)
class Rule:
    """A peer's numbers, in ms of the audio it has heard.

    ``resume_ms``: it pauses on suspicion and goes on after that much silence without words;
    ``None``: the first suspicion already ends the reply.
    """

    vad: str
    start_ms: float
    stop_ms: float
    end_ms: float  # silence from the last voiced window to the end of the turn
    interrupt_ms: float
    resume_ms: float | None = None

    def ending_after(self, end_ms: float) -> Rule:
        return replace(self, stop_ms=min(self.stop_ms, end_ms), end_ms=end_ms)

    def starting_after(self, start_ms: float) -> Rule:
        return replace(self, start_ms=start_ms, interrupt_ms=max(start_ms, self.interrupt_ms))


RULES: dict[str, Rule] = {
    # 60 ms of voice, 700 ms of silence: the timer of many small agents
    "webrtc-timer": Rule(vad="webrtc", start_ms=60, stop_ms=200, end_ms=700, interrupt_ms=60),
    "energy-timer": Rule(vad="energy", start_ms=60, stop_ms=200, end_ms=700, interrupt_ms=60),
    # Pipecat 1.7: confidence .7, start and stop 0.2 s, user_speech_timeout 0.6 s after the stop
    "pipecat-vad": Rule(
        vad="silero-pipecat", start_ms=200, stop_ms=200, end_ms=800, interrupt_ms=200
    ),
    # LiveKit Agents 1.6: .5/.35, start .05 s, stop .25 s, min delay .5 s, min interruption .5 s,
    # a false interruption resumes after 2 s
    "livekit-vad": Rule(
        vad="silero-livekit",
        start_ms=50,
        stop_ms=250,
        end_ms=500,
        interrupt_ms=500,
        resume_ms=2000,
    ),
}


def make_vad(name: str, silero: Path | None) -> Vad:
    makers: dict[str, Callable[[], Vad]] = {"webrtc": WebrtcVad, "energy": EnergyVad}
    if silero is not None:
        makers["silero-pipecat"] = lambda: SileroVad(silero, 0.7, 0.7, 5.0)
        makers["silero-livekit"] = lambda: SileroVad(silero, 0.5, 0.35, None)
    return makers[name]()


class TimerDetector:
    """A voice-activity detector and silence timers: how most agents take turns.

    One stretch of speech interrupts once: voice that was already there masks what follows.
    """

    def __init__(self, rule: Rule, vad: Vad) -> None:
        self._rule, self._vad = rule, vad
        self._window_bytes = 2 * vad.window_samples
        self._pending = b""
        self._heard = 0  # samples judged
        self._agent = AgentState.LISTENING
        self._run = 0  # samples voiced in a row, before the start is believed
        self._speaking = False
        self._started = self._voiced_until = 0
        self._turn_open = self._suspected = self._interrupted = False

    def push(self, pcm: bytes, far: bytes | None) -> list[Event]:
        events: list[Event] = []
        self._pending += pcm
        while len(self._pending) >= self._window_bytes:
            window = self._pending[: self._window_bytes]
            self._pending = self._pending[self._window_bytes :]
            self._judge(self._vad.voiced(window, self._speaking), events)
        return events

    def agent(self, state: AgentState) -> list[Event]:
        self._agent = state
        return []

    def expect(self, expectation: Expectation) -> list[Event]:
        return []  # no peer asks what the agent has just asked for

    def transcript(self, transcript: Transcript) -> list[Event]:
        if self._suspected and transcript.is_final:
            self._suspected = False
            return [BargeInConfirmed(at_sample=self._heard)]
        return []

    def _ms(self, samples: int) -> float:
        return samples * 1000 / RATE_HZ

    def _judge(self, voiced: bool, events: list[Event]) -> None:
        self._heard += self._vad.window_samples
        self._run = self._run + self._vad.window_samples if voiced else 0
        if voiced and self._speaking:
            self._voiced_until = self._heard
        elif not self._speaking and self._run and self._ms(self._run) >= self._rule.start_ms:
            self._speaking, self._turn_open, self._interrupted = True, True, False
            self._started, self._voiced_until = self._heard - self._run, self._heard
            events.append(SpeechStarted(at_sample=self._started))
        if self._speaking and self._agent is AgentState.SPEAKING and not self._interrupted:
            self._interrupt(events)
        silent_ms = self._ms(self._heard - self._voiced_until)
        if self._speaking and silent_ms >= self._rule.stop_ms:
            self._speaking = False
            events.append(SpeechStopped(at_sample=self._voiced_until))
        if self._turn_open and not self._speaking and silent_ms >= self._rule.end_ms:
            self._turn_open = False
            events.append(TurnEnded(at_sample=self._voiced_until))
        resume_ms = math.inf if self._rule.resume_ms is None else self._rule.resume_ms
        if self._suspected and not self._speaking and silent_ms >= resume_ms:
            self._suspected = False
            events.append(BargeInDismissed(at_sample=self._heard, reason="no_words"))

    def _interrupt(self, events: list[Event]) -> None:
        if self._ms(self._voiced_until - self._started) < self._rule.interrupt_ms:
            return
        self._interrupted = True
        events.append(BargeInSuspected(at_sample=self._started))
        if self._rule.resume_ms is None:
            events.append(BargeInConfirmed(at_sample=self._started))
        else:
            self._suspected = True
