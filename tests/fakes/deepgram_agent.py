"""Deepgram's Voice Agent as documented: it finds the turns, and says one thing at a time."""

from __future__ import annotations

from typing import Any, ClassVar

import trio

from rtcore.audio import RATE_HZ
from tests.fakes import _voice
from tests.fakes._ears import SILENCE, Ears
from tests.fakes._ws import FakeSocketServer, Session

SILENCE_SAMPLES = RATE_HZ * 480 // 1000


class FakeDeepgramAgent(FakeSocketServer):
    """Hears the language of the fakes and answers ``You said ...``, a sentence at a time.

    The word ``order`` makes it say so and call ``lookup`` first, twice if ``number`` was said.

    Args:
        piece_s: between two pieces of sound.
        refuses: lines that are injected are refused.
    """

    unknown: ClassVar[object] = {"type": "LatencyReport", "total_latency": 0.7}
    error: ClassVar[object] = {"type": "Error", "description": "scripted", "code": "SCRIPTED"}

    def __init__(self, *, piece_s: float = 0.0, refuses: bool = False) -> None:
        super().__init__()
        self.piece_s = piece_s
        self.refuses = refuses
        self.settings: list[dict[str, Any]] = []
        self.heard: list[str] = []
        self.prompts: list[str] = []
        self.results: list[dict[str, Any]] = []
        self.spoken_pieces = 0

    async def session(self, session: Session) -> None:
        await self.say(session, {"type": "Welcome", "request_id": "r1"})
        settings = await self.hear(session)
        if session.path != "/v1/agent/converse" or not _is_settings(settings):
            await session.socket.aclose(1008, "Settings first")
            return
        self.settings.append(settings)
        await self.say(session, {"type": "SettingsApplied"})
        async with trio.open_nursery() as nursery:
            talk = _Talk(self, session, nursery)
            while True:
                await talk.take(await self.hear(session))


def _is_settings(message: Any) -> bool:
    mulaw = {"encoding": "mulaw", "sample_rate": 8000}
    return (
        isinstance(message, dict)
        and message["type"] == "Settings"
        and message["audio"] == {"input": mulaw, "output": mulaw | {"container": "none"}}
    )


class _Talk:
    def __init__(self, server: FakeDeepgramAgent, session: Session, nursery: trio.Nursery) -> None:
        self._server, self._session, self._nursery = server, session, nursery
        self._ears = Ears()
        self._words: list[str] = []
        self._is_speaking = False  # the caller
        self._speaking: set[trio.CancelScope] = set()  # all the agent does
        self._mouth = trio.Lock()
        self._sending = trio.Lock()
        self._results: dict[str, trio.Event] = {}
        self._calls = 0

    async def take(self, message: Any) -> None:
        if isinstance(message, bytes):
            await self._audio(message)
            return
        kind = message["type"]
        if kind == "InjectAgentMessage" and self._server.refuses:
            await self._tell("InjectionRefused", message="somebody speaks")
        elif kind == "InjectAgentMessage":
            assert message["behavior"] == "queue"
            self._nursery.start_soon(self._say, message["message"])
        elif kind == "InjectUserMessage":
            await self._tell("ConversationText", role="user", content=message["content"])
            self._nursery.start_soon(self._answer, f"You told {message['content']}.", 0)
        elif kind == "UpdatePrompt":
            self._server.prompts.append(message["prompt"])
            await self._tell("PromptUpdated")
        elif kind == "UpdateThink":
            self._server.prompts.append(message["think"]["prompt"])
            await self._tell("ThinkUpdated")
        else:
            assert kind == "FunctionCallResponse"
            self._server.results.append(message)
            self._results.pop(message["id"]).set()

    async def _tell(self, kind: str, **body: Any) -> None:
        await self._send({"type": kind, **body})

    async def _send(self, message: object) -> None:
        async with self._sending:
            await self._server.say(self._session, message)

    async def _audio(self, octets: bytes) -> None:
        self._ears.feed(octets)
        if not self._is_speaking and octets.strip(bytes([SILENCE])):
            self._is_speaking = True
            await self._interrupt()
            await self._tell("UserStartedSpeaking")
        self._words += [word.text for word in self._ears.words]
        self._ears.words.clear()
        if self._is_speaking and self._ears.silent_samples >= SILENCE_SAMPLES:
            self._is_speaking = False
            words, self._words = self._words, []
            self._server.heard.append(" ".join(words))
            await self._tell("ConversationText", role="user", content=" ".join(words))
            calls = ("order" in words) + ("order" in words and "number" in words)
            self._nursery.start_soon(self._answer, f"You said {' '.join(words)}.", calls)

    async def _interrupt(self) -> None:
        for scope in self._speaking:
            scope.cancel()
        self._speaking.clear()
        if self._results:
            dropped = [{"id": id, "name": "lookup"} for id in self._results]
            self._results.clear()
            await self._tell("FunctionCallCancelled", functions=dropped)

    async def _answer(self, text: str, calls: int) -> None:
        with self._until_interrupted():
            await self._tell("AgentThinking", content="hm")
            if calls:
                async with trio.open_nursery() as both:
                    both.start_soon(self._speak, "One moment.")
                    await self._call(calls)
                text = f"It is {' and '.join(r['content'] for r in self._server.results)}. Done."
            await self._speak(text)

    async def _say(self, text: str) -> None:
        with self._until_interrupted():
            await self._speak(text)

    def _until_interrupted(self) -> trio.CancelScope:
        scope = trio.CancelScope()
        self._speaking.add(scope)
        return scope

    async def _call(self, calls: int) -> None:
        asked: list[dict[str, Any]] = []
        for _ in range(calls):
            self._calls += 1
            call = {"id": f"fc{self._calls}", "name": "lookup", "arguments": '{"id": "1"}'}
            asked.append(call | {"client_side": True})
        waiting = {str(each["id"]): trio.Event() for each in asked}
        self._results |= waiting
        await self._tell("FunctionCallRequest", functions=asked)
        for event in waiting.values():
            await event.wait()

    async def _speak(self, text: str) -> None:
        async with self._mouth:
            for sentence in text.replace(". ", ".|").split("|"):
                await self._tell("ConversationText", role="assistant", content=sentence)
                latencies = {"total_latency": 0.5, "tts_latency": 0.1, "ttt_latency": 0.4}
                await self._tell("AgentStartedSpeaking", **latencies)
                for piece in _voice.pieces_of(sentence):
                    await trio.sleep(self._server.piece_s)
                    self._server.spoken_pieces += 1
                    await self._send(_voice.mulaw_of(piece))
            await self._tell("AgentAudioDone")
