"""Deepgram live transcription, ``v1/listen``.

Source: deepgram-sdk 7.17.0 ``listen/v1``; deepgram-docs, endpointing, finalize, keep-alive.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from rtcore.ports import CallContext, Transcript, Word
from rtcore.providers._faults import service_fault
from rtcore.providers._recognition import Dialect, SampleMap, SocketTranscriber
from rtcore.providers._settings import Deadlines, Settings, find_secret
from rtcore.providers._wire import decode
from rtcore.providers._ws import ws_url

__all__ = ["DeepgramSettings", "DeepgramTranscriber"]


class DeepgramSettings(Settings, frozen=True):
    """``extra`` is added to the query: ``numerals``, ``redact``, ``tag``, ``mip_opt_out``..."""

    model: str = "nova-3"
    language: str | None = None  # None: the call's
    key_name: str = "DEEPGRAM_API_KEY"
    base_url: str = "wss://api.deepgram.com"
    endpointing_ms: Annotated[int, Meta(ge=10, le=5000)] | None = 300  # None: off; we ask at 200
    smart_format: bool = True
    extra: dict[str, Any] = msgspec.field(default_factory=dict)
    deadlines: Deadlines = Deadlines(stall_s=3.0)  # its interim results come once a second


class _Word(msgspec.Struct):
    word: str
    start: float
    end: float
    confidence: float = 1.0
    punctuated_word: str | None = None


class _Alternative(msgspec.Struct):
    transcript: str = ""
    words: list[_Word] = []


class _Channel(msgspec.Struct):
    alternatives: list[_Alternative] = []


class _Results(msgspec.Struct):
    is_final: bool = False
    channel: _Channel = msgspec.field(default_factory=_Channel)


class _Kind(msgspec.Struct):
    type: str = ""
    description: str = ""
    message: str = ""


KIND = msgspec.json.Decoder(_Kind)
RESULTS = msgspec.json.Decoder(_Results)


class DeepgramTranscriber(SocketTranscriber):
    """A recogniser at Deepgram; fills :class:`rtcore.ports.Transcriber`.

    It is asked to finalise at each end of an utterance that we find.
    """

    wants_all_audio = False

    def __init__(
        self, settings: DeepgramSettings, secrets: Mapping[str, str], *, name: str = "deepgram"
    ) -> None:
        secret = find_secret(secrets, settings.key_name)
        super().__init__(name, secret, "Token", settings.deadlines)
        self._settings = settings

    def dialect(self, context: CallContext) -> Dialect:
        return _Dialect(self.name, self._settings, context)


class _Dialect(Dialect):
    min_chunk_samples = 1
    keep_alive_s = 4.0  # three to five seconds are asked for; ten end the session
    answers_always = True
    keep_alive = '{"type":"KeepAlive"}'

    def __init__(self, provider: str, settings: DeepgramSettings, context: CallContext) -> None:
        self._provider = provider
        self._segment = 0
        self._is_open = False  # something of this segment was shown
        endpointing = "false" if settings.endpointing_ms is None else settings.endpointing_ms
        query: dict[str, Any] = {
            "model": settings.model,
            "language": settings.language or context.language,
            "encoding": "mulaw",
            "sample_rate": 8000,
            "channels": 1,
            "interim_results": True,
            "endpointing": endpointing,
            "smart_format": settings.smart_format,
            "punctuate": True,
            ("keyterm" if settings.model.startswith("nova-3") else "keywords"): context.phrases,
        }
        self.url = ws_url(settings.base_url, "/v1/listen", query | settings.extra)

    def utterance_end(self) -> Sequence[str]:
        return ('{"type":"Finalize"}',)

    def goodbye(self) -> Sequence[str]:
        return ('{"type":"CloseStream"}',)

    def take(self, message: str | bytes, clock: SampleMap) -> Iterator[Transcript]:
        kind = decode(self._provider, KIND, message)
        if kind.type == "Error":
            raise service_fault(self._provider, "error", kind.description or kind.message)
        if kind.type != "Results":
            return
        results = decode(self._provider, RESULTS, message)
        for best in results.channel.alternatives[:1]:
            if not best.transcript and not self._is_open:
                return  # silence: nothing to show, nothing to take back
            yield Transcript(
                segment=self._segment,
                text=best.transcript,
                is_final=results.is_final,
                words=tuple(_word(word, clock) for word in best.words),
            )
            self._is_open = not results.is_final
            self._segment += results.is_final


def _word(word: _Word, clock: SampleMap) -> Word:
    start, end = clock.of_seconds(word.start, word.end)
    return Word(
        text=word.punctuated_word or word.word,
        start_sample=start,
        end_sample=end,
        confidence=word.confidence,
    )
