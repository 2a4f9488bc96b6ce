"""Gemini Live as documented: set up by message, one thing made at a time, nothing has a name."""

from __future__ import annotations

import array
import base64
from collections.abc import Sequence
from typing import Any, ClassVar

import msgspec
import trio

from rtcore.audio import RATE_HZ, pcm_to_mulaw
from tests.fakes._ears import Ears
from tests.fakes._talker import (
    RESULTS,
    Answer,
    Part,
    is_loud,
    parts_of,
    pieces_of,
    scripted,
)
from tests.fakes._ws import FakeSocketServer, Session

PATH = "/ws/google.ai.generativelanguage.v1beta.GenerativeService.BidiGenerateContent"
MEANT = "exactly as they are written"  # what follows a blank line after it is to be said


class FakeGeminiLive(FakeSocketServer):
    """Hears the language of the fakes and answers ``You said ...``.

    The word ``order`` makes it call ``lookup`` first, twice if ``number`` was said too.

    Args:
        answers: instead, to turns that are heard by their loudness; one that was not said to
            its end is given again.
        questions: what was said in those turns.
        piece_s: between two pieces of sound.
        playback_s: from the end of what is made to ``turnComplete``, as if it were heard; None:
            for as long as it would be.
        go_away_after: turns, after which the connection is to end; 0: while the first is asked for.
        late_words: the last of what is said is transcribed when all of it is made.
        is_mute_before_start: an answer that is interrupted before it began ends unsaid.
    """

    unknown: ClassVar[object] = {"novelty": {"depth": [1, 2]}}
    error: ClassVar[object] = "not json"

    def __init__(
        self,
        answers: Sequence[Answer] = (),
        questions: Sequence[str] = (),
        *,
        piece_s: float = 0.0,
        first_s: float = 0.0,
        playback_s: float | None = 0.0,
        go_away_after: int | None = None,
        late_words: bool = False,
        is_mute_before_start: bool = False,
    ) -> None:
        super().__init__()
        self._sending = trio.Lock()
        self.answers, self.questions = answers, questions
        self.answered = 0
        self.piece_s = piece_s
        self.first_s = first_s
        self.playback_s = playback_s
        self.go_away_after = go_away_after
        self.late_words = late_words
        self.is_mute_before_start = is_mute_before_start
        self.setups: list[dict[str, Any]] = []
        self.contents: list[dict[str, Any]] = []  # ``clientContent`` of all sessions
        self.results: list[dict[str, Any]] = []
        self.heard: list[str] = []  # turns, as they were understood
        self.spoken_pieces = 0
        self.handles = 0  # given, by which a session can be resumed

    async def session(self, session: Session) -> None:
        first = await self.hear(session)
        if session.path != PATH or "setup" not in first:
            await session.socket.aclose(1007, "setup first")
            return
        setup = first["setup"]
        self.setups.append(setup)
        assert setup["model"].startswith("models/")
        assert setup["generationConfig"]["responseModalities"] == ["AUDIO"]
        await self.tell(session, {"setupComplete": {}})
        async with trio.open_nursery() as nursery:
            talk = _Talk(self, session, setup, nursery)
            while True:
                await talk.take(await self.hear(session))

    async def tell(self, session: Session, message: dict[str, Any]) -> None:
        """Each message comes as a binary frame of JSON."""
        async with self._sending:
            await self.say(session, msgspec.json.encode(message))


