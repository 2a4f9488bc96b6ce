"""Deepgram's Voice Agent as documented: it finds the turns, and says one thing at a time."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import trio

from rtcore.audio import RATE_HZ, mulaw_to_pcm, pcm_to_mulaw
from tests.fakes._ears import SILENCE, Ears
from tests.fakes._talker import (
    RESULTS,
    Answer,
    Call,
    Part,
    arguments_of,
    is_loud,
    parts_of,
    pieces_of,
    scripted,
)
from tests.fakes._ws import FakeSocketServer, Session

SILENCE_SAMPLES = RATE_HZ * 480 // 1000


class FakeDeepgramAgent(FakeSocketServer):
    """Hears the language of the fakes and answers ``You said ...``, a sentence at a time.

    The word ``order`` makes it say so and call ``lookup`` first, twice if ``number`` was said.

    Args:
        answers: instead, to turns that are heard by their loudness; one that was not said to
            its end is given again.
        questions: what was said in those turns.
        piece_s: between two pieces of sound.
        refuses: lines that are injected are refused.
    """

    unknown: ClassVar[object] = {"type": "LatencyReport", "total_latency": 0.7}
    error: ClassVar[object] = {"type": "Error", "description": "scripted", "code": "SCRIPTED"}

    def __init__(
        self,
        answers: Sequence[Answer] = (),
        questions: Sequence[str] = (),
        *,
        piece_s: float = 0.0,
        refuses: bool = False,
    ) -> None:
        super().__init__()
        self.answers, self.questions = answers, questions
        self.answered = 0
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
        self._silent_samples = 0

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
            parts: list[Part] = [f"You told {message['content']}."]
            self._nursery.start_soon(self._answer, parts)
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
        if self._server.answers:
            is_voiced = is_loud(mulaw_to_pcm(octets))
            self._silent_samples = 0 if is_voiced else self._silent_samples + len(octets)
        else:
            self._ears.feed(octets)
            is_voiced = bool(octets.strip(bytes([SILENCE])))
            self._silent_samples = self._ears.silent_samples
            self._words += [word.text for word in self._ears.words]
            self._ears.words.clear()
        if is_voiced and not self._is_speaking:
            self._is_speaking = True
            await self._interrupt()
            await self._tell("UserStartedSpeaking")
        if self._is_speaking and self._silent_samples >= SILENCE_SAMPLES:
            self._is_speaking = False
            await self._turn_over()

    async def _turn_over(self) -> None:
        answers, questions = self._server.answers, self._server.questions
        words, self._words = self._words, []
        if answers:
            number = self._server.answered
            await self._said(questions[number % len(questions)] if questions else "")
            parts = scripted(answers[number % len(answers)])
        else:
            self._server.heard.append(" ".join(words))
            await self._said(" ".join(words))
            parts = parts_of(words)
        self._nursery.start_soon(self._answer, parts, bool(answers))

    async def _said(self, text: str) -> None:
        await self._tell("ConversationText", role="user", content=text)

    async def _interrupt(self) -> None:
        for scope in self._speaking:
            scope.cancel()
        self._speaking.clear()
        if self._results:
            dropped = [{"id": id, "name": "lookup"} for id in self._results]
            self._results.clear()
            await self._tell("FunctionCallCancelled", functions=dropped)

    async def _answer(self, parts: list[Part], is_answer: bool = False) -> None:
        results = ""
        with self._until_interrupted():
            await self._tell("AgentThinking", content="hm")
            async with trio.open_nursery() as voice:
                for part in parts:
                    if not isinstance(part, str):
                        results = await self._call(part)  # while it still says what came before
                    elif part is parts[-1]:
                        await self._speak(part.replace(RESULTS, results))
                    else:
                        voice.start_soon(self._speak, part)
            self._server.answered += is_answer

    async def _say(self, text: str) -> None:
        with self._until_interrupted():
            await self._speak(text)

    def _until_interrupted(self) -> trio.CancelScope:
        scope = trio.CancelScope()
        self._speaking.add(scope)
        return scope

    async def _call(self, calls: Sequence[Call]) -> str:
        asked: list[dict[str, Any]] = []
        for call in calls:
            self._calls += 1
            wanted = {"id": f"fc{self._calls}", "name": call[0], "arguments": arguments_of(call)}
            asked.append(wanted | {"client_side": True})
        waiting = {str(each["id"]): trio.Event() for each in asked}
        self._results |= waiting
        await self._tell("FunctionCallRequest", functions=asked)
        for event in waiting.values():
            await event.wait()
        results = {str(each["id"]): str(each["content"]) for each in self._server.results}
        return " and ".join(results[id] for id in waiting)

    async def _speak(self, text: str) -> None:
        async with self._mouth:
            for sentence in text.replace(". ", ".|").split("|"):
                await self._tell("ConversationText", role="assistant", content=sentence)
                latencies = {"total_latency": 0.5, "tts_latency": 0.1, "ttt_latency": 0.4}
                await self._tell("AgentStartedSpeaking", **latencies)
                for _, pcm in pieces_of(sentence, is_speech=bool(self._server.answers)):
                    await trio.sleep(self._server.piece_s)
                    self._server.spoken_pieces += 1
                    await self._send(pcm_to_mulaw(pcm))
            await self._tell("AgentAudioDone")
