"""A node in a few lines, on plain JSON: what the fake carrier's tests talk to."""

from __future__ import annotations

import json
from base64 import b64decode, b64encode
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Any

import trio

from rtcore.audio import pcm_to_mulaw
from rtcore.errors import SocketClosed
from rtcore.testing import MemorySocket

FRAME = 160


class TinyNode:
    """Hears everything; plays, marks and clears when the test says so."""

    def __init__(self, socket: MemorySocket) -> None:
        self.socket = socket
        self.heard: list[tuple[float, dict[str, Any]]] = []
        self.started = trio.Event()
        self.stream_id = ""

    async def messages(self) -> AsyncIterator[dict[str, Any]]:
        with suppress(SocketClosed):
            while True:
                for text in await self.socket.receive():
                    yield json.loads(text)

    async def listen(self) -> None:
        async for message in self.messages():
            self.heard.append((trio.current_time(), message))
            if message["event"] == "start":
                self.stream_id = message["start"]["streamId"]
                self.started.set()

    def of_kind(self, kind: str) -> list[tuple[float, dict[str, Any]]]:
        return [(at, message) for at, message in self.heard if message["event"] == kind]

    @property
    def media(self) -> list[bytes]:
        return [b64decode(message["media"]["payload"]) for _, message in self.of_kind("media")]

    def send(self, **message: object) -> bool:
        return self.socket.send(json.dumps(message).encode())

    def play(self, pcm: bytes) -> bool:
        payload = b64encode(pcm_to_mulaw(pcm)).decode()
        media = {"contentType": "audio/x-mulaw", "sampleRate": 8000, "payload": payload}
        return self.send(event="playAudio", media=media)

    def mark(self, name: str) -> bool:
        return self.send(event="checkpoint", streamId=self.stream_id, name=name)

    def clear(self) -> bool:
        return self.send(event="clearAudio", streamId=self.stream_id)

    async def play_paced(self, pcm: bytes, lead_ms: float = 120) -> None:
        """20 ms at a time, ahead of the ear by ``lead_ms``, as a node should."""
        began_s = trio.current_time()
        for number, at in enumerate(range(0, len(pcm), 2 * FRAME)):
            await trio.sleep_until(began_s + (number * 20 - lead_ms) / 1000)
            self.play(pcm[at : at + 2 * FRAME])
        await trio.sleep_until(began_s + len(pcm) / 16000 - lead_ms / 1000)
