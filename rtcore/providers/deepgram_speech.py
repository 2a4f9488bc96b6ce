"""Deepgram speech over a WebSocket, ``v1/speak``.

Source: deepgram-sdk 7.17.0 ``speak/v1``; deepgram-docs, flush and clear. Text is spoken at each
Flush, of which the service takes 20 in 60 s: segments should be sentences. ``Clear`` stops it;
binary frames until ``Cleared`` are late audio.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import msgspec

from rtcore.audio import RATE_HZ, mulaw_to_pcm
from rtcore.ports import CallContext, Segment, SpeechAudio
from rtcore.providers._faults import service_fault
from rtcore.providers._settings import find_secret
from rtcore.providers._speech import VoiceDialect, VoiceService, VoiceSettings
from rtcore.providers._wire import decode, encode_text
from rtcore.providers._ws import WebSocket, connect, ws_url

__all__ = ["DeepgramSpeechSettings", "DeepgramSynthesizer"]


class DeepgramSpeechSettings(VoiceSettings, frozen=True, kw_only=True):
    """The voice is part of the model's name; ``extra`` is added to the query."""

    model: str = "aura-2-thalia-en"
    key_name: str = "DEEPGRAM_API_KEY"
    base_url: str = "wss://api.deepgram.com"
    idle_limit_s: float = 30.0
    extra: dict[str, Any] = msgspec.field(default_factory=dict)


class _Message(msgspec.Struct):
    type: str = ""
    description: str = ""
    code: str = ""


MESSAGE = msgspec.json.Decoder(_Message)


class DeepgramSynthesizer(VoiceService):
    """A voice at Deepgram; fills :class:`rtcore.ports.Synthesizer`."""

    def __init__(
        self,
        settings: DeepgramSpeechSettings,
        secrets: Mapping[str, str],
        *,
        name: str = "deepgram_speech",
    ) -> None:
        super().__init__(name, settings)
        self._settings = settings
        self._secret = find_secret(secrets, settings.key_name)

    def _dialect(self, context: CallContext) -> VoiceDialect:
        return _Dialect(self.name)

    async def _open(self) -> WebSocket:
        query = {"model": self._settings.model, "encoding": "mulaw", "sample_rate": RATE_HZ}
        return await connect(
            self.name,
            ws_url(self._settings.base_url, "/v1/speak", query | self._settings.extra),
            headers={"authorization": f"Token {self._secret.reveal()}"},
            deadlines=self._settings.deadlines,
            secret=self._secret,
        )


class _Dialect:
    def __init__(self, provider: str) -> None:
        self._provider = provider
        self._asked: deque[int] = deque()  # each ends with a Flushed
        self.stale_clears = 0

    def segment(self, segment: Segment) -> Sequence[str]:
        self._asked.append(segment.index)
        return encode_text({"type": "Speak", "text": segment.text}), '{"type":"Flush"}'

    def cancel(self) -> Sequence[str]:
        if not self._asked:
            return ()
        self.stale_clears += 1
        return ('{"type":"Clear"}',)

    def take(self, message: str | bytes) -> Iterator[SpeechAudio]:
        if isinstance(message, bytes):
            if self._asked and not self.stale_clears:
                yield SpeechAudio(segment=self._asked[0], pcm=mulaw_to_pcm(message))
            return
        found = decode(self._provider, MESSAGE, message)
        if found.type == "Cleared":
            self.stale_clears = max(0, self.stale_clears - 1)
        elif found.type == "Flushed" and self._asked and not self.stale_clears:
            yield SpeechAudio(segment=self._asked.popleft(), pcm=b"", is_last=True)
        elif found.type == "Error":
            raise service_fault(self._provider, found.code, found.description)
