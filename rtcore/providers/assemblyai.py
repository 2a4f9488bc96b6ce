"""AssemblyAI streaming v3.

Source: assemblyai 1.8.2 ``streaming/v3/models.py``; assemblyai.com/docs/streaming, message
sequence.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from rtcore.audio import RATE_HZ
from rtcore.ports import CallContext, Transcript, Word
from rtcore.providers._faults import service_fault
from rtcore.providers._recognition import Dialect, SampleMap, SocketTranscriber
from rtcore.providers._settings import Deadlines, Settings, find_secret
from rtcore.providers._wire import decode
from rtcore.providers._ws import ws_url

__all__ = ["AssemblyAISettings", "AssemblyAITranscriber"]


class AssemblyAISettings(Settings, frozen=True):
    """``endpointing``: ``ours`` asks for an end at each pause we find and gets speech only;
    ``theirs`` gets all audio and its turns are its own. ``extra`` is added to the query."""

    model: str = "universal-streaming-english"
    key_name: str = "ASSEMBLYAI_API_KEY"
    base_url: str = "wss://streaming.assemblyai.com"
    endpointing: Literal["ours", "theirs"] = "ours"
    end_of_turn_threshold: Annotated[float, Meta(ge=0, le=1)] = 0.4
    min_turn_silence_ms: Annotated[int, Meta(ge=0, le=10_000)] = 400
    max_turn_silence_ms: Annotated[int, Meta(ge=0, le=60_000)] = 1280
    format_turns: bool = False  # punctuation costs a second message and its time
    inactivity_limit_s: Annotated[int, Meta(ge=5, le=3600)] | None = 30  # an orphan's last cost
    extra: dict[str, Any] = msgspec.field(default_factory=dict)
    deadlines: Deadlines = Deadlines()


class _Word(msgspec.Struct):
    text: str
    start: float  # ms
    end: float
    confidence: float = 1.0


class _Turn(msgspec.Struct):
    turn_order: int = 0
    turn_is_formatted: bool = False
    end_of_turn: bool = False
    transcript: str = ""
    end_of_turn_confidence: float | None = None
    words: list[_Word] = []
    language_code: str | None = None


class _Kind(msgspec.Struct):
    type: str = ""
    error_code: int | str = ""
    error: str | None = None  # an error may come without a type


KIND = msgspec.json.Decoder(_Kind)
TURN = msgspec.json.Decoder(_Turn)


class AssemblyAITranscriber(SocketTranscriber):
    """AssemblyAI; fills :class:`rtcore.ports.Transcriber`. A segment is one of its turns."""

    def __init__(
        self, settings: AssemblyAISettings, secrets: Mapping[str, str], *, name: str = "assemblyai"
    ) -> None:
        secret = find_secret(secrets, settings.key_name)
        super().__init__(name, secret, "", settings.deadlines)  # no scheme
        self._settings = settings

    @property
    def wants_all_audio(self) -> bool:
        return self._settings.endpointing == "theirs"

    def dialect(self, context: CallContext) -> Dialect:
        return _Dialect(self.name, self._settings, context)


class _Dialect(Dialect):
    min_chunk_samples = RATE_HZ * 50 // 1000  # shorter messages end the session
    answers_always = False  # noise without words stays unanswered
    keep_alive = '{"type":"KeepAlive"}'

    def __init__(self, provider: str, settings: AssemblyAISettings, context: CallContext) -> None:
        self._provider = provider
        self._settings = settings
        self._ended_turn = -1  # the last turn whose final words were passed on
        limit_s = settings.inactivity_limit_s
        self.keep_alive_s = math.inf if limit_s is None else limit_s / 3
        phrases = msgspec.json.encode(context.phrases).decode() if context.phrases else None
        query: dict[str, Any] = {
            "sample_rate": RATE_HZ,
            "encoding": "pcm_mulaw",
            "speech_model": settings.model,
            "format_turns": settings.format_turns,
            "end_of_turn_confidence_threshold": settings.end_of_turn_threshold,
            "min_turn_silence": settings.min_turn_silence_ms,
            "max_turn_silence": settings.max_turn_silence_ms,
            "inactivity_timeout": limit_s,
            "keyterms_prompt": phrases,
        }
        self.url = ws_url(settings.base_url, "/v3/ws", query | settings.extra)

    def utterance_end(self) -> Sequence[str]:
        return ('{"type":"ForceEndpoint"}',) if self._settings.endpointing == "ours" else ()

    def goodbye(self) -> Sequence[str]:
        return ('{"type":"Terminate"}',)

    def take(self, message: str | bytes, clock: SampleMap) -> Iterator[Transcript]:
        kind = decode(self._provider, KIND, message)
        if kind.type == "Error" or kind.error:
            raise service_fault(self._provider, str(kind.error_code), kind.error or "")
        if kind.type != "Turn":
            return
        turn = decode(self._provider, TURN, message)
        # words that may change yet are in `words` alone
        text = turn.transcript if turn.end_of_turn else " ".join(word.text for word in turn.words)
        is_final = turn.end_of_turn and turn.turn_is_formatted >= self._settings.format_turns
        if not text or turn.turn_order <= self._ended_turn:
            return  # a formatted copy of a turn that has ended ends nothing
        if is_final:
            self._ended_turn = turn.turn_order
        yield Transcript(
            segment=turn.turn_order,
            text=text,
            is_final=is_final,
            end_of_turn=turn.end_of_turn_confidence,
            words=tuple(_word(word, clock) for word in turn.words),
            language=turn.language_code,
        )


def _word(word: _Word, clock: SampleMap) -> Word:
    start, end = clock.of_seconds(word.start / 1000, word.end / 1000)
    return Word(text=word.text, start_sample=start, end_sample=end, confidence=word.confidence)
