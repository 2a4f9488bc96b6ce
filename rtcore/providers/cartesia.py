"""Cartesia speech over its WebSocket.

Source: cartesia 4.2.0; docs.cartesia.ai, tts websocket and contexts. One context for each
segment: a context ends one second after its last audio, and a model may think longer than that
between two sentences.
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
from rtcore.providers._ws import WebSocket, connect

__all__ = ["CartesiaSettings", "CartesiaSynthesizer"]


class CartesiaSettings(VoiceSettings, frozen=True, kw_only=True):
    """``extra`` is merged into each request: ``generation_config``, ``pronunciation_dict_id``..."""

    voice_id: str
    model: str = "sonic-3.5"
    language: str | None = None  # None: the call's
    key_name: str = "CARTESIA_API_KEY"
    base_url: str = "wss://api.cartesia.ai"
    version: str = "2026-08-14"
    word_times: bool = True
    extra: dict[str, Any] = msgspec.field(default_factory=dict)


class _WordTimes(msgspec.Struct):
    words: list[str] = []
    start: list[float] = []
    end: list[float] = []


class _Message(msgspec.Struct):
    type: str = ""
    context_id: str | None = None
    data: str | None = None
    word_timestamps: _WordTimes | None = None
    title: str = ""
    message: str = ""
    error_code: str | None = None
    status_code: int = 0


class _Kind(msgspec.Struct):
    type: str = ""


KIND = msgspec.json.Decoder(_Kind)
MESSAGE = msgspec.json.Decoder(_Message)
KNOWN = frozenset({"chunk", "timestamps", "done", "error"})


class CartesiaSynthesizer(VoiceService):
    """A voice at Cartesia; fills :class:`rtcore.ports.Synthesizer`, with word times."""

    def __init__(
        self, settings: CartesiaSettings, secrets: Mapping[str, str], *, name: str = "cartesia"
    ) -> None:
        super().__init__(name, settings)
        self._settings = settings
        self._secret = find_secret(secrets, settings.key_name)
        self._context_ids = itertools.count()

    def _dialect(self, context: CallContext) -> VoiceDialect:
        return _Dialect(self.name, self._settings, context, self._context_ids)

    async def _open(self) -> WebSocket:
        return await connect(
            self.name,
            f"{self._settings.base_url}/tts/websocket",
            headers={
                "authorization": f"Bearer {self._secret.reveal()}",
                "cartesia-version": self._settings.version,
            },
            deadlines=self._settings.deadlines,
            secret=self._secret,
        )


class _Dialect:
    stale_clears = 0  # late audio has a context of its own

    def __init__(
        self,
        provider: str,
        settings: CartesiaSettings,
        context: CallContext,
        context_ids: Iterator[int],
    ) -> None:
        self._provider = provider
        self._context_ids = context_ids
        self._segments: dict[str, int] = {}  # by context
        self._request: dict[str, Any] = {
            "model_id": settings.model,
            "voice": {"mode": "id", "id": settings.voice_id},
            "language": settings.language or context.language,
            "output_format": {
                "container": "raw",
                "encoding": "pcm_mulaw",
                "sample_rate": RATE_HZ,
            },
            "add_timestamps": settings.word_times,
            "max_buffer_delay_ms": 0,  # a segment is whole: there is nothing to wait for
            "continue": False,
        } | settings.extra

    def segment(self, segment: Segment) -> Sequence[str]:
        context_id = f"s{next(self._context_ids)}"
        self._segments[context_id] = segment.index
        request = self._request | {"context_id": context_id, "transcript": segment.text}
        return (encode_text(request),)

    def cancel(self) -> Sequence[str]:
        return [encode_text({"context_id": each, "cancel": True}) for each in self._segments]

    def take(self, message: str | bytes) -> Iterator[SpeechAudio]:
        if decode(self._provider, KIND, message).type not in KNOWN:
            return
        found = decode(self._provider, MESSAGE, message)
        segment = self._segments.get(found.context_id or "")
        if found.type == "error" and (segment is not None or found.context_id is None):
            raise service_fault(
                self._provider,
                found.error_code or "",
                found.message or found.title,
                status=found.status_code,
            )
        if segment is None:
            return  # late audio of a cancelled context
        if found.type == "chunk" and found.data:
            pcm = mulaw_to_pcm(b64decode(self._provider, found.data))
            yield SpeechAudio(segment=segment, pcm=pcm)
        elif found.type == "timestamps" and found.word_timestamps is not None:
            words = tuple(_words(found.word_timestamps))
            yield SpeechAudio(segment=segment, pcm=b"", words=words)
        elif found.type == "done":
            del self._segments[found.context_id or ""]
            yield SpeechAudio(segment=segment, pcm=b"", is_last=True)


def _words(times: _WordTimes) -> Iterator[WordTime]:
    for text, start_s, end_s in zip(times.words, times.start, times.end, strict=False):
        yield WordTime(
            text=text, start_sample=round(start_s * RATE_HZ), end_sample=round(end_s * RATE_HZ)
        )
