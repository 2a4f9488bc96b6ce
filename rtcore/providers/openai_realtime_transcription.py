"""Transcription while the caller speaks, over OpenAI's Realtime WebSocket.

Source: openai-python 3.52 ``types/realtime``; developers.openai.com, realtime transcription and
its client and server events (November 2026). A transcription session: ``intent=transcription``
in the address and no model there, all else by ``session.update``. Each stretch of audio that is
committed, by us or by the service's own turn detection, becomes an item with a transcript; items
may be completed out of order.
"""

from __future__ import annotations

import base64
from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from rtcore.audio import RATE_HZ, Resampler, mulaw_to_pcm
from rtcore.errors import ConfigError
from rtcore.ports import CallContext, Transcript
from rtcore.providers._faults import service_fault
from rtcore.providers._recognition import MULAW_SILENCE, Dialect, SampleMap, SocketTranscriber
from rtcore.providers._settings import Deadlines, Settings, find_secret
from rtcore.providers._wire import decode, encode_text
from rtcore.providers._ws import ws_url

__all__ = ["OpenAIRealtimeTranscriber", "OpenAIRealtimeTranscriptionSettings"]

PCM_RATE_HZ = 24_000  # the one rate its pcm may have
COMMIT_MIN_SAMPLES = RATE_HZ // 10  # less than 100 ms is refused
WITHOUT_TURNS = ("gpt-live-transcribe", "gpt-realtime-whisper")  # refuse any turn detection
WITH_KEYWORDS = ("gpt-live-transcribe", "gpt-transcribe")  # and with several languages
COMMIT_EMPTY = "input_audio_buffer_commit_empty"  # nobody spoke since the last: no harm done
# errors of its own or of the moment; it files them under invalid requests too
PASSING = frozenset({"session_expired", "rate_limit_exceeded", "server_error"})
APPEND = '{"type":"input_audio_buffer.append","audio":"'
COMMIT = '{"type":"input_audio_buffer.commit"}'
SPOKEN = "conversation.item.input_audio_transcription."


class OpenAIRealtimeTranscriptionSettings(Settings, frozen=True):
    """``endpointing``: ``ours`` commits at each pause we find and sends speech only; with
    ``server_vad`` and ``semantic_vad`` the service gets all audio and commits by itself.
    ``extra`` is merged into ``audio.input.transcription``: ``delay``, ``prompt``..."""

    model: str = "gpt-live-transcribe"
    language: str | None = None  # None: the call's
    key_name: str | None = "OPENAI_API_KEY"  # None: a local server that asks for none
    base_url: str = "wss://api.openai.com/v1"
    encoding: Literal["mulaw", "pcm"] = "mulaw"  # pcm, at 24 kHz: for servers that know no other
    endpointing: Literal["ours", "server_vad", "semantic_vad"] = "ours"
    vad_threshold: Annotated[float, Meta(ge=0, le=1)] = 0.5  # server_vad
    vad_prefix_ms: Annotated[int, Meta(ge=0, le=5000)] = 300
    vad_silence_ms: Annotated[int, Meta(ge=50, le=10_000)] = 500
    eagerness: Literal["low", "medium", "high", "auto"] = "auto"  # semantic_vad
    noise_reduction: Literal["near_field", "far_field"] | None = None  # for microphones
    extra: dict[str, Any] = msgspec.field(default_factory=dict)
    deadlines: Deadlines = Deadlines(first_byte_s=3.0)  # commit -> its words


class _Error(msgspec.Struct):
    type: str = ""
    code: str | None = None
    message: str | None = None
    event_id: str | None = None


class _Event(msgspec.Struct):
    type: str = ""
    item_id: str = ""
    delta: str | None = None
    transcript: str = ""
    error: _Error | None = None


EVENT = msgspec.json.Decoder(_Event)


class OpenAIRealtimeTranscriber(SocketTranscriber):
    """OpenAI Realtime; fills :class:`rtcore.ports.Transcriber`. A segment is one of its items.

    Raises:
        ConfigError: the key is missing, or the model cannot find turns and is asked to.
    """

    def __init__(
        self,
        settings: OpenAIRealtimeTranscriptionSettings,
        secrets: Mapping[str, str],
        *,
        name: str = "openai_realtime",
    ) -> None:
        secret = find_secret(secrets, settings.key_name) if settings.key_name else None
        super().__init__(name, secret, "Bearer", settings.deadlines)
        if settings.endpointing != "ours" and settings.model.startswith(WITHOUT_TURNS):
            raise ConfigError(
                "endpointing", f"{settings.model} finds no turns: use ours, or another model"
            )
        self._settings = settings

    @property
    def wants_all_audio(self) -> bool:
        return self._settings.endpointing != "ours"

    def dialect(self, context: CallContext) -> Dialect:
        return _Dialect(self.name, self._settings, context)


