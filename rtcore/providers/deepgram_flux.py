"""Deepgram Flux, ``v2/listen``: a recogniser that finds the turns itself.

Source: deepgram-sdk 7.17.0 ``listen/v2``; developers.deepgram.com/docs/flux, state machine and
configuration.
"""

from __future__ import annotations

import math
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

__all__ = ["DeepgramFluxSettings", "DeepgramFluxTranscriber"]


class DeepgramFluxSettings(Settings, frozen=True):
    """Thresholds are the service's own; ``extra`` is added to the query."""

    model: str = "flux-general-en"
    languages: tuple[str, ...] = ()  # hints, for flux-general-multi
    key_name: str = "DEEPGRAM_API_KEY"
    base_url: str = "wss://api.deepgram.com"
    end_of_turn_threshold: Annotated[float, Meta(ge=0.5, le=1.0)] = 0.7
    eager_threshold: Annotated[float, Meta(ge=0.3, le=0.9)] | None = 0.5
    end_of_turn_limit_ms: Annotated[int, Meta(ge=500, le=60_000)] = 5000
    force_end_of_turn: bool = False  # at each pause we find: gives its judgement up for ours
    extra: dict[str, Any] = msgspec.field(default_factory=dict)
    deadlines: Deadlines = Deadlines()


class _Word(msgspec.Struct):
    word: str
    confidence: float = 1.0
    start: float | None = None
    end: float | None = None


class _Message(msgspec.Struct):
    type: str = ""
    event: str = ""
    turn_index: int = 0
    transcript: str = ""
    words: list[_Word] = []
    end_of_turn_confidence: float | None = None
    code: str = ""
    description: str = ""


class _Kind(msgspec.Struct):
    type: str = ""


KIND = msgspec.json.Decoder(_Kind)
MESSAGE = msgspec.json.Decoder(_Message)


class DeepgramFluxTranscriber(SocketTranscriber):
    """Deepgram Flux; fills :class:`rtcore.ports.Transcriber`. A segment is one of its turns."""

    wants_all_audio = True  # it hears the silence that ends a turn

    def __init__(
        self,
        settings: DeepgramFluxSettings,
        secrets: Mapping[str, str],
        *,
        name: str = "deepgram_flux",
    ) -> None:
        secret = find_secret(secrets, settings.key_name)
        super().__init__(name, secret, "Token", settings.deadlines)
        self._settings = settings

    def dialect(self, context: CallContext) -> Dialect:
        return _Dialect(self.name, self._settings, context)


class _Dialect(Dialect):
    min_chunk_samples = 640  # 80 ms, strongly advised
    keep_alive_s = math.inf  # it gets all audio
    answers_always = True  # an update every 0.25 s of audio
    keep_alive = ""

    def __init__(self, provider: str, settings: DeepgramFluxSettings, context: CallContext) -> None:
        self._provider = provider
        self._forces = settings.force_end_of_turn
        self._shown: set[int] = set()  # segments of which something was shown
        query: dict[str, Any] = {
            "model": settings.model,
            "encoding": "mulaw",
            "sample_rate": 8000,
            "eot_threshold": settings.end_of_turn_threshold,
            "eager_eot_threshold": settings.eager_threshold,
            "eot_timeout_ms": settings.end_of_turn_limit_ms,
            "language_hint": settings.languages,
            "keyterm": context.phrases,
        }
        self.url = ws_url(settings.base_url, "/v2/listen", query | settings.extra)

    def utterance_end(self) -> Sequence[str]:
        return ('{"type":"ForceEndTurn"}',) if self._forces else ()

    def goodbye(self) -> Sequence[str]:
        return ('{"type":"CloseStream"}',)

    def take(self, message: str | bytes, clock: SampleMap) -> Iterator[Transcript]:
        kind = decode(self._provider, KIND, message).type
        if kind not in ("TurnInfo", "Error"):
            return
        found = decode(self._provider, MESSAGE, message)
        if kind == "Error":
            raise service_fault(self._provider, found.code, found.description)
        if not found.transcript and found.turn_index not in self._shown:
            return
        is_final = found.event == "EndOfTurn"
        if is_final:
            self._shown.discard(found.turn_index)
        else:
            self._shown.add(found.turn_index)
        yield Transcript(
            segment=found.turn_index,
            text=found.transcript,
            is_final=is_final,
            end_of_turn=found.end_of_turn_confidence,
            words=tuple(_word(word, clock) for word in found.words if word.start is not None),
        )


def _word(word: _Word, clock: SampleMap) -> Word:
    start_s = word.start or 0.0
    start, end = clock.of_seconds(start_s, word.end or start_s)
    return Word(text=word.word, start_sample=start, end_sample=end, confidence=word.confidence)
