"""OpenAI Realtime conversations as documented: items, one response at a time, truncation."""

from __future__ import annotations

import array
import base64
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, cast

import msgspec
import trio

from rtcore.audio import RATE_HZ, frame_power, mulaw_to_pcm, pcm_to_mulaw
from rtcore.testing import speak
from tests.fakes._ws import FakeSocketServer, Hung, Session

COMMIT_MIN_SAMPLES = RATE_HZ // 10
DELTA_SAMPLES = RATE_HZ // 5  # the service sends some 200 ms at a time
VOICED_POWER = 300.0**2  # mean square; of a piece that holds a voice
FORMATS = ({"type": "audio/pcmu"}, {"type": "audio/pcm", "rate": 24_000})
DETECTIONS = {
    "server_vad": {"threshold", "prefix_padding_ms", "silence_duration_ms"},
    "semantic_vad": {"eagerness"},
}
SEMANTIC_MS = 600  # what its judgement of a whole sentence comes to
SPOKEN = "conversation.item.input_audio_transcription."
Call = tuple[str, dict[str, Any]]  # a function's name and its arguments
Said = str | Call | tuple[str | Call, ...]


@dataclass(eq=False)
class Item:
    """One item of a conversation."""

    id: str
    kind: str  # message, function_call, function_call_output
    role: str = ""
    text: str = ""
    call_id: str = ""
    samples: int = 0  # of sound sent; of an assistant's message


@dataclass(eq=False)
class Conversation:
    """One session's conversation as the service keeps it."""

    settings: dict[str, Any] = field(default_factory=dict)
    items: list[Item] = field(default_factory=list)
    truncations: list[tuple[str, int]] = field(default_factory=list)  # (item, audio_end_ms)
    deletions: list[str] = field(default_factory=list)
    cancels: int = 0
    creates: list[dict[str, Any]] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)  # their codes
    heard_samples: int = 0


class FakeOpenAIRealtime(FakeSocketServer):
    """Answers the n-th turn with the n-th reply; a discarded answer's turn counts again.

    Args:
        replies: a text, a function call, or both in order; ``after_tool`` follows the calls.
        transcripts: what the caller is taken to have said, turn by turn.
        first_s: from a response's creation to its first output.
        speed: how many times faster than real time sound comes.
        created_s: from ``response.create`` to ``response.created``.
        cancel_s: from a cancel to ``response.done``; ``late_deltas`` of sound come meanwhile.
        failing: responses, by number, that fail, with the code they fail with.
        expires_s: when the session has reached its time limit.
        is_beta: it speaks the names of the beta.
    """

    unknown: ClassVar[object] = {"type": "novelty.happened", "event_id": "e", "depth": [1, 2]}
    error: ClassVar[object] = {
        "type": "error",
        "event_id": "e9",
        "error": {"type": "server_error", "code": "session_expired", "message": "scripted"},
    }

    def __init__(
        self,
        replies: Sequence[Said] = ("Hello there.",),
        transcripts: Sequence[str] = (),
        *,
        after_tool: str = "That is done.",
        first_s: float = 0.0,
        speed: float = 10.0,
        created_s: float = 0.0,
        cancel_s: float = 0.0,
        late_deltas: int = 0,
        failing: dict[int, str] | None = None,
        expires_s: float | None = None,
        is_beta: bool = False,
    ) -> None:
        super().__init__()
        self.replies = [_parts(each) for each in replies]
        self.transcripts = transcripts
        self.after_tool = after_tool
        self.first_s = first_s
        self.speed = speed
        self.created_s = created_s
        self.cancel_s = cancel_s
        self.late_deltas = late_deltas
        self.failing = failing or {}
        self.expires_s = expires_s
        self.is_beta = is_beta
        self.conversations: list[Conversation] = []

    async def session(self, session: Session) -> None:
        assert session.path.endswith("/realtime")
        assert session.headers["authorization"].startswith("Bearer ")
        assert session.param("model")
        conversation = Conversation()
        self.conversations.append(conversation)
        async with trio.open_nursery() as nursery:
            live = _Live(self, session, conversation, nursery)
            await live.say("session.created", session={"type": "realtime", "id": "sess_1"})
            if self.expires_s is not None:
                nursery.start_soon(live.expire, self.expires_s)
            while True:
                await live.take(await self.hear(session))


