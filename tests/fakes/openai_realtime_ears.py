"""OpenAI Realtime transcription sessions as documented: set up by message, items by commit."""

from __future__ import annotations

import array
import base64
from typing import Any, ClassVar

from rtcore.audio import RATE_HZ, pcm_to_mulaw
from tests.fakes._ears import Ears
from tests.fakes._ws import FakeSocketServer, Hung, Session

COMMIT_MIN_SAMPLES = RATE_HZ // 10
STREAMING = ("gpt-live-transcribe", "gpt-realtime-whisper")  # words before the commit, no turns
SPOKEN = "conversation.item.input_audio_transcription."


class FakeRealtimeEars(FakeSocketServer):
    """Hears the language of the fakes.

    Items numbered in ``held`` are completed after the next one, those in ``failed`` not at all.
    """

    hears_alone: ClassVar[bool] = True
    unknown: ClassVar[object] = {"type": "novelty.happened", "event_id": "e"}
    error: ClassVar[object] = {
        "type": "error",
        "event_id": "e9",
        "error": {"type": "server_error", "code": None, "message": "scripted", "event_id": None},
    }

    def __init__(self, *, held: frozenset[int] = frozenset(), failed: int | None = None) -> None:
        super().__init__()
        self.held = held
        self.failed = failed
        self.configured: list[dict[str, Any]] = []
        self.said: list[dict[str, Any]] = []

    async def say(self, session: Session, message: object) -> None:
        assert isinstance(message, dict)
        self.said.append({"event_id": f"event_{len(self.said)}"} | message)
        await super().say(session, self.said[-1])

    async def session(self, session: Session) -> None:
        if session.param("intent") != "transcription" or session.param("model") is not None:
            await self.refuse(session, "missing_model", "no model, and no intent")
        started = {"type": "session.created", "session": {"type": "transcription"}}
        await self.say(session, started)
        items: _Items | None = None
        while True:
            message = await self.hear(session)
            kind = message["type"]
            if kind == "session.update":
                items = _Items(self, session, await self._configure(session, message["session"]))
                await self.say(session, {"type": "session.updated", "session": message["session"]})
            elif items is None:
                await self.refuse(session, "invalid_value", "audio that is not pcm at 24 kHz")
            elif kind == "input_audio_buffer.append":
                await items.audio(base64.b64decode(message["audio"], validate=True))
            elif kind == "input_audio_buffer.commit":
                await items.commit_asked()
            else:
                await self.refuse(session, "invalid_value", f"{kind} is unknown")

    async def _configure(self, session: Session, given: dict[str, Any]) -> dict[str, Any]:
        assert given["type"] == "transcription"
        heard: dict[str, Any] = given["audio"]["input"]
        if heard["format"] not in ({"type": "audio/pcmu"}, {"type": "audio/pcm", "rate": 24_000}):
            await self.refuse(session, "invalid_value", "no such format")
        if heard["turn_detection"] and heard["transcription"]["model"] in STREAMING:
            await self.refuse(session, "invalid_value", "Turn detection is not supported")
        self.configured.append(heard)
        return heard

    async def refuse(self, session: Session, code: str, message: str) -> None:
        error = {"type": "invalid_request_error", "code": code, "message": message}
        await self.say(session, {"type": "error", "event_id": "e1", "error": error})
        raise Hung


class _Items:
    def __init__(
        self, server: FakeRealtimeEars, session: Session, configured: dict[str, Any]
    ) -> None:
        self._server, self._session = server, session
        self._is_pcm = configured["format"]["type"] == "audio/pcm"
        self._streams = configured["transcription"]["model"] in STREAMING
        turns = configured["turn_detection"]
        self._silence_samples = turns and turns.get("silence_duration_ms", 500) * RATE_HZ // 1000
        self._ears = Ears()
        self._number = 0
        self._words: list[str] = []
        self._samples = 0  # not committed
        self._held: list[dict[str, Any]] = []

    @property
    def _id(self) -> str:
        return f"item_{self._number}"

    async def audio(self, octets: bytes) -> None:
        mulaw = octets
        if self._is_pcm:
            mulaw = pcm_to_mulaw(array.array("h", octets)[::3].tobytes())
        self._samples += len(mulaw)
        had = len(self._words)
        self._ears.feed(mulaw)
        await self._hear(self._ears.words)
        self._ears.words.clear()
        if self._silence_samples is None:
            return
        if self._words and not had:
            await self._say("input_audio_buffer.speech_started", audio_start_ms=0)
        if self._words and self._ears.silent_samples >= self._silence_samples:
            await self._say("input_audio_buffer.speech_stopped", audio_end_ms=0)
            await self._commit()

    async def commit_asked(self) -> None:
        await self._hear(self._ears.take())
        if self._samples < COMMIT_MIN_SAMPLES:
            error = {
                "type": "invalid_request_error",
                "code": "input_audio_buffer_commit_empty",
                "message": "buffer too small",
            }
            await self._server.say(self._session, {"type": "error", "error": error})
            return
        await self._commit()

    async def _hear(self, words: list[Any]) -> None:
        for word in words:
            if self._streams:
                await self._delta(word.text)
            self._words.append(word.text)

    async def _delta(self, word: str) -> None:
        delta = f" {word}" if self._words else word
        await self._say(f"{SPOKEN}delta", content_index=0, delta=delta)

    async def _commit(self) -> None:
        words, self._words = self._words, []
        await self._say("input_audio_buffer.committed", previous_item_id=None)
        content = [{"type": "input_audio", "transcript": None}]
        item = {"id": self._id, "type": "message", "role": "user", "content": content}
        await self._say("conversation.item.added", item=item)
        if self._number == self._server.failed:
            error = {"type": "transcription_error", "code": None, "message": "scripted"}
            await self._say(f"{SPOKEN}failed", content_index=0, error=error)
        else:
            for word in () if self._streams else words:
                await self._delta(word)
                self._words.append(word)
            completed = {
                "type": f"{SPOKEN}completed",
                "item_id": self._id,
                "content_index": 0,
                "transcript": " ".join(words),
                "usage": {"type": "duration", "seconds": self._samples / RATE_HZ},
            }
            if self._number in self._server.held:
                self._held.append(completed)
            else:
                for each in (completed, *self._held):
                    await self._server.say(self._session, each)
                self._held.clear()
        self._number += 1
        self._words, self._samples = [], 0

    async def _say(self, kind: str, **more: Any) -> None:
        await self._server.say(self._session, {"type": kind, "item_id": self._id, **more})
