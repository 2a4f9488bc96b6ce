"""OpenAI Realtime as one speech-to-speech model, over its WebSocket.

Source: openai-python 3.52 ``types/realtime`` (the generally available event names, not the
beta's); developers.openai.com, realtime conversations and VAD (November 2026). Audio is G.711
both ways. The service makes one response at a time and refuses another until ``response.done``,
even after a cancel; a cancel that comes before ``response.created`` does nothing. Both are seen
to here: what is asked for waits, and what was cancelled too early is cancelled when it appears.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import structlog
import trio

from rtcore.audio import RATE_HZ, Resampler, mulaw_to_pcm
from rtcore.errors import SessionOver
from rtcore.ports import CallerAudio, ToolCall
from rtcore.providers._dialogue import DialogueService
from rtcore.providers._faults import service_fault
from rtcore.providers._openai_realtime import (
    EVENT,
    PCM_RATE_HZ,
    Error,
    Event,
    Item,
    OpenAIRealtimeSettings,
    Response,
    Status,
    Usage,
    items_of,
    message_of,
    session_of,
    tools_of,
)
from rtcore.providers._openai_realtime_caller import Caller
from rtcore.providers._settings import find_secret
from rtcore.providers._wire import b64decode, decode, encode_text
from rtcore.providers._ws import ws_url
from rtcore.speech_port import (
    CancelReply,
    Forget,
    Instruct,
    ReplyAudio,
    ReplyBegun,
    ReplyDone,
    ReplyText,
    ReplyToolCall,
    Respond,
    Say,
    SpeechCommand,
    SpeechEvent,
    SpeechSession,
    SpeechUsage,
    Tell,
    ToolResult,
    Truncate,
)

__all__ = ["OpenAIRealtime", "OpenAIRealtimeSettings"]

log = structlog.get_logger()

REPLIES_KEPT = 64  # whose late events and truncations are still understood
SPOKEN = "conversation.item.input_audio_transcription."
BETA = frozenset({"response.audio.delta", "response.audio_transcript.delta"})
NOT_ACTIVE = "response_cancel_not_active"  # what we cancel was over already
COMMIT_EMPTY = "input_audio_buffer_commit_empty"  # nobody spoke: what was told counts
BUSY = "conversation_already_has_active_response"
OVER = frozenset({"session_expired"})  # the session ends; another may be had
SAY = (
    "Say the following words exactly as they are written, in their own language, with nothing "
    "before or after them:\n\n"
)


class OpenAIRealtime(DialogueService):
    """OpenAI Realtime; fills :class:`rtcore.speech_port.SpeechModel`."""

    can_be_instructed = True

    def __init__(
        self,
        settings: OpenAIRealtimeSettings,
        secrets: Mapping[str, str],
        *,
        name: str = "openai_realtime",
    ) -> None:
        key = find_secret(secrets, settings.key_name) if settings.key_name else None
        super().__init__(name, settings.turns, settings.deadlines, key, scheme="Bearer ")
        self._settings = settings

    async def converse(
        self,
        session: SpeechSession,
        commands: trio.MemoryReceiveChannel[SpeechCommand],
        emit: Callable[[SpeechEvent], None],
    ) -> None:
        """Hold one session; see :class:`rtcore.speech_port.SpeechModel`."""
        await self._hold(_Dialogue(self.name, self._settings, session), commands, emit)


# --- the session --------------------------------------------------------------------------


@dataclass(slots=True, eq=False)
class _Said:
    """What was said in one step: an item of the service."""

    item_id: str
    samples: int = 0
    is_late: bool = False  # it appeared when its reply was cancelled: nobody heard it


@dataclass(slots=True, eq=False)
class _Reply:
    """A reply and its responses: one, and one more each time functions have returned."""

    id: str
    said: dict[int, _Said] = field(default_factory=dict)  # by step
    steps: int = 0  # begun so far
    step: int | None = None  # that of the response being made
    waits_for: set[str] = field(default_factory=set)  # functions
    has_called: bool = False  # it goes on once their results are there
    is_begun: bool = False
    is_cancelled: bool = False
    is_done: bool = False
    usage: SpeechUsage = field(default_factory=SpeechUsage)


@dataclass(slots=True, eq=False)
class _Ask:
    """A response that is wanted."""

    reply: _Reply
    body: dict[str, Any]


class _Dialogue:
    def __init__(
        self, provider: str, settings: OpenAIRealtimeSettings, session: SpeechSession
    ) -> None:
        self.outbox: deque[str | bytes] = deque()
        self.events: deque[SpeechEvent] = deque()
        self.is_ready = False
        self.url = ws_url(settings.base_url, "/realtime", {"model": settings.model})
        self._provider = provider
        self._settings = settings
        self._session = session
        self._is_pcm = settings.encoding == "pcm"
        self._caller = Caller(
            self._send, self.events, is_ours=settings.turns == "ours", is_pcm=self._is_pcm
        )
        self._down: tuple[str, Resampler] | None = None  # of the item being heard

        self._told = 0  # turns that were no speech
        self._replies: dict[str, _Reply] = {}
        self._responses: dict[str, _Reply] = {}  # by response
        self._calls: dict[str, _Reply] = {}  # by function call
        self._names: dict[str, str] = {}  # of functions, by item
        self._asked: _Ask | None = None  # sent, and not yet known to be made
        self._active: str | None = None  # the response being made
        self._waiting: deque[_Ask] = deque()

    # --- what we say ------------------------------------------------------------------------

    def begin(self) -> None:
        self._send(
            "session.update", id="settings", session=session_of(self._settings, self._session)
        )
        for message in self._session.messages:
            for item in items_of(message):
                self._send("conversation.item.create", item=item)

    def obey(self, command: SpeechCommand) -> None:
        match command:
            case CallerAudio():
                self._caller.says(command)
            case Respond(reply=id):
                self._caller.commit(id)
                self._ask(self._reply(id), {})
            case Say(reply=id, text=text):
                # without the conversation before it the model has nothing to do but say it
                body = {"instructions": SAY + text, "input": [], "tool_choice": "none"}
                self._ask(self._reply(id), body)
            case CancelReply(reply=id):
                self._cancel(id)
            case Truncate():
                self._truncate(command)
            case ToolResult():
                self._result(command)
            case Tell(text=text, is_turn=is_turn, is_note=is_note):
                self._item(message_of("system" if is_note else "user", text))
                if is_turn:
                    self._told += 1
                    self._ask(self._reply(f"told-{self._told}"), {})
            case Forget():
                self._caller.forget()
            case Instruct(instructions=instructions, tools=tools):
                session = {
                    "type": "realtime",
                    "instructions": instructions,
                    "tools": tools_of(tools),
                }
                self._send("session.update", id="instructions", session=session)

    def _reply(self, id: str) -> _Reply:
        if id not in self._replies:
            self._replies[id] = _Reply(id)
            while len(self._replies) > REPLIES_KEPT:
                old = self._replies.pop(next(iter(self._replies)))
                self._responses = {k: r for k, r in self._responses.items() if r is not old}
                self._calls = {k: r for k, r in self._calls.items() if r is not old}
        return self._replies[id]

    def _ask(self, reply: _Reply, body: dict[str, Any]) -> None:
        """Have a response made as soon as no other is."""
        self._waiting.append(_Ask(reply, body))
        self._ask_next()

    def _ask_next(self) -> None:
        if self._waiting and self._asked is None and self._active is None:
            self._asked = ask = self._waiting.popleft()
            body = ask.body | {"metadata": {"reply": ask.reply.id}}
            self._send("response.create", id=f"ask-{ask.reply.id}", response=body)

    def _cancel(self, id: str) -> None:
        reply = self._replies.get(id)
        if reply is None or reply.is_done or reply.is_cancelled:
            return
        reply.is_cancelled = True
        self._waiting = deque(ask for ask in self._waiting if ask.reply is not reply)
        if self._active is not None and self._responses.get(self._active) is reply:
            self._send("response.cancel", response_id=self._active)
        elif self._asked is None or self._asked.reply is not reply:
            self._done(reply, "cancelled")  # it only waited: for others, or for functions

    def _truncate(self, command: Truncate) -> None:
        reply = self._replies.get(command.reply)
        said = reply.said.pop(command.step, None) if reply is not None else None
        if said is None:
            return
        heard_ms = min(command.heard_ms, said.samples * 1000 // RATE_HZ)
        if heard_ms <= 0:
            self._send("conversation.item.delete", item_id=said.item_id)
            return
        self._send(
            "conversation.item.truncate",
            item_id=said.item_id,
            content_index=0,
            audio_end_ms=heard_ms,
        )

    def _result(self, command: ToolResult) -> None:
        reply = self._calls.pop(command.call_id, None)
        if reply is None:  # made in a session before this one
            note = f"The function call {command.call_id} has returned:\n{command.text}"
            self._item(message_of("system", note))
            return
        output = {"call_id": command.call_id, "output": command.text}
        self._item({"type": "function_call_output"} | output)
        reply.waits_for.discard(command.call_id)
        self._go_on(reply)

    def _go_on(self, reply: _Reply) -> None:
        """Once its functions have all returned, a reply goes on with another response."""
        is_being_made = self._active is not None and self._responses.get(self._active) is reply
        if reply.has_called and not reply.waits_for and not is_being_made:
            reply.has_called = False
            if not reply.is_cancelled and not reply.is_done:
                self._ask(reply, {})

    def _item(self, item: dict[str, Any]) -> None:
        self._send("conversation.item.create", item=item)

    def _send(self, kind: str, *, id: str = "", **fields: Any) -> None:
        named = {"event_id": id} if id else {}
        self.outbox.append(encode_text({"type": kind} | named | fields))

    # --- what the service says ----------------------------------------------------------------

    def hear(self, message: str | bytes) -> None:
        event = decode(self._provider, EVENT, message)
        kind, said = event.type, event.response
        if kind == "response.output_audio.delta":
            self._on_audio(event)
        elif kind == "response.output_audio_transcript.delta":
            if (found := self._step(event)) is not None and event.delta:
                reply, step = found
                self.events.append(ReplyText(reply=reply.id, step=step, text=event.delta))
        elif kind == "response.output_audio.done":
            if (found := self._step(event)) is not None:
                reply, step = found
                self.events.append(ReplyAudio(reply=reply.id, step=step, pcm=b"", is_last=True))
        elif kind == "response.created" and said is not None:
            self._on_created(said)
        elif kind == "response.output_item.added" and event.item is not None:
            self._on_item(event.response_id, event.item)
        elif kind == "response.function_call_arguments.done":
            self._on_call(event)
        elif kind == "response.done" and said is not None:
            self._on_done(said)
        elif kind.startswith(SPOKEN):
            self._caller.on_words(kind.removeprefix(SPOKEN), event)
        elif kind == "input_audio_buffer.speech_started":
            self._caller.on_began(event)
        elif kind == "input_audio_buffer.committed":
            self._caller.on_committed(event)
        elif kind == "session.updated":
            self.is_ready = True
        elif kind == "error":
            self._on_error(event.error or Error())
        elif kind in BETA:
            raise service_fault(
                self._provider, "unsupported", "the server speaks the beta's protocol"
            )

    def _on_created(self, response: Response) -> None:
        id = (response.metadata or {}).get("reply") or response.id
        reply = self._reply(id)
        if self._asked is not None and self._asked.reply is reply:
            self._asked = None
        self._active = response.id
        self._responses[response.id] = reply
        reply.step = None
        if reply.is_cancelled:
            self._send("response.cancel", response_id=response.id)
        elif not reply.is_begun:
            reply.is_begun = True
            self.events.append(ReplyBegun(reply=id))

    def _on_item(self, response_id: str, item: Item) -> None:
        reply = self._responses.get(response_id)
        if reply is None:
            return
        if item.type == "message":
            reply.step = reply.steps
            reply.steps += 1
            reply.said[reply.step] = _Said(item.id, is_late=reply.is_cancelled)
        elif item.type == "function_call":
            if reply.step is None:
                reply.step = reply.steps
                reply.steps += 1
            self._names[item.id] = item.name or ""

    def _step(self, event: Event) -> tuple[_Reply, int] | None:
        """The reply and the step of which an event speaks, if they are known."""
        reply = self._responses.get(event.response_id)
        if reply is not None:
            for step, said in reply.said.items():
                if said.item_id == event.item_id:
                    return reply, step
        return None

    def _on_audio(self, event: Event) -> None:
        found = self._step(event)
        if found is None or not event.delta:
            return
        reply, step = found
        octets = b64decode(self._provider, event.delta)
        if not self._is_pcm:
            pcm = mulaw_to_pcm(octets)
        else:
            if self._down is None or self._down[0] != event.item_id:
                self._down = event.item_id, Resampler(PCM_RATE_HZ, RATE_HZ)
            pcm = self._down[1].push(octets)
        reply.said[step].samples += len(pcm) // 2
        self.events.append(ReplyAudio(reply=reply.id, step=step, pcm=pcm))

    def _on_call(self, event: Event) -> None:
        reply = self._responses.get(event.response_id)
        if reply is None or reply.step is None:
            return
        name = event.name or self._names.pop(event.item_id, "")
        reply.has_called = True
        reply.waits_for.add(event.call_id)
        self._calls[event.call_id] = reply
        call = ToolCall(id=event.call_id, name=name, arguments=event.arguments)
        self.events.append(ReplyToolCall(reply=reply.id, step=reply.step, call=call))

    def _on_done(self, response: Response) -> None:
        reply = self._responses.pop(response.id, None)
        if self._active == response.id:
            self._active = None
        if reply is not None:
            reply.usage += (response.usage or Usage()).told()
            self._response_over(reply, response)
        self._ask_next()

    def _response_over(self, reply: _Reply, response: Response) -> None:
        details = response.status_details or Status()
        for step, said in tuple(reply.said.items()):
            if said.is_late:
                self._send("conversation.item.delete", item_id=said.item_id)
                del reply.said[step]
        if response.status == "failed":
            error = details.error or Error()
            self._done(reply, "failed", error.code or error.type)
        elif response.status == "cancelled" or reply.is_cancelled:
            self._done(reply, "cancelled", details.reason or "")
        elif reply.has_called:
            self._go_on(reply)
        elif response.status == "incomplete":
            self._done(reply, "cut", details.reason or "")
        elif not any(ask.reply is reply for ask in self._waiting) and not reply.waits_for:
            self._done(reply, "whole")

    def _done(
        self,
        reply: _Reply,
        status: Literal["whole", "cancelled", "cut", "failed"],
        detail: str = "",
    ) -> None:
        if not reply.is_done:
            reply.is_done = True
            done = ReplyDone(reply=reply.id, status=status, usage=reply.usage, detail=detail)
            self.events.append(done)

    def _on_error(self, error: Error) -> None:
        """Most errors leave the session as it was; those that end it are raised."""
        code, about, ask = error.code or "", error.event_id or "", self._asked
        kind = code if code in OVER else f"{error.type} {code}".strip()
        if about == "settings" or not self.is_ready or code in OVER:
            fault = service_fault(self._provider, kind, error.message or "")
            raise SessionOver(self._provider, kind) if code in OVER else fault
        if code == COMMIT_EMPTY:
            self._caller.on_empty()
        elif ask is not None and (about == f"ask-{ask.reply.id}" or code == BUSY):
            self._asked = None
            if ask.reply.is_cancelled:
                self._done(ask.reply, "cancelled")
            elif code == BUSY:  # a response of its own was quicker: after that one
                self._waiting.appendleft(ask)
                return
            else:
                self._done(ask.reply, "failed", kind)
            self._ask_next()
        elif code != NOT_ACTIVE:
            log.warning("speech_model_error", provider=self._provider, error=kind)
