"""Speech over plain HTTP: OpenAI, and local servers that imitate it.

Source: openai-openapi, ``/audio/speech``. There is no µ-law: ``pcm`` is int16 at 24 kHz. One
request for each segment; the next is under way while one is read, its sound waiting in the
connection.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec
import trio

from rtcore.audio import RATE_HZ, RATES_HZ, Resampler
from rtcore.channels import put
from rtcore.errors import ConfigError, ProviderError
from rtcore.ports import CallContext, Segment, SpeechAudio
from rtcore.providers._http import Answer
from rtcore.providers._http_service import HttpService, bearer_client
from rtcore.providers._settings import Deadlines, Settings
from rtcore.providers._tasks import run_beside

__all__ = ["OpenAISpeechSettings", "OpenAISynthesizer"]

_Asked = tuple[int, Answer] | ProviderError  # a segment's answer, or why there is none


class OpenAISpeechSettings(Settings, frozen=True):
    """``extra`` is merged into each request: ``instructions``, ``speed``..."""

    model: str = "gpt-4o-mini-tts"
    voice: str = "marin"
    base_url: str = "https://api.openai.com/v1"
    key_name: str | None = "OPENAI_API_KEY"  # None: a local server that asks for none
    rate_hz: int = 24_000  # of the service's pcm
    extra: dict[str, Any] = msgspec.field(default_factory=dict)
    deadlines: Deadlines = Deadlines(first_byte_s=2.5)


class OpenAISynthesizer(HttpService):
    """A voice behind an OpenAI-compatible endpoint; fills :class:`rtcore.ports.Synthesizer`."""

    def __init__(
        self,
        settings: OpenAISpeechSettings,
        secrets: Mapping[str, str],
        *,
        name: str = "openai_speech",
    ) -> None:
        super().__init__(
            bearer_client(name, settings.base_url, secrets, settings.key_name, settings.deadlines)
        )
        if settings.rate_hz not in RATES_HZ:
            raise ConfigError("rate_hz", f"{settings.rate_hz} is none of {RATES_HZ}")
        self._settings = settings

    async def synthesize(
        self,
        context: CallContext,
        segments: trio.MemoryReceiveChannel[Segment],
        out: trio.MemorySendChannel[SpeechAudio],
    ) -> None:
        """Speak one reply; see :class:`rtcore.ports.Synthesizer`."""
        tx, rx = trio.open_memory_channel[_Asked](0)

        async def read_all() -> None:
            async for asked in rx:
                if isinstance(asked, ProviderError):
                    raise asked  # only now: what was asked before it is spoken
                segment, answer = asked
                async with answer:
                    await self._read(segment, answer, out)

        with rx:
            await run_beside(read_all, lambda: self._ask_for(segments, tx))

    async def _ask_for(
        self,
        segments: trio.MemoryReceiveChannel[Segment],
        tx: trio.MemorySendChannel[_Asked],
    ) -> None:
        with tx:
            async for segment in segments:
                body = {
                    "model": self._settings.model,
                    "voice": self._settings.voice,
                    "input": segment.text,
                    "response_format": "pcm",
                }
                try:
                    answer = await self._client.post("/audio/speech", body | self._settings.extra)
                except ProviderError as exc:
                    await tx.send(exc)
                    return
                try:
                    await tx.send((segment.index, answer))
                except BaseException:  # cancelled before anyone owned it
                    await answer.aclose()
                    raise

    async def _read(
        self, segment: int, answer: Answer, out: trio.MemorySendChannel[SpeechAudio]
    ) -> None:
        resampler = Resampler(self._settings.rate_hz, RATE_HZ)
        rest = b""
        while (octets := await answer.piece()) is not None:
            octets = rest + octets
            whole = len(octets) & ~1  # the network may cut a sample in two
            rest = octets[whole:]
            if pcm := resampler.push(octets[:whole]):
                await put(out, SpeechAudio(segment=segment, pcm=pcm))
        await put(out, SpeechAudio(segment=segment, pcm=resampler.flush(), is_last=True))
