"""Deepgram ``v2/listen`` (Flux): the documented state machine over the language of the fakes."""

from __future__ import annotations

from typing import Any, ClassVar

from rtcore.audio import RATE_HZ
from tests.fakes._ears import Ears, HeardWord
from tests.fakes._ws import FakeSocketServer, Session

EAGER_SAMPLES = RATE_HZ * 240 // 1000
END_SAMPLES = RATE_HZ * 480 // 1000


class FakeDeepgramFlux(FakeSocketServer):
    """Eager after 240 ms of silence, end of turn after 480 ms, or when told."""

    hears_alone: ClassVar[bool] = True

    error: ClassVar[object] = {
        "type": "Error",
        "sequence_id": 9,
        "code": "INTERNAL_SERVER_ERROR",
        "description": "x",
    }

    async def session(self, session: Session) -> None:
        if session.path != "/v2/listen":
            await session.socket.aclose(1008, "path")
            return
        await self.say(session, {"type": "Connected", "request_id": "r1", "sequence_id": 0})
        turn = _Turn(self, session)
        while True:
            message = await self.hear(session)
            if isinstance(message, bytes):
                await turn.audio(message)
            elif message["type"] == "ForceEndTurn":
                await turn.end("manual")
            elif message["type"] == "CloseStream":
                await turn.end("timeout")
                await session.socket.aclose(1000)
                return


class _Turn:
    def __init__(self, server: FakeDeepgramFlux, session: Session) -> None:
        self._server, self._session = server, session
        self._ears = Ears()
        self._index = 0
        self._words: list[HeardWord] = []
        self._eager = False

    async def audio(self, octets: bytes) -> None:
        had = len(self._words)
        self._ears.feed(octets)
        self._words += self._ears.words
        self._ears.words.clear()
        if self._eager and self._ears.silent_samples == 0:
            self._eager = False
            await self._say("TurnResumed", 0.2)
        if self._words and not had:
            await self._say("StartOfTurn", 0.1)
        elif self._words and self._ears.silent_samples >= END_SAMPLES:
            await self.end("model")
        elif self._words and self._ears.silent_samples >= EAGER_SAMPLES and not self._eager:
            self._eager = True
            await self._say("EagerEndOfTurn", 0.6)
        else:
            await self._say("Update", 0.1)

    async def end(self, trigger: str) -> None:
        self._words += self._ears.take()
        if self._words:
            await self._say("EndOfTurn", 0.9, trigger=trigger)
            self._index += 1
        self._words, self._eager = [], False

    async def _say(self, event: str, confidence: float, **more: Any) -> None:
        message = {
            "type": "TurnInfo",
            "request_id": "r1",
            "sequence_id": self._session.sent,
            "event": event,
            "turn_index": self._index,
            "audio_window_start": 0.0,
            "audio_window_end": self._ears.samples / RATE_HZ,
            "transcript": " ".join(word.text for word in self._words),
            "words": [
                {"word": w.text, "confidence": 0.9, "start": w.start_s, "end": w.end_s}
                for w in self._words
            ],
            "end_of_turn_confidence": confidence,
        }
        await self._server.say(self._session, message | more)