def _parts(said: Said) -> tuple[str | Call, ...]:
    """What is said, as several things: one call is two things itself, a name and arguments."""
    if isinstance(said, str):
        return (said,)
    is_call = len(said) == 2 and isinstance(said[1], dict)
    return cast("tuple[str | Call, ...]", (said,) if is_call else said)


@dataclass(eq=False)
class _Made:
    """A response being made."""

    id: str
    metadata: dict[str, str] | None
    scope: trio.CancelScope = field(default_factory=trio.CancelScope)
    items: list[Item] = field(default_factory=list)
    reason: str = "client_cancelled"


class _Live:
    def __init__(
        self,
        fake: FakeOpenAIRealtime,
        session: Session,
        conversation: Conversation,
        nursery: trio.Nursery,
    ) -> None:
        self._fake, self._session, self._of, self._nursery = fake, session, conversation, nursery
        self._event_id = ""  # of the client's event being taken
        self._buffer = bytearray()  # µ-law, not committed
        self._active: _Made | None = None
        self._pending: list[str | Call] = []  # what is left of the reply that called functions
        self._turns = 0
        self._answers = 0
        self._responses = 0
        self._items = 0
        self._has_spoken = False  # with a voice that cannot be changed any more
        self._is_voiced = False
        self._silent_samples = 0
        self._turn_item = ""

    async def say(self, kind: str, **fields: Any) -> None:
        await self._fake.say(self._session, {"type": kind, "event_id": "event_1"} | fields)

    async def fail(self, code: str, kind: str = "invalid_request_error") -> None:
        self._of.errors.append(code)
        error = {"type": kind, "code": code, "message": "scripted complaint", "param": None}
        await self.say("error", error=error | {"event_id": self._event_id or None})

    async def expire(self, limit_s: float) -> None:
        await trio.sleep(limit_s)
        self._event_id = ""
        await self.fail("session_expired")
        await self._session.socket.aclose(1001, "session expired")
        raise Hung

    async def take(self, told: Any) -> None:
        """Do what one event of the client says."""
        self._event_id = told.get("event_id", "")
        kind = told["type"]
        if kind == "session.update":
            await self._configure(told["session"])
        elif not self._of.settings:
            await self.fail("session_not_configured")
        elif kind == "input_audio_buffer.append":
            await self._hear(base64.b64decode(told["audio"], validate=True))
        elif kind == "input_audio_buffer.commit":
            if len(self._buffer) < COMMIT_MIN_SAMPLES:
                await self.fail("input_audio_buffer_commit_empty")
            else:
                await self._commit()
        elif kind == "input_audio_buffer.clear":
            self._buffer.clear()
            await self.say("input_audio_buffer.cleared")
        elif kind == "conversation.item.create":
            await self._create_item(told["item"])
        elif kind == "conversation.item.truncate":
            await self._truncate(told)
        elif kind == "conversation.item.delete":
            await self._delete(told["item_id"])
        elif kind == "response.create":
            await self._create_response(told.get("response") or {})
        elif kind == "response.cancel":
            await self._cancel(told.get("response_id"))
        else:
            await self.fail("unknown_event")

    # --- the session ------------------------------------------------------------------------

    async def _configure(self, told: dict[str, Any]) -> None:
        settings = self._of.settings
        audio = told.get("audio", {})
        heard, spoken = audio.get("input", {}), audio.get("output", {})
        turns = heard.get("turn_detection")
        known = {"type", "create_response", "interrupt_response"}
        complaints = [
            told.get("type") != "realtime",
            not settings and not (heard and spoken),
            heard.get("format", FORMATS[0]) not in FORMATS,
            spoken.get("format", FORMATS[0]) not in FORMATS,
            told.get("output_modalities", ["audio"]) != ["audio"],
            self._has_spoken and "voice" in spoken,
            bool(turns) and not turns.keys() <= known | DETECTIONS[turns["type"]],
            any(tool["type"] != "function" for tool in told.get("tools", ())),
        ]
        if any(complaints):
            await self.fail("invalid_value")
            return
        settings |= told
        await self.say("session.updated", session=settings)

    @property
    def _detection(self) -> dict[str, Any] | None:
        found: dict[str, Any] | None = self._of.settings["audio"]["input"]["turn_detection"]
        return found

    def _is_pcm(self, way: str) -> bool:
        kind: str = self._of.settings["audio"][way]["format"]["type"]
        return kind == "audio/pcm"

    # --- the caller -------------------------------------------------------------------------

    async def _hear(self, octets: bytes) -> None:
        mulaw = octets
        if self._is_pcm("input"):
            mulaw = pcm_to_mulaw(array.array("h", octets)[::3].tobytes())
        self._of.heard_samples += len(mulaw)
        self._buffer += mulaw
        detection = self._detection
        if detection is None:
            return
        if frame_power(mulaw_to_pcm(mulaw)) > VOICED_POWER:
            self._silent_samples = 0
            if not self._is_voiced:
                await self._on_voice(detection, len(mulaw))
        elif self._is_voiced:
            self._silent_samples += len(mulaw)
            wait_ms = detection.get("silence_duration_ms", SEMANTIC_MS)
            if self._silent_samples * 1000 >= wait_ms * RATE_HZ:
                self._is_voiced = False
                at_ms = self._of.heard_samples * 1000 // RATE_HZ
                await self._say_heard("speech_stopped", audio_end_ms=at_ms)
                await self._commit(self._turn_item)
                if detection["create_response"] and self._active is None:
                    self._begin({}, self._next_reply())

    async def _on_voice(self, detection: dict[str, Any], samples: int) -> None:
        self._is_voiced = True
        self._turn_item = self._new_id()
        at_ms = (self._of.heard_samples - samples) * 1000 // RATE_HZ
        await self._say_heard("speech_started", audio_start_ms=at_ms)
        if detection["interrupt_response"] and self._active is not None:
            self._active.reason = "turn_detected"
            self._active.scope.cancel(reason="caller spoke")

    async def _say_heard(self, kind: str, **fields: Any) -> None:
        await self.say(f"input_audio_buffer.{kind}", item_id=self._turn_item, **fields)

    async def _commit(self, item_id: str = "") -> None:
        self._buffer.clear()
        item = Item(item_id or self._new_id(), "message", "user")
        await self.say("input_audio_buffer.committed", item_id=item.id, previous_item_id=None)
        await self._add(item)
        if self._of.settings["audio"]["input"]["transcription"] and self._fake.transcripts:
            item.text = self._fake.transcripts[self._turns % len(self._fake.transcripts)]
            self._nursery.start_soon(self._transcribe, item)
        self._turns += 1

    async def _transcribe(self, item: Item) -> None:
        await trio.sleep(0.3)
        for number, word in enumerate(item.text.split()):
            delta = f" {word}" if number else word
            await self.say(f"{SPOKEN}delta", item_id=item.id, content_index=0, delta=delta)
        usage = {"type": "tokens", "input_tokens": 9, "output_tokens": 3, "total_tokens": 12}
        done = {"item_id": item.id, "content_index": 0, "transcript": item.text, "usage": usage}
        await self.say(f"{SPOKEN}completed", **done)

    # --- items ------------------------------------------------------------------------------

    def _new_id(self) -> str:
        self._items += 1
        return f"item_{self._items}"

    async def _add(self, item: Item) -> None:
        self._of.items.append(item)
        shown = {"id": item.id, "type": item.kind, "role": item.role or None}
        await self.say("conversation.item.added", item=shown, previous_item_id=None)

    def _find(self, item_id: str) -> Item | None:
        return next((item for item in self._of.items if item.id == item_id), None)

    async def _create_item(self, told: dict[str, Any]) -> None:
        item = Item(self._new_id(), told["type"])
        if item.kind == "message":
            item.role = told["role"]
            (part,) = told["content"]
            if part["type"] != ("output_text" if item.role == "assistant" else "input_text"):
                await self.fail("invalid_value")
                return
            item.text = part["text"]
        else:
            item.call_id, item.text = told["call_id"], told.get("output") or told["arguments"]
        if item.kind == "function_call_output":
            calls = [each for each in self._of.items if each.kind == "function_call"]
            if item.call_id not in [each.call_id for each in calls]:
                await self.fail("item_create_invalid_call_id")
                return
        await self._add(item)

    async def _truncate(self, told: dict[str, Any]) -> None:
        item, end_ms = self._find(told["item_id"]), told["audio_end_ms"]
        if item is None or item.role != "assistant" or told["content_index"] != 0:
            await self.fail("item_truncate_invalid_item_id")
        elif end_ms * RATE_HZ > item.samples * 1000:
            await self.fail("invalid_value")  # "... is longer than the audio"
        else:
            self._of.truncations.append((item.id, end_ms))
            item.text = ""  # as documented: the transcript goes
            gone = {"item_id": item.id, "content_index": 0, "audio_end_ms": end_ms}
            await self.say("conversation.item.truncated", **gone)

    async def _delete(self, item_id: str) -> None:
        item = self._find(item_id)
        if item is None:
            await self.fail("item_delete_invalid_item_id")
            return
        self._of.items.remove(item)
        self._of.deletions.append(item_id)
        await self.say("conversation.item.deleted", item_id=item_id)

    # --- responses --------------------------------------------------------------------------

    def _next_reply(self) -> list[str | Call]:
        if self._pending:
            parts, self._pending = self._pending, []
            return parts
        replies = self._fake.replies
        self._answers += 1
        return list(replies[(self._answers - 1) % len(replies)])

    async def _create_response(self, told: dict[str, Any]) -> None:
        self._of.creates.append(told)
        if self._active is not None:
            await self.fail("conversation_already_has_active_response")
            return
        if "instructions" in told:  # a fixed line
            assert told["input"] == []
            parts: list[str | Call] = [told["instructions"].rpartition("\n\n")[2]]
        else:
            parts = self._next_reply()
        self._begin(told, parts)

    def _begin(self, told: dict[str, Any], parts: list[str | Call]) -> None:
        self._active = _Made(f"resp_{self._responses}", told.get("metadata"))
        self._responses += 1
        self._nursery.start_soon(self._make, self._active, parts, "instructions" not in told)

    async def _cancel(self, response_id: str | None) -> None:
        self._of.cancels += 1
        if self._active is None or response_id not in (None, self._active.id):
            await self.fail("response_cancel_not_active")
            return
        self._active.scope.cancel(reason="cancelled")

    async def _make(self, made: _Made, parts: list[str | Call], is_answer: bool) -> None:
        await trio.sleep(self._fake.created_s)
        shown = {"id": made.id, "object": "realtime.response", "metadata": made.metadata}
        await self.say("response.created", response=shown | {"status": "in_progress"})
        number, status, details = self._responses - 1, "completed", {}
        with made.scope:
            await trio.sleep(self._fake.first_s)
            if number in self._fake.failing:
                status = "failed"
                error = {"type": "server_error", "code": self._fake.failing[number]}
                details = {"type": "failed", "error": error}
            else:
                await self._output(made, parts)
        if made.scope.cancelled_caught:
            status, details = "cancelled", {"type": "cancelled", "reason": made.reason}
            self._pending.clear()
            for _ in range(self._fake.late_deltas):
                await self._late(made)
            await trio.sleep(self._fake.cancel_s)
            if is_answer and not any(item.samples for item in made.items):
                self._answers -= 1  # nothing of it was said: the turn is answered anew
        self._active = None
        usage = {
            "total_tokens": 150,
            "input_tokens": 100,
            "output_tokens": 50,
            "input_token_details": {"text_tokens": 40, "audio_tokens": 60, "cached_tokens": 64},
            "output_token_details": {"text_tokens": 10, "audio_tokens": 40},
        }
        done = shown | {"status": status, "status_details": details, "usage": usage}
        await self.say("response.done", response=done)
        await self.say("rate_limits.updated", rate_limits=[])

    async def _output(self, made: _Made, parts: list[str | Call]) -> None:
        """Say the texts up to and including the first functions; the rest is for later."""
        while parts:
            part = parts.pop(0)
            if isinstance(part, str):
                await self._speak(made, part)
                continue
            await self._call(made, *part)
            if not parts or isinstance(parts[0], str):
                self._pending = parts or [self._fake.after_tool]
                return

    async def _call(self, made: _Made, name: str, arguments: dict[str, Any]) -> None:
        item = Item(self._new_id(), "function_call", call_id=f"call_{self._items}")
        item.text = msgspec.json.encode(arguments).decode()
        shown = {"id": item.id, "type": item.kind, "name": name, "call_id": item.call_id}
        about = {"response_id": made.id, "item_id": item.id, "output_index": 0}
        await self.say("response.output_item.added", response_id=made.id, item=shown)
        await self._add(item)
        for at in range(0, len(item.text), 7):
            delta = {"call_id": item.call_id, "delta": item.text[at : at + 7]}
            await self.say("response.function_call_arguments.delta", **about, **delta)
        whole = {"call_id": item.call_id, "name": name, "arguments": item.text}
        await self.say("response.function_call_arguments.done", **about, **whole)

    async def _speak(self, made: _Made, text: str) -> None:
        """Words ahead of sound, sound ahead of time."""
        item = Item(self._new_id(), "message", "assistant", text)
        made.items.append(item)
        shown = {"id": item.id, "type": "message", "role": "assistant", "content": []}
        about = {"response_id": made.id, "item_id": item.id, "output_index": 0, "content_index": 0}
        names = "response.audio" if self._fake.is_beta else "response.output_audio"
        await self.say("response.output_item.added", response_id=made.id, item=shown)
        await self._add(item)
        self._has_spoken = True
        for number, word in enumerate(text.split()):
            delta = f" {word}" if number else word
            await self.say(f"{names}_transcript.delta", **about, delta=delta)
        mulaw = pcm_to_mulaw(speak(text).pcm)
        for at in range(0, len(mulaw), DELTA_SAMPLES):
            await self._sound(f"{names}.delta", about, item, mulaw[at : at + DELTA_SAMPLES])
            await trio.sleep(DELTA_SAMPLES / RATE_HZ / self._fake.speed)
        await self.say(f"{names}.done", **about)
        await self.say(f"{names}_transcript.done", **about, transcript=text)

    async def _sound(self, kind: str, about: dict[str, Any], item: Item, mulaw: bytes) -> None:
        octets = mulaw
        if self._is_pcm("output"):
            pcm = array.array("h", mulaw_to_pcm(mulaw))
            octets = array.array("h", [sample for sample in pcm for _ in range(3)]).tobytes()
        item.samples += len(mulaw)
        await self.say(kind, **about, delta=base64.b64encode(octets).decode())

    async def _late(self, made: _Made) -> None:
        if made.items:
            item = made.items[-1]
            about = {"response_id": made.id, "item_id": item.id, "content_index": 0}
            await self._sound("response.output_audio.delta", about, item, b"\x10" * DELTA_SAMPLES)
