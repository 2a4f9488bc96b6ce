"""The listening side of a call: what of the caller goes to the recogniser, and its session."""

from __future__ import annotations

from collections.abc import Callable

import trio

from rtcore.config import CallConfig
from rtcore.errors import ProviderError
from rtcore.hearing import HeardQueue
from rtcore.metrics import CallStats
from rtcore.ports import CallContext, CallerAudio, Transcriber, UtteranceEnd
from rtcore.turn._every_frame import SpeechGate
from rtcore.turn.events import Transcript
from rtcore.usage import Tally

__all__ = ["Ears"]

ATTEMPTS_MAX = 5  # sessions in a row that brought nothing: the recogniser is given up
PAUSE_S = 0.2  # before the first new attempt; doubled for each further one


class Ears:
    """Gathers the caller's speech and keeps one recogniser's session open."""

    def __init__(self, transcriber: Transcriber, config: CallConfig, stats: CallStats) -> None:
        self._transcriber = transcriber
        self._stats = stats
        self._used = Tally()  # counted from the first session on
        self.gate = SpeechGate(
            preroll_ms=config.stt_preroll_ms,
            chunk_ms=config.stt_chunk_ms,
            pass_all=config.stt_gate == "all" or transcriber.wants_all_audio,
        )
        self._heard = HeardQueue(config.heard_max_chunks)

    def push(self, frame: bytes) -> None:
        """Take the next frame; it goes on when its chunk is full, if the gate is open."""
        chunk = self.gate.push(frame)
        if chunk is not None:
            self.hand_on(chunk)

    def open(self) -> None:
        """The caller's voice began: what came shortly before it goes first."""
        self._hand_on_if_any(self.gate.open())

    def close(self, at_sample: int) -> None:
        """The caller's voice ended at ``at_sample``: ask for what is final."""
        self._hand_on_if_any(self.gate.close())
        self._send(UtteranceEnd(at_sample=at_sample))

    async def recognise(self, context: CallContext, emit: Callable[[Transcript], None]) -> None:
        """Keep a session open; a lost one is opened anew, with growing pauses between.

        Returns when that has failed too often: there is no recogniser any more.
        """
        self._used = context.usage.alone("stt", self._transcriber)
        failures = 0
        while failures < ATTEMPTS_MAX:
            if failures:
                await trio.sleep(PAUSE_S * 2 ** (failures - 1))
            before = self._stats.transcripts
            self._used.requests += 1
            try:
                await self._transcriber.transcribe(context, self._heard.reader(), emit)
            except* ProviderError:
                self._stats.provider_errors += 1
                self._used.failures += 1
            finally:
                self._used.answered += self._stats.transcripts > before
            failures = failures + 1 if self._stats.transcripts == before else 1

    def hand_on(self, chunk: tuple[int, bytes]) -> None:
        """Give the recogniser what the gate has gathered: its first sample, and sound."""
        self._send(CallerAudio(start_sample=chunk[0], pcm=chunk[1]))

    def _hand_on_if_any(self, chunk: tuple[int, bytes] | None) -> None:
        if chunk is not None:
            self.hand_on(chunk)

    def _send(self, heard: CallerAudio | UtteranceEnd) -> None:
        """Hand on without waiting; a recogniser too far behind loses live audio."""
        if not self._heard.put(heard):
            self._stats.dropped_heard_chunks += 1
        elif isinstance(heard, CallerAudio):
            self._used.audio_samples += len(heard.pcm) // 2