class _Talk:
    def __init__(
        self, server: FakeGeminiLive, session: Session, setup: dict[str, Any], nursery: trio.Nursery
    ) -> None:
        self._server, self._session, self._nursery = server, session, nursery
        detection = setup["realtimeInputConfig"]["automaticActivityDetection"]
        self._is_manual = detection.get("disabled", False)
        self._silence_samples = detection.get("silenceDurationMs", 480) * RATE_HZ // 1000
        self._awaits_history = "historyConfig" in setup
        self._is_active = False
        self._ears = Ears()
        self._words: list[str] = []
        self._told: list[str] = []  # and not yet answered
        self._making: trio.CancelScope | None = None
        self._has_begun = False
        self._results: dict[str, trio.Event] = {}
        self._outputs: dict[str, str] = {}
        self._turns = 0
        self._calls = 0
        self._silent_samples = 0
        self._played_until = 0.0

    async def take(self, message: dict[str, Any]) -> None:
        (kind, body), *more = message.items()
        assert not more
        if kind == "clientContent":
            await self._client_content(body)
        elif kind == "toolResponse":
            for each in body["functionResponses"]:
                self._server.results.append(each)
                self._outputs[each["id"]] = each["response"]["output"]
                self._results.pop(each["id"]).set()
        elif kind == "realtimeInput":
            (what, value), *more = body.items()
            assert not more
            assert (what in ("activityStart", "activityEnd")) <= self._is_manual
            if what == "activityStart":
                assert not self._is_active
                self._is_active = True
                await self._interrupt()
            elif what == "activityEnd":
                assert self._is_active
                self._is_active = False
                await self._turn_over()
                if self._server.go_away_after == 0 and len(self._server.sessions) == 1:
                    await self._server.tell(self._session, {"goAway": {"timeLeft": "50s"}})
            else:
                await self._audio(value)

    async def _client_content(self, body: dict[str, Any]) -> None:
        self._server.contents.append(body)
        if self._awaits_history:
            assert body["turnComplete"]
            self._awaits_history = False
            return
        await self._interrupt()
        self._told += [part["text"] for turn in body["turns"] for part in turn["parts"]]
        if body["turnComplete"]:
            text, self._told = "\n".join(self._told), []
            said = text.partition("\n\n")[2] if MEANT in text else f"You told {text}."
            await self._make([said])

    async def _audio(self, blob: dict[str, str]) -> None:
        assert blob["mimeType"] == "audio/pcm;rate=16000"
        if self._is_manual and not self._is_active:
            return
        pcm = array.array("h", base64.b64decode(blob["data"], validate=True))[::2].tobytes()
        had = bool(self._words)
        if self._server.answers:
            is_silent = not is_loud(pcm)
            self._silent_samples = self._silent_samples + len(pcm) // 2 if is_silent else 0
            if not is_silent and not had:
                self._words = ["heard"]
        else:
            self._ears.feed(pcm_to_mulaw(pcm))
            self._words += [word.text for word in self._ears.words]
            self._ears.words.clear()
            self._silent_samples = self._ears.silent_samples
        if self._is_manual or not self._words:
            return
        if not had:
            await self._interrupt()
        if self._silent_samples >= self._silence_samples:
            await self._turn_over()

    async def _turn_over(self) -> None:
        answers, questions = self._server.answers, self._server.questions
        self._words += [word.text for word in self._ears.take()]
        words, self._words = self._words, []
        if answers:
            number = self._server.answered
            words = questions[number % len(questions)].split() if questions else []
            await self._make(scripted(answers[number % len(answers)]), words, is_answer=True)
            return
        self._server.heard.append(" ".join(words))
        await self._make(parts_of(words), words)

    async def _interrupt(self) -> None:
        if self._making is None:
            return
        self._making.cancel()
        self._making = None
        if self._server.is_mute_before_start and not self._has_begun:
            return
        if self._results:
            cancelled = {"ids": list(self._results)}
            self._results.clear()
            await self._server.tell(self._session, {"toolCallCancellation": cancelled})
        await self._content(interrupted=True)
        await self._turn_complete()

    async def _make(
        self, parts: list[Part], words: Sequence[str] = (), *, is_answer: bool = False
    ) -> None:
        self._making, self._has_begun = trio.CancelScope(), False
        self._nursery.start_soon(self._generate, self._making, parts, words, is_answer)

    async def _generate(
        self, scope: trio.CancelScope, parts: list[Part], words: Sequence[str], is_answer: bool
    ) -> None:
        results = ""
        with scope:
            await trio.sleep(self._server.first_s)
            self._has_begun, self._played_until = True, trio.current_time()
            for word in words:  # the caller's words come beside the answer, in no order
                await self._content(inputTranscription={"text": f" {word}"})
            for part in parts:
                if isinstance(part, str):
                    await self._speak(part.replace(RESULTS, results))
                else:
                    results = await self._call(part)
            await self._content(generationComplete=True)
            if self._server.late_words:
                await self._content(outputTranscription={"text": " Indeed."})
            self._server.answered += is_answer
            if self._server.playback_s is None:
                await trio.sleep_until(self._played_until)
            else:
                await trio.sleep(self._server.playback_s)
            self._making = None
            await self._turn_complete()

    async def _call(self, calls: Sequence[tuple[str, dict[str, object]]]) -> str:
        asked: list[dict[str, Any]] = []
        for name, arguments in calls:
            self._calls += 1
            asked.append({"id": f"fc{self._calls}", "name": name, "args": arguments})
        waiting = {str(each["id"]): trio.Event() for each in asked}
        self._results = dict(waiting)
        await self._server.tell(self._session, {"toolCall": {"functionCalls": asked}})
        for event in waiting.values():
            await event.wait()
        return " and ".join(self._outputs[id] for id in waiting)

    async def _speak(self, text: str) -> None:
        for piece, pcm in pieces_of(text, is_speech=bool(self._server.answers)):
            await trio.sleep(self._server.piece_s)
            samples = array.array("h", pcm)
            self._played_until += len(samples) / RATE_HZ
            octets = array.array("h", [each for each in samples for _ in range(3)]).tobytes()
            blob = {"mimeType": "audio/pcm;rate=24000", "data": base64.b64encode(octets).decode()}
            self._server.spoken_pieces += 1
            parts = [{"text": "hm", "thought": True}, {"inlineData": blob}]
            spoken = {"outputTranscription": {"text": piece}} if piece else {}
            await self._content(modelTurn={"role": "model", "parts": parts}, **spoken)

    async def _turn_complete(self) -> None:
        self._turns += 1
        usage = {
            "promptTokenCount": 100,
            "responseTokenCount": 20,
            "cachedContentTokenCount": 5,
            "promptTokensDetails": [{"modality": "AUDIO", "tokenCount": 60}],
            "responseTokensDetails": [{"modality": "AUDIO", "tokenCount": 20}],
        }
        content = {"turnComplete": True}
        await self._server.tell(self._session, {"serverContent": content, "usageMetadata": usage})
        self._server.handles += 1
        handle = {"newHandle": f"handle-{self._turns}", "resumable": True}
        await self._server.tell(self._session, {"sessionResumptionUpdate": handle})
        if self._turns == self._server.go_away_after and len(self._server.sessions) == 1:
            await self._server.tell(self._session, {"goAway": {"timeLeft": "50s"}})

    async def _content(self, **content: Any) -> None:
        await self._server.tell(self._session, {"serverContent": content})