class _Dialect(Dialect):
    def __init__(
        self, provider: str, settings: OpenAIRealtimeTranscriptionSettings, context: CallContext
    ) -> None:
        self._provider = provider
        self._ours = settings.endpointing == "ours"
        self._session = _session(settings, context)
        self._resampler = Resampler(RATE_HZ, PCM_RATE_HZ) if settings.encoding == "pcm" else None
        self._is_ready = False
        self._uncommitted_samples = 0
        self._commits = 0  # of ours, not yet answered
        self._stopped = ""  # the item that the service found the end of last
        self._items: dict[str, _Item] = {}  # begun and not passed on as final, in order
        self._segment = 0  # of the next item
        self.url = ws_url(settings.base_url, "/realtime", {"intent": "transcription"})

    @property
    def is_ready(self) -> bool:
        return self._is_ready

    @property
    def owes_words(self) -> bool:
        return self._commits > 0 or any(item.is_committed for item in self._items.values())

    @property
    def is_done(self) -> bool:
        return not self.owes_words

    def opening(self) -> Sequence[str]:
        return (encode_text({"type": "session.update", "session": self._session}),)

    def audio(self, mulaw: bytes) -> str:
        self._uncommitted_samples += len(mulaw)
        octets = mulaw if self._resampler is None else self._resampler.push(mulaw_to_pcm(mulaw))
        return f'{APPEND}{base64.b64encode(octets).decode()}"}}'

    def utterance_end(self) -> Sequence[str]:
        return self._commit() if self._ours and self._uncommitted_samples else ()

    def goodbye(self) -> Sequence[str]:
        return self._commit() if self._uncommitted_samples else ()

    def _commit(self) -> Sequence[str]:
        short_samples = max(0, COMMIT_MIN_SAMPLES - self._uncommitted_samples)
        padding = (self.audio(MULAW_SILENCE * short_samples),) if short_samples else ()
        self._uncommitted_samples = 0
        self._commits += 1
        return (*padding, COMMIT)

    def take(self, message: str | bytes, clock: SampleMap) -> Iterator[Transcript]:
        event = decode(self._provider, EVENT, message)
        if event.type == "session.updated":
            self._is_ready = True
        elif event.type == "error":
            self._fault(event.error or _Error())
        elif event.type == "input_audio_buffer.speech_stopped":
            self._stopped = event.item_id
        elif event.type == "input_audio_buffer.committed":
            self._item(event.item_id).is_committed = True
            if event.item_id != self._stopped:  # else the service commits by itself
                self._commits = max(0, self._commits - 1)
        elif event.type == f"{SPOKEN}delta":
            item = self._item(event.item_id)
            item.text += event.delta or ""
            yield item.transcript(is_final=False)
        elif event.type == f"{SPOKEN}completed":
            item = self._item(event.item_id)
            item.text, item.is_complete = event.transcript, True
            yield from self._finals(item)
        elif event.type == f"{SPOKEN}failed":
            self._fault(event.error or _Error())

    def _fault(self, error: _Error) -> None:
        """Raise what an error means, if it means anything."""
        code = error.code or ""
        if code == COMMIT_EMPTY:
            self._commits = max(0, self._commits - 1)
            return
        kind = code if code in PASSING else f"{error.type} {code}".strip()
        raise service_fault(self._provider, kind, error.message or "")

    def _item(self, item_id: str) -> _Item:
        if item_id not in self._items:
            self._items[item_id] = _Item(self._segment)
            self._segment += 1
        return self._items[item_id]

    def _finals(self, completed: _Item) -> Iterator[Transcript]:
        """What can be said for good now: an item waits for those before it."""
        if next(iter(self._items.values())) is not completed:
            yield completed.transcript(is_final=False)
        while self._items:
            item_id, item = next(iter(self._items.items()))
            if not item.is_complete:
                return
            del self._items[item_id]
            yield item.transcript(is_final=True)


class _Item:
    """A stretch of the caller's audio, and its words so far."""

    def __init__(self, segment: int) -> None:
        self._segment = segment
        self.text = ""
        self.is_committed = False
        self.is_complete = False

    def transcript(self, *, is_final: bool) -> Transcript:
        return Transcript(segment=self._segment, text=self.text.strip(), is_final=is_final)


def _session(settings: OpenAIRealtimeTranscriptionSettings, context: CallContext) -> dict[str, Any]:
    """The ``session`` of ``session.update``."""
    language = (settings.language or context.language).split("-")[0]  # ISO 639-1
    transcription: dict[str, Any] = {"model": settings.model}
    if settings.model.startswith(WITH_KEYWORDS):
        transcription |= {"languages": [language]}
        if context.phrases:  # as a `prompt` they would come back as words of the caller
            transcription |= {"keywords": list(context.phrases)}
    else:
        transcription |= {"language": language}
    pcm = {"type": "audio/pcm", "rate": PCM_RATE_HZ}
    reduction = settings.noise_reduction
    return {
        "type": "transcription",
        "audio": {
            "input": {
                "format": {"type": "audio/pcmu"} if settings.encoding == "mulaw" else pcm,
                "transcription": transcription | settings.extra,
                "noise_reduction": {"type": reduction} if reduction else None,
                "turn_detection": _turn_detection(settings),
            }
        },
    }


def _turn_detection(settings: OpenAIRealtimeTranscriptionSettings) -> dict[str, Any] | None:
    if settings.endpointing == "server_vad":
        return {
            "type": "server_vad",
            "threshold": settings.vad_threshold,
            "prefix_padding_ms": settings.vad_prefix_ms,
            "silence_duration_ms": settings.vad_silence_ms,
        }
    if settings.endpointing == "semantic_vad":
        return {"type": "semantic_vad", "eagerness": settings.eagerness}
    return None
