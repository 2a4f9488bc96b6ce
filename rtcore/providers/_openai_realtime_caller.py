"""What OpenAI Realtime hears of the caller: sound, turns, and the words it makes of them.

Under our turn-taking what was appended is committed where we say that a turn ends, and becomes an
item whose name is told later; under its own the service commits by itself.
"""

from __future__ import annotations

import base64
from collections import deque
from typing import Any, Protocol

from rtcore.audio import RATE_HZ, Resampler, mulaw_to_pcm, pcm_to_mulaw
from rtcore.ports import CallerAudio
from rtcore.providers._openai_realtime import PCM_RATE_HZ, Event
from rtcore.speech_port import CallerBegan, CallerEnded, CallerSaid, SpeechEvent

__all__ = ["Caller"]

COMMIT_MIN_SAMPLES = RATE_HZ // 10  # less than 100 ms is refused
MULAW_SILENCE = b"\xff"  # G.711: the first zero


class Send(Protocol):
    """Sends one event of ours."""

    def __call__(self, kind: str, *, id: str = "", **fields: Any) -> None: ...


class Caller:
    """The caller of one session."""

    def __init__(
        self, send: Send, events: deque[SpeechEvent], *, is_ours: bool, is_pcm: bool
    ) -> None:
        """``events``: where what the service heard is told."""
        self._send = send
        self._events = events
        self._is_ours = is_ours
        self._up = Resampler(RATE_HZ, PCM_RATE_HZ) if is_pcm else None
        self._uncommitted_samples = 0
        self._first_sample: int | None = None  # that the service has heard
        self._committing: deque[str] = deque()  # turns whose items are not known yet
        self._turns: dict[str, str] = {}  # item -> turn, under our turn-taking
        self._words: dict[str, str] = {}  # item -> what is transcribed so far

    # --- what we say ------------------------------------------------------------------------

    def says(self, audio: CallerAudio) -> None:
        """The next piece of sound."""
        if self._first_sample is None:
            self._first_sample = audio.start_sample
        self._append(pcm_to_mulaw(audio.pcm))

    def _append(self, mulaw: bytes) -> None:
        self._uncommitted_samples += len(mulaw)
        octets = mulaw if self._up is None else self._up.push(mulaw_to_pcm(mulaw))
        self._send("input_audio_buffer.append", audio=base64.b64encode(octets).decode())

    def commit(self, turn: str) -> None:
        """What was appended is the caller's turn ``turn``; nothing, if it was keys alone."""
        if not self._uncommitted_samples:
            return
        if (short := COMMIT_MIN_SAMPLES - self._uncommitted_samples) > 0:
            self._append(MULAW_SILENCE * short)
        self._uncommitted_samples = 0
        self._committing.append(turn)
        self._send("input_audio_buffer.commit", id="commit")

    def forget(self) -> None:
        """What was appended since the last turn was a noise."""
        if self._uncommitted_samples:
            self._uncommitted_samples = 0
            self._send("input_audio_buffer.clear")

    # --- what the service says --------------------------------------------------------------

    def on_began(self, event: Event) -> None:
        """It hears a voice."""
        if not self._is_ours:
            at_sample = (self._first_sample or 0) + event.audio_start_ms * RATE_HZ // 1000
            self._events.append(CallerBegan(turn=event.item_id, at_sample=at_sample))

    def on_committed(self, event: Event) -> None:
        """What was appended is an item now."""
        if not self._is_ours:
            self._events.append(CallerEnded(turn=event.item_id))
        elif self._committing:
            self._turns[event.item_id] = self._committing.popleft()

    def on_empty(self) -> None:
        """What was to be committed held nothing, and becomes no item."""
        if self._committing:
            self._committing.popleft()

    def on_words(self, kind: str, event: Event) -> None:
        """More, or all, of what was said in an item."""
        turn = self._turns.get(event.item_id, event.item_id)
        known = self._words.get(event.item_id, "")
        if kind == "delta":
            self._words[event.item_id] = known = known + (event.delta or "")
            self._events.append(CallerSaid(turn=turn, text=known, is_final=False))
        elif kind in ("completed", "failed"):
            text = event.transcript if kind == "completed" else known
            self._events.append(CallerSaid(turn=turn, text=text.strip(), is_final=True))
            self._words.pop(event.item_id, None)
            self._turns.pop(event.item_id, None)
