"""Cartesia ``tts/websocket`` as documented: contexts, word timestamps, cancel."""

from __future__ import annotations

import base64
from typing import Any, ClassVar

import trio

from rtcore.audio import RATE_HZ
from tests.fakes import _voice
from tests.fakes._ws import FakeSocketServer, Session

OUTPUT = {"container": "raw", "encoding": "pcm_mulaw", "sample_rate": RATE_HZ}


class FakeCartesia(FakeSocketServer):
    """Contexts speak at the same time; ``late_pieces`` still come after one is cancelled."""

    unknown: ClassVar[object] = {"type": "novelty", "context_id": "s0", "data": [1]}
    error: ClassVar[object] = {
        "type": "error",
        "title": "Scripted",
        "message": "scripted fault",
        "error_code": "server_error",
        "status_code": 500,
    }

    def __init__(self, *, piece_s: float = 0.0, late_pieces: int = 0) -> None:
        super().__init__()
        self.piece_s = piece_s
        self.late_pieces = late_pieces
        self.spoken_pieces = 0

    async def session(self, session: Session) -> None:
        scopes: dict[str, trio.CancelScope] = {}
        async with trio.open_nursery() as nursery:
            while True:
                told = await self.hear(session)
                name = told["context_id"]
                if told.get("cancel"):
                    if name in scopes:
                        scopes[name].cancel()
                    continue
                if complaint := _complaint(session, told):
                    error = {"type": "error", "context_id": name, "message": complaint}
                    await self.say(session, error | {"status_code": 400, "title": "Bad request"})
                    continue
                scopes[name] = trio.CancelScope()
                nursery.start_soon(self._speak, session, scopes, name, told)

    async def _speak(
        self, session: Session, scopes: dict[str, trio.CancelScope], name: str, told: Any
    ) -> None:
        text = told["transcript"]
        with scopes[name] as scope:
            for piece in _voice.pieces_of(text):
                await trio.sleep(self.piece_s)
                self.spoken_pieces += 1
                await self.say(session, _chunk(name, piece))
            if told.get("add_timestamps"):
                times = {"type": "timestamps", "context_id": name, "word_timestamps": _times(text)}
                await self.say(session, times | {"done": False, "status_code": 206})
        if scope.cancelled_caught:
            for _ in range(self.late_pieces):
                await self.say(session, _chunk(name, "late"))
        del scopes[name]
        await self.say(session, {"type": "done", "context_id": name, "done": True})


def _complaint(session: Session, told: Any) -> str:
    if "cartesia-version" not in session.headers:
        return "Cartesia-Version is missing"
    missing = {"model_id", "voice", "output_format", "transcript"} - told.keys()
    if missing:
        return f"missing {sorted(missing)}"
    return "" if told["output_format"] == OUTPUT else "unsupported output format"


def _chunk(name: str, text: str) -> dict[str, Any]:
    data = base64.b64encode(_voice.mulaw_of(text)).decode()
    common = {"context_id": name, "done": False, "status_code": 206, "step_time": 1.5}
    return {"type": "chunk", "data": data, "flush_id": 0} | common


def _times(text: str) -> dict[str, Any]:
    words = text.split()
    starts: list[float] = []
    at = 0
    for word in words:
        at = text.index(word, at)
        starts.append(at * _voice.CHAR_SAMPLES / RATE_HZ)
        at += len(word)
    seconds = [len(word) * _voice.CHAR_SAMPLES / RATE_HZ for word in words]
    return {
        "words": words,
        "start": starts,
        "end": [a + b for a, b in zip(starts, seconds, strict=True)],
    }
