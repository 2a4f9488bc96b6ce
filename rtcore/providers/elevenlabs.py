"""ElevenLabs speech over its multi-context WebSocket.

Source: elevenlabs-docs ``asyncapi.yml``; elevenlabs 2.78.0. One context for each segment: its
end is told, which a flush within a context is not, and a cancelled one is told by its id. Times
of an alignment are relative to the chunk they come with.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import msgspec

from rtcore.audio import RATE_HZ, mulaw_to_pcm
from rtcore.ports import CallContext, Segment, SpeechAudio, WordTime
from rtcore.providers._faults import service_fault
from rtcore.providers._settings import find_secret
from rtcore.providers._speech import VoiceDialect, VoiceService, VoiceSettings
from rtcore.providers._wire import b64decode, decode, encode_text
from rtcore.providers._ws import WebSocket, connect, ws_url

__all__ = ["ElevenLabsSettings", "ElevenLabsSynthesizer"]

INACTIVITY_LIMIT_S = 60  # of the service; 180 at most


class ElevenLabsSettings(VoiceSettings, frozen=True, kw_only=True):
    """``voice_settings`` are the service's own; ``extra`` is added to the query."""

    voice_id: str
    model: str = "eleven_flash_v2_5"
    key_name: str = "ELEVENLABS_API_KEY"
    base_url: str = "wss://api.elevenlabs.io"
    voice_settings: dict[str, float | bool] = msgspec.field(default_factory=dict)
    idle_limit_s: float = 45.0  # less than the service's inactivity limit
    extra: dict[str, Any] = msgspec.field(default_factory=dict)


class _Alignment(msgspec.Struct, rename="camel"):
    chars: list[str] = []
    char_start_times_ms: list[float] = []
    chars_durations_ms: list[float] = []


class _Message(msgspec.Struct, rename="camel"):
    audio: str | None = None
    alignment: _Alignment | None = None
    is_final: bool | None = None
    context_id: str | None = None
    is_final_snake: bool | None = msgspec.field(default=None, name="is_final")
    context_id_snake: str | None = msgspec.field(default=None, name="context_id")
    error: str | None = None
    message: str | None = None


MESSAGE = msgspec.json.Decoder(_Message)


class ElevenLabsSynthesizer(VoiceService):
    """A voice at ElevenLabs; fills :class:`rtcore.ports.Synthesizer`, with word times."""

    def __init__(
        self, settings: ElevenLabsSettings, secrets: Mapping[str, str], *, name: str = "elevenlabs"
    ) -> None:
        super().__init__(name, settings)
        self._settings = settings
        self._secret = find_secret(secrets, settings.key_name)
        self._context_ids = itertools.count()

    def _dialect(self, context: CallContext) -> VoiceDialect:
        return _Dialect(self.name, self._settings.voice_settings, self._context_ids)

    async def _open(self) -> WebSocket:
        query = {
            "model_id": self._settings.model,
            "output_format": "ulaw_8000",
            "auto_mode": True,
            "sync_alignment": True,
            "inactivity_timeout": INACTIVITY_LIMIT_S,
        }
        path = f"/v1/text-to-speech/{self._settings.voice_id}/multi-stream-input"
        return await connect(
            self.name,
            ws_url(self._settings.base_url, path, query | self._settings.extra),
            headers={"xi-api-key": self._secret.reveal()},
            deadlines=self._settings.deadlines,
            secret=self._secret,
        )


class _Dialect:
    stale_clears = 0  # late audio has a context of its own

    def __init__(
        self, provider: str, voice_settings: Mapping[str, Any], context_ids: Iterator[int]
    ) -> None:
        self._provider = provider
        self._voice_settings = voice_settings
        self._context_ids = context_ids
        self._speaking: dict[str, _Speaking] = {}

    def segment(self, segment: Segment) -> Sequence[str]:
        context_id = f"s{next(self._context_ids)}"
        self._speaking[context_id] = _Speaking(segment.index)
        opening: dict[str, Any] = {"text": segment.text.rstrip() + " ", "context_id": context_id}
        if self._voice_settings:
            opening["voice_settings"] = self._voice_settings
        return (
            encode_text(opening),
            encode_text({"context_id": context_id, "flush": True}),
            encode_text({"context_id": context_id, "close_context": True}),
        )

    def cancel(self) -> Sequence[str]:
        return [encode_text({"context_id": each, "close_context": True}) for each in self._speaking]

    def take(self, message: str | bytes) -> Iterator[SpeechAudio]:
        found = decode(self._provider, MESSAGE, message)
        if found.error:
            raise service_fault(self._provider, found.error, found.message or "")
        context_id = found.context_id or found.context_id_snake or ""
        speaking = self._speaking.get(context_id)
        if speaking is None:
            return  # late audio of a cancelled context
        if found.audio:
            pcm = mulaw_to_pcm(b64decode(self._provider, found.audio))
            yield speaking.piece(pcm, found.alignment)
        if found.is_final or found.is_final_snake:
            del self._speaking[context_id]
            yield speaking.last()


class _Speaking:
    """One segment under way; puts characters together to words."""

    def __init__(self, segment: int) -> None:
        self._segment = segment
        self._samples = 0  # of audio so far
        self._word = ""
        self._word_start = self._word_end = 0

    def piece(self, pcm: bytes, alignment: _Alignment | None) -> SpeechAudio:
        words = tuple(self._words(alignment)) if alignment is not None else ()
        self._samples += len(pcm) // 2
        return SpeechAudio(segment=self._segment, pcm=pcm, words=words)

    def last(self) -> SpeechAudio:
        words = (self._word_time(),) if self._word else ()
        return SpeechAudio(segment=self._segment, pcm=b"", is_last=True, words=words)

    def _words(self, alignment: _Alignment) -> Iterator[WordTime]:
        """The words that end in this chunk; one may have begun in an earlier one."""
        times = zip(alignment.char_start_times_ms, alignment.chars_durations_ms, strict=False)
        for char, (start_ms, duration_ms) in zip(alignment.chars, times, strict=False):
            if char.isspace():
                if self._word:
                    yield self._word_time()
                    self._word = ""
                continue
            start = self._samples + round(start_ms * RATE_HZ / 1000)
            if not self._word:
                self._word_start = start
            self._word += char
            self._word_end = start + round(duration_ms * RATE_HZ / 1000)

    def _word_time(self) -> WordTime:
        return WordTime(text=self._word, start_sample=self._word_start, end_sample=self._word_end)
