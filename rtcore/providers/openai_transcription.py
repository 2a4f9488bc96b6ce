"""Transcription by the utterance over plain HTTP: OpenAI, and local servers that imitate it.

Source: openai-openapi, ``/audio/transcriptions``. No raw audio is taken: each utterance is
wrapped in WAV. With ``stream`` the words come piece by piece (``whisper-1`` ignores it).
"""

from __future__ import annotations

import io
import wave
from collections.abc import Callable, Mapping
from typing import Annotated, Any

import msgspec
import trio
from msgspec import Meta

from rtcore.audio import RATE_HZ
from rtcore.errors import ProviderError
from rtcore.ports import CallContext, CallerAudio, Hearing, Transcript
from rtcore.providers._http import Answer
from rtcore.providers._http_service import HttpService, bearer_client
from rtcore.providers._settings import Deadlines, Settings
from rtcore.providers._tasks import run_beside
from rtcore.providers._wire import decode

__all__ = ["OpenAITranscriber", "OpenAITranscriptionSettings"]

UTTERANCE_MIN_SAMPLES = RATE_HZ // 10  # shorter audio is refused, and holds no word
WAITING_MAX = 8  # utterances; past it the caller's audio waits, and its own bound drops
ATTEMPTS_MAX = 2
BODY_MAX_BYTES = 1 << 20


class OpenAITranscriptionSettings(Settings, frozen=True):
    """``extra`` is added to the form: ``temperature``, ``response_format``..."""

    model: str = "gpt-4o-mini-transcribe"
    base_url: str = "https://api.openai.com/v1"
    key_name: str | None = "OPENAI_API_KEY"  # None: a local server that asks for none
    language: str | None = None  # None: the call's
    stream: bool = True
    utterance_max_s: Annotated[float, Meta(ge=1, le=600)] = 30.0  # a longer one is cut there
    extra: dict[str, str] = msgspec.field(default_factory=dict)
    deadlines: Deadlines = Deadlines(first_byte_s=5.0)  # p99 of a short utterance is 1.7 s


class _Reply(msgspec.Struct):
    """The plain answer, and each event of a streamed one."""

    type: str = ""
    text: str | None = None
    delta: str = ""


REPLY = msgspec.json.Decoder(_Reply)


class _Utterance(msgspec.Struct, frozen=True):
    segment: int
    pcm: bytes


class OpenAITranscriber(HttpService):
    """A recogniser that is asked once an utterance; fills :class:`rtcore.ports.Transcriber`."""

    wants_all_audio = False

    def __init__(
        self,
        settings: OpenAITranscriptionSettings,
        secrets: Mapping[str, str],
        *,
        name: str = "openai_transcription",
    ) -> None:
        super().__init__(
            bearer_client(name, settings.base_url, secrets, settings.key_name, settings.deadlines)
        )
        self._settings = settings

    async def transcribe(
        self, context: CallContext, hearing: Hearing, emit: Callable[[Transcript], None]
    ) -> None:
        """Ask for each utterance in turn; see :class:`rtcore.ports.Transcriber`."""
        tx, rx = trio.open_memory_channel[_Utterance](WAITING_MAX)

        async def ask_for_all() -> None:
            async for utterance in rx:
                await self._ask(context, utterance, emit)

        with rx:
            await run_beside(ask_for_all, lambda: self._gather(hearing, tx))

    async def _gather(self, hearing: Hearing, tx: trio.MemorySendChannel[_Utterance]) -> None:
        """Cut the caller's audio into utterances."""
        pcm = bytearray()
        segment = 0
        max_bytes = int(self._settings.utterance_max_s * RATE_HZ) * 2
        with tx:
            async for item in hearing:
                if isinstance(item, CallerAudio):
                    pcm += item.pcm
                    if len(pcm) < max_bytes:
                        continue
                if len(pcm) >= UTTERANCE_MIN_SAMPLES * 2:
                    await tx.send(_Utterance(segment, bytes(pcm)))
                    segment += 1
                pcm.clear()
            if len(pcm) >= UTTERANCE_MIN_SAMPLES * 2:
                await tx.send(_Utterance(segment, bytes(pcm)))

    async def _ask(
        self, context: CallContext, utterance: _Utterance, emit: Callable[[Transcript], None]
    ) -> None:
        for attempt in range(1, ATTEMPTS_MAX + 1):
            try:
                await self._ask_once(context, utterance, emit)
                return
            except ProviderError as exc:
                if not exc.retryable or attempt == ATTEMPTS_MAX:
                    raise

    async def _ask_once(
        self, context: CallContext, utterance: _Utterance, emit: Callable[[Transcript], None]
    ) -> None:
        form = {
            "model": self._settings.model,
            "language": self._settings.language or context.language,
            **({"prompt": ", ".join(context.phrases)} if context.phrases else {}),
            **({"stream": "true"} if self._settings.stream else {}),
        }
        files = {"file": ("utterance.wav", wav_of(utterance.pcm), "audio/wav")}
        answer = await self._client.post(
            "/audio/transcriptions", form=form | self._settings.extra, files=files
        )
        async with answer:
            if "event-stream" in answer.headers.get("content-type", ""):
                text = await self._read_stream(answer, utterance.segment, emit)
            else:  # asked for or not: some servers and models do not stream
                body = await answer.read(BODY_MAX_BYTES)
                text = decode(self.name, REPLY, body).text or ""
            emit(Transcript(segment=utterance.segment, text=text.strip(), is_final=True))

    async def _read_stream(
        self, answer: Answer, segment: int, emit: Callable[[Transcript], None]
    ) -> str:
        text = ""
        while (event := await answer.event()) is not None:
            if event.data == b"[DONE]":
                continue
            reply = decode(self.name, REPLY, event.data)
            if reply.type == "transcript.text.delta":
                text += reply.delta
                emit(Transcript(segment=segment, text=text.strip(), is_final=False))
            elif reply.type == "transcript.text.done":
                return text if reply.text is None else reply.text
        raise ProviderError(self.name, "the stream ended early", retryable=True)


def wav_of(pcm: bytes) -> bytes:
    """``pcm`` as a WAV file at the telephone's rate."""
    file = io.BytesIO()
    writer: Any
    with wave.open(file, "wb") as writer:
        writer.setnchannels(1)
        writer.setsampwidth(2)
        writer.setframerate(RATE_HZ)
        writer.writeframes(pcm)
    return file.getvalue()
