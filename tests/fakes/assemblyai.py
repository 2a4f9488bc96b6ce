"""AssemblyAI streaming v3 as documented: turns, forced endpoints, limits on message length."""

from __future__ import annotations

from typing import Any, ClassVar

import trio

from rtcore.audio import RATE_HZ
from tests.fakes._ears import Ears, HeardWord
from tests.fakes._ws import FakeSocketServer, Session

MESSAGE_MIN_SAMPLES = RATE_HZ * 50 // 1000
MESSAGE_MAX_SAMPLES = RATE_HZ


class FakeAssemblyAI(FakeSocketServer):
    """Ends a turn after ``max_turn_silence`` or when told; ``inactivity_timeout`` is in seconds,
    divided by ``hurry`` so that a test need not wait."""

    hears_alone: ClassVar[bool] = True
    unknown: ClassVar[object] = {"type": "Novelty", "detail": 1}
    error: ClassVar[object] = {
        "type": "Error",
        "error_code": 3005,
        "error": "scripted server_error",
    }

    def __init__(self, *, hurry: float = 1.0) -> None:
        super().__init__()
        self.hurry = hurry

    async def session(self, session: Session) -> None:
        await self.say(session, {"type": "Begin", "id": "s1", "expires_at": 1_800_000_000})
        turn = _Turn(self, session)
        limit_s = float(session.param("inactivity_timeout") or 3600) / self.hurry
        while True:
            with trio.move_on_after(limit_s) as idle:
                message = await self.hear(session)
            if idle.cancelled_caught:
                await session.socket.aclose(3008, "Session Expired")
                return
            if isinstance(message, bytes):
                if not MESSAGE_MIN_SAMPLES <= len(message) <= MESSAGE_MAX_SAMPLES:
                    await session.socket.aclose(3007, "Input Duration Violation")
                    return
                await turn.audio(message)
            elif message["type"] == "ForceEndpoint":
                await turn.end()
            elif message["type"] == "Terminate":
                await turn.end()
                seconds = len(session.octets) / RATE_HZ
                await self.say(session, {"type": "Termination", "audio_duration_seconds": seconds})
                await session.socket.aclose(1000)
                return


class _Turn:
    def __init__(self, server: FakeAssemblyAI, session: Session) -> None:
        self._server, self._session = server, session
        self._ears = Ears()
        self._order = 0
        self._words: list[HeardWord] = []
        self._formats = session.param("format_turns") == "true"
        self._silence = int(session.param("max_turn_silence") or 1280) * RATE_HZ // 1000

    async def audio(self, octets: bytes) -> None:
        had = len(self._words)
        self._ears.feed(octets)
        self._words += self._ears.words
        self._ears.words.clear()
        if len(self._words) > had:
            await self._say(end_of_turn=False, formatted=False)
        elif self._words and self._ears.silent_samples >= self._silence:
            await self.end()

    async def end(self) -> None:
        self._words += self._ears.take()
        if not self._words:
            return
        await self._say(end_of_turn=True, formatted=False)
        if self._formats:
            await self._say(end_of_turn=True, formatted=True)
        self._order += 1
        self._words = []

    async def _say(self, *, end_of_turn: bool, formatted: bool) -> None:
        settled = self._words if end_of_turn else self._words[:-1]
        words: list[dict[str, Any]] = [
            {
                "text": word.text,
                "start": round(word.start_s * 1000),
                "end": round(word.end_s * 1000),
                "confidence": 0.9,
                "word_is_final": word in settled,
            }
            for word in self._words
        ]
        text = " ".join(word.text for word in settled)
        message = {
            "type": "Turn",
            "turn_order": self._order,
            "turn_is_formatted": formatted,
            "end_of_turn": end_of_turn,
            "transcript": text.capitalize() + "." if formatted else text,
            "end_of_turn_confidence": 0.8 if end_of_turn else 0.1,
            "words": words,
        }
        await self._server.say(self._session, message)
