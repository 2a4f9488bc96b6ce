"""ElevenLabs ``multi-stream-input`` as documented: contexts, alignment, at most five at once."""

from __future__ import annotations

import base64
from dataclasses import dataclass, field
from typing import Any, ClassVar

import trio

from tests.fakes import _voice
from tests.fakes._ws import FakeSocketServer, Session

CONTEXTS_MAX = 5
CHAR_MS = 10


@dataclass
class Context:
    """One voice; its first closing lets it finish, a second one stops it."""

    text: str = ""
    has_flushed: bool = False
    is_closing: bool = False
    scope: trio.CancelScope = field(default_factory=trio.CancelScope)


class FakeElevenLabs(FakeSocketServer):
    """Contexts speak at the same time; ``late_pieces`` still come after one is stopped.

    ``snake_case`` writes ``is_final`` and ``context_id``, as some versions do.
    """

    unknown: ClassVar[object] = {"novelty": {"deep": 1}}
    error: ClassVar[object] = {"error": "internal_server_error", "message": "scripted fault"}

    def __init__(
        self, *, piece_s: float = 0.0, late_pieces: int = 0, snake_case: bool = False
    ) -> None:
        super().__init__()
        self.piece_s = piece_s
        self.late_pieces = late_pieces
        self.snake_case = snake_case
        self.spoken_pieces = 0
        self.most_contexts = 0

    async def session(self, session: Session) -> None:
        contexts: dict[str, Context] = {}
        async with trio.open_nursery() as nursery:
            while True:
                told = await self.hear(session)
                if told.get("close_socket"):
                    nursery.cancel_scope.cancel()
                    break
                name = told["context_id"]
                if name not in contexts and "text" not in told:
                    continue  # a context that has ended
                context = contexts.setdefault(name, Context())
                self.most_contexts = max(self.most_contexts, len(contexts))
                if len(contexts) > CONTEXTS_MAX:
                    await session.socket.aclose(1008, "max_active_conversations")
                    return
                context.text += told.get("text", "")
                if told.get("flush"):
                    context.has_flushed = True
                if told.get("close_context"):
                    if context.is_closing:
                        context.scope.cancel()
                    else:
                        context.is_closing = True
                        nursery.start_soon(self._speak, session, contexts, name)
        await session.socket.aclose(1000)

    async def _speak(self, session: Session, contexts: dict[str, Context], name: str) -> None:
        context = contexts[name]
        with context.scope:
            for piece in _voice.pieces_of(context.text.strip()) if context.has_flushed else ():
                await trio.sleep(self.piece_s)
                self.spoken_pieces += 1
                await self.say(session, self._chunk(name, piece))
        if context.scope.cancelled_caught:
            for _ in range(self.late_pieces):
                await self.say(session, self._chunk(name, "late"))
        del contexts[name]
        final = {"is_final": True} if self.snake_case else {"isFinal": True}
        await self.say(session, {"audio": None, **final, **self._named(name)})

    def _chunk(self, name: str, text: str) -> dict[str, Any]:
        alignment = {
            "chars": list(text),
            "charStartTimesMs": [n * CHAR_MS for n in range(len(text))],
            "charsDurationsMs": [CHAR_MS] * len(text),
        }
        audio = base64.b64encode(_voice.mulaw_of(text)).decode()
        chunk = {"audio": audio, "alignment": alignment, "normalizedAlignment": alignment}
        return chunk | {"isFinal": None} | self._named(name)

    def _named(self, name: str) -> dict[str, str]:
        return {"context_id" if self.snake_case else "contextId": name}
