"""Deepgram ``v1/speak`` as documented: Speak, Flush, Clear, Close; audio is binary."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import trio

from tests.fakes import _voice
from tests.fakes._ws import FakeSocketServer, Session


class FakeDeepgramSpeak(FakeSocketServer):
    """Speaks at each Flush; ``late_pieces`` of audio still come after a Clear."""

    def __init__(self, *, piece_s: float = 0.0, late_pieces: int = 0) -> None:
        super().__init__()
        self.piece_s = piece_s
        self.late_pieces = late_pieces
        self.spoken_pieces = 0
        self.first_s = 0.0  # from a Flush to its first sound

    async def session(self, session: Session) -> None:
        tx, rx = trio.open_memory_channel[Any](100)
        speech = _Speech()
        await self.say(session, {"type": "Metadata", "request_id": "r1", "model_name": "aura"})
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._listen, session, speech, tx)
            sequence, text = 0, ""
            async for command in rx:
                kind = command["type"]
                if kind == "Speak":
                    text += command["text"]
                elif kind == "Flush" and not speech.clears:
                    await self._speak(session, speech, text)
                    await self.say(session, {"type": "Flushed", "sequence_id": sequence})
                    sequence, text = sequence + 1, ""
                elif kind == "Clear":
                    text = ""
                    speech.clears -= 1
                    for _ in range(self.late_pieces):
                        await self.say(session, _voice.mulaw_of("late"))
                    await self.say(session, {"type": "Cleared", "sequence_id": sequence})
                elif kind == "Close":
                    await session.socket.aclose(1000)
                    return

    async def _listen(
        self, session: Session, speech: _Speech, tx: trio.MemorySendChannel[Any]
    ) -> None:
        while True:
            command = await self.hear(session)
            if command["type"] == "Clear":
                speech.clears += 1
                speech.scope.cancel()
            await tx.send(command)

    async def _speak(self, session: Session, speech: _Speech, text: str) -> None:
        with trio.CancelScope() as speech.scope:
            await trio.sleep(self.first_s)
            for piece in _voice.pieces_of(text):
                await trio.sleep(self.piece_s)
                self.spoken_pieces += 1
                await self.say(session, _voice.mulaw_of(piece))


@dataclass
class _Speech:
    """What a session is saying; a Clear overtakes what waits before it."""

    clears: int = 0  # told and not yet answered
    scope: trio.CancelScope = field(default_factory=trio.CancelScope)
