"""Gemini Live as one speech-to-speech model, over its WebSocket.

Source: google-genai 3.4 ``live.py`` and ``types.py``; ai.google.dev, Live API, capabilities,
session management and Gemini 3.8 Live (November 2026). Audio is pcm, 16 kHz in and 24 kHz out.
Nothing the service says carries a name: what it makes belongs to what was asked for last, and
each thing made ends with one ``turnComplete``, which may lag behind the sound by its length.
"""

from __future__ import annotations

import base64
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

import structlog
import trio

from rtcore.audio import RATE_HZ, RATES_HZ, Resampler
from rtcore.errors import ProviderError, SessionOver
from rtcore.ports import CallerAudio, ToolCall
from rtcore.providers._dialogue import DialogueService
from rtcore.providers._gemini_live import (
    IN_RATE_HZ,
    OUT_RATE_HZ,
    SERVER_MESSAGE,
    Blob,
    FunctionCall,
    GeminiLiveSettings,
    ServerContent,
    history_of,
    rate_of,
    setup_of,
)
from rtcore.providers._settings import find_secret
from rtcore.providers._wire import b64decode, decode, encode_text
from rtcore.speech_port import (
    CallerBegan,
    CallerEnded,
    CallerSaid,
    CancelReply,
    Forget,
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
    ToolCallDropped,
    ToolResult,
    Truncate,
)

__all__ = ["GeminiLive", "GeminiLiveSettings"]

log = structlog.get_logger()

HELD_MAX_SAMPLES = 30 * RATE_HZ  # of the caller, while it is not known whether they interrupt
RESUMED_MAX = 3  # connections in a row that brought nothing: the session is lost
PATH = "/ws/google.ai.generativelanguage.v1beta.GenerativeService.BidiGenerateContent"
SAY = (
    "(Say the following words to the caller exactly as they are written, in their own language, "
    "with nothing before or after them.)\n\n"
)
WANTS_MORE = frozenset({"", "TURN_COMPLETE_REASON_UNSPECIFIED", "NEED_MORE_INPUT"})


class GeminiLive(DialogueService):
    """Gemini Live; fills :class:`rtcore.speech_port.SpeechModel`.

    A connection lasts some ten minutes: the session goes on in another at a moment when nothing
    is made, and the conversation with it.
    """

    can_be_instructed = False

    def __init__(
        self, settings: GeminiLiveSettings, secrets: Mapping[str, str], *, name: str = "gemini_live"
    ) -> None:
        key = find_secret(secrets, settings.key_name)
        super().__init__(name, settings.turns, settings.deadlines, key, header="x-goog-api-key")
        self._settings = settings

    async def converse(
        self,
        session: SpeechSession,
        commands: trio.MemoryReceiveChannel[SpeechCommand],
        emit: Callable[[SpeechEvent], None],
    ) -> None:
        """Hold one session; see :class:`rtcore.speech_port.SpeechModel`."""
        dialogue = _Dialogue(self.name, self._settings, session)
        while True:
            try:
                await self._hold(dialogue, commands, emit)
                return
            except ProviderError as exc:
                if not (exc.retryable and dialogue.can_resume()):
                    if exc.retryable and dialogue.is_going:
                        raise SessionOver(self.name, "its time was over") from exc
                    raise
            log.info("speech_session_resumed", provider=self.name)


class _GoingAway(ProviderError):
    """The connection ends soon, and nothing is being made: go on in another."""


# --- the session --------------------------------------------------------------------------


@dataclass(slots=True, eq=False)
class _Reply:
    """A reply: what the model makes of one request, in steps that functions part."""

    id: str
    step: int = 0
    is_begun: bool = False
    has_sound: bool = False  # in this step
    names: dict[str, str] = field(default_factory=dict)  # functions of this step, by their calls
    results: dict[str, str] = field(default_factory=dict)  # of these, those that have returned

    @property
    def owes_results(self) -> bool:
        return len(self.results) < len(self.names)


class _Ending(NamedTuple):
    """A reply that is done with while the service is not."""

    cancelled: str = ""  # its id, if it was
    may_come: bool = False  # more of it, which is dropped


class _Dialogue:
    def __init__(self, provider: str, settings: GeminiLiveSettings, session: SpeechSession) -> None:
        self.outbox: deque[str | bytes] = deque()
        self.events: deque[SpeechEvent] = deque()
        self.is_ready = False
        self.url = f"{settings.base_url}{PATH}"
        self._provider = provider
        self._settings = settings
        self._session = session
        self._is_ours = settings.turns == "ours"
        self._up = Resampler(RATE_HZ, IN_RATE_HZ)
        self._down = Resampler(OUT_RATE_HZ, RATE_HZ)
        self._down_hz = OUT_RATE_HZ

        self._handle = ""  # by which another connection goes on with the session
        self._is_saved = False  # the session of that handle holds all that was said
        self.is_going = False  # the connection ends soon
        self._fruitless = 0  # connections that brought nothing
        self._unsent: list[str | bytes] = []  # by the connection before

        self._is_active = False  # the caller's turn was begun, and not ended
        self._held: deque[bytes] = deque()  # of the caller, while they may be interrupting
        self._held_samples = 0
        self._holds = False  # what the caller says may be an interruption, or nothing
        self._notes: list[str] = []  # to be told when that does not interrupt the model
        self._turn = ""  # of the caller, the last one that ended
        self._words = ""  # of the caller, since then
        self._turns = 0  # of the caller, found by the service
        self._is_told = False  # the next reply answers what we told, not what was heard

        self._reply: _Reply | None = None  # asked for last, or begun by the service
        self._ending: deque[_Ending] = deque()  # done with; their ``turnComplete`` is to come
        self._own_replies = 0  # begun by the service
        self._calls: dict[str, _Reply] = {}  # by function call
        self._names: dict[str, str] = {}  # of functions, by their calls
        self._usage = SpeechUsage()  # told, and not yet counted

    # --- the connection -----------------------------------------------------------------------

    def begin(self) -> None:
        self._unsent = list(self.outbox)
        self.outbox.clear()
        self.is_ready = self.is_going = self._is_active = False
        setup = setup_of(self._settings, self._session)
        self._ending.clear()
        self._holds = False
        if self._handle:
            setup["sessionResumption"] = {"handle": self._handle}
            setup.pop("historyConfig", None)
        self._send("setup", setup)

    def can_resume(self) -> bool:
        """Whether the session can go on in another connection, and nobody notices."""
        self._fruitless += 1
        return self._is_saved and self._fruitless <= RESUMED_MAX

    def _on_ready(self) -> None:
        self.is_ready = True
        if self._session.messages and not self._handle:
            contents = history_of(self._session.messages)
            self._send("clientContent", {"turns": contents, "turnComplete": True})
        self.outbox.extend(self._unsent)
        self._unsent = []

    def _go_if_idle(self) -> None:
        if self.is_going and self._is_saved and not self.events:
            raise _GoingAway(self._provider, "the connection ends soon", retryable=True)

    # --- what we say ------------------------------------------------------------------------

    def obey(self, command: SpeechCommand) -> None:
        match command:
            case CallerAudio(pcm=pcm):
                self._hear(pcm)
            case Respond(reply=id):
                self._respond(id)
            case Say(reply=id, text=text):
                self._say(id, text)
            case CancelReply(reply=id):
                self._cancel(id)
            case Truncate():
                self._truncate(command)
            case ToolResult():
                self._result(command)
            case Tell(text=text, is_turn=True):
                self._notes.append(text)
                self._ask_in_text()
            case Tell(text=text):
                self._note(text)
            case Forget():
                self._held.clear()
                self._held_samples = 0
            case _:
                pass  # instructions cannot be changed: a new session has others

    def _send(self, kind: str, body: dict[str, Any]) -> None:
        self.outbox.append(encode_text({kind: body}))

    def _content(self, text: str, *, is_turn: bool) -> None:
        """Text of the user. It interrupts what is being made; a turn is answered."""
        self._is_saved = False
        turns = [{"role": "user", "parts": [{"text": text}]}] if text else []
        self._send("clientContent", {"turns": turns, "turnComplete": is_turn})

    def _note(self, text: str) -> None:
        """Tell ``text`` as soon as that interrupts nothing, not even what is still heard."""
        self._notes.append(text)
        if self._reply is None and not self._ending:
            self._tell_notes()

    def _tell_notes(self) -> None:
        if self._notes:
            self._content("\n".join(self._notes), is_turn=False)
            self._notes.clear()

    def _hear(self, pcm: bytes) -> None:
        if not self._is_ours:
            self._audio(pcm)
        elif self._is_active or not self._holds:
            self._start_activity()
            self._audio(pcm)
        else:
            self._held.append(pcm)
            self._held_samples += len(pcm) // 2
            while self._held_samples > HELD_MAX_SAMPLES:
                self._held_samples -= len(self._held.popleft()) // 2

    def _start_activity(self) -> None:
        """The caller's turn begins, with what was held of it. It interrupts the model."""
        if not self._is_active:
            self._tell_notes()
            self._is_active, self._words, self._is_saved = True, "", False
            self._send("realtimeInput", {"activityStart": {}})
        while self._held:
            self._audio(self._held.popleft())
        self._held_samples = 0

    def _audio(self, pcm: bytes) -> None:
        octets = self._up.push(pcm)
        blob = {
            "mimeType": f"audio/pcm;rate={IN_RATE_HZ}",
            "data": base64.b64encode(octets).decode(),
        }
        self._send("realtimeInput", {"audio": blob})

    def _respond(self, id: str) -> None:
        if self._held:
            self._start_activity()
        self._turn, self._holds = id, True
        if self._words:
            self.events.append(CallerSaid(turn=id, text=self._words, is_final=False))
        if not self._is_active:
            self._begin_reply(id)
            self._content("\n".join(self._notes), is_turn=True)
            self._notes.clear()
            return
        self._tell_notes()
        self._is_active = False
        self._begin_reply(id)
        self._send("realtimeInput", {"activityEnd": {}})

    def _say(self, id: str, text: str) -> None:
        if self._reply is not None and self._reply.id == id:
            return  # it waits for functions, which words of ours would cancel
        if self._is_ours and self._is_active:  # a noise, it seems: its answer is interrupted
            self._is_active = False
            self._send("realtimeInput", {"activityEnd": {}})
            self._ending.append(_Ending(may_come=True))
        self._begin_reply(id)
        self._holds = True
        self._notes.append(SAY + text)
        self._content("\n".join(self._notes), is_turn=True)
        self._notes.clear()

    def _ask_in_text(self) -> None:
        """Have what was noted answered, as a turn of the caller; the service begins the reply."""
        self._is_told = True
        self._content("\n".join(self._notes), is_turn=True)
        self._notes.clear()

    def _begin_reply(self, id: str) -> None:
        self._reply, self._is_saved = _Reply(id), False
        self._down = Resampler(self._down_hz, RATE_HZ)

    def _cancel(self, id: str) -> None:
        reply = self._reply
        if reply is None or reply.id != id:
            return
        self._ending.append(_Ending(id, may_come=reply.is_begun))
        self._reply, self._holds = None, False
        self._content("", is_turn=False)

    def _truncate(self, command: Truncate) -> None:
        """What was not heard cannot be taken back: the model is told."""
        self._holds = False
        if not self._is_ours:
            return  # it stopped by itself, and counts what was heard by its own clock
        if command.heard_ms == 0:
            note = "(The caller heard nothing of what you said last.)"
        elif command.heard_text:
            note = f'(The caller interrupted you and heard only: "{command.heard_text}")'
        else:
            note = f"(The caller interrupted you after {command.heard_ms / 1000:.1f} s.)"
        self._notes.append(note)
        if self._reply is None:
            self._tell_notes()

    def _result(self, command: ToolResult) -> None:
        reply = self._calls.pop(command.call_id, None)
        if reply is None or reply is not self._reply:
            name = self._names.get(command.call_id, command.call_id)
            self._note(f"(The function {name} has returned: {command.text})")
            return
        reply.results[command.call_id] = command.text
        self._go_on(reply)

    def _go_on(self, reply: _Reply) -> None:
        """Once its functions have all returned, the model goes on with its next step."""
        if not reply.names or reply.owes_results:
            return
        responses = [
            {"id": id, "name": reply.names[id], "response": {"output": text}}
            for id, text in reply.results.items()
        ]
        self._send("toolResponse", {"functionResponses": responses})
        reply.names, reply.results = {}, {}
        reply.step, reply.has_sound = reply.step + 1, False

    # --- what the service says --------------------------------------------------------------

    def hear(self, message: str | bytes) -> None:
        found = decode(self._provider, SERVER_MESSAGE, message)
        if found.setup_complete is not None:
            self._on_ready()
        if (update := found.session_resumption_update) is not None:
            self._handle = (update.new_handle or "") if update.resumable else ""
            is_idle = not (self._reply or self._ending or self._is_active)
            self._is_saved = is_idle and bool(self._handle)
        if found.usage_metadata is not None:
            self._usage += found.usage_metadata.told()
        if found.server_content is not None:
            self._on_content(found.server_content)
        for call in found.tool_call.function_calls or () if found.tool_call is not None else ():
            self._on_call(call)
        if found.tool_call_cancellation is not None:
            self._on_calls_dropped(found.tool_call_cancellation.ids or [])
        self.is_going |= found.go_away is not None
        self._go_if_idle()

    def _on_content(self, content: ServerContent) -> None:
        if content.interrupted and not self._is_ours:
            self._caller_began()
        if content.input_transcription is not None and content.input_transcription.text:
            self._on_words(content.input_transcription.text)
        for part in content.model_turn.parts or () if content.model_turn is not None else ():
            if part.inline_data is not None and not part.thought:
                self._on_audio(part.inline_data)
        if content.output_transcription is not None and content.output_transcription.text:
            self._on_text(content.output_transcription.text)
        if content.generation_complete:
            self._on_generated()
        if content.turn_complete:
            self._on_turn_complete(content)

    def _made(self) -> _Reply | None:
        """The reply that what comes now belongs to; None if it was cancelled."""
        while self._ending and not self._ending[0].may_come:
            self._ended(self._ending.popleft())  # its end was never said
        if self._ending:
            return None
        if self._reply is None and not self._is_ours:
            if not self._is_told:
                self._caller_ended()
            self._is_told = False
            self._own_replies += 1
            self._begin_reply(f"m{self._own_replies}")
        reply = self._reply
        if reply is None:
            return None
        self._fruitless = 0
        if not reply.is_begun:
            reply.is_begun = True
            self.events.append(ReplyBegun(reply=reply.id))
        return reply

    def _on_text(self, text: str) -> None:
        if not self._is_ours and self._reply is None and self._ending:
            return  # of what is said already: it may lag behind its sound, and begins nothing
        reply = self._made()
        if reply is not None:
            self.events.append(ReplyText(reply=reply.id, step=reply.step, text=text))

    def _on_audio(self, blob: Blob) -> None:
        octets = b64decode(self._provider, blob.data)
        reply = self._made()
        if reply is None:
            return
        rate_hz = rate_of(blob.mime_type)
        if rate_hz not in RATES_HZ:
            raise ProviderError(self._provider, f"sound of {rate_hz} Hz", retryable=False)
        if rate_hz != self._down_hz:
            self._down, self._down_hz = Resampler(rate_hz, RATE_HZ), rate_hz
        pcm = self._down.push(octets[: len(octets) // 2 * 2])
        reply.has_sound = True
        self.events.append(ReplyAudio(reply=reply.id, step=reply.step, pcm=pcm))

    def _end_sound(self, reply: _Reply) -> None:
        if reply.has_sound:
            pcm, reply.has_sound = self._down.flush(), False
            self._down = Resampler(self._down_hz, RATE_HZ)
            self.events.append(ReplyAudio(reply=reply.id, step=reply.step, pcm=pcm, is_last=True))

    def _on_call(self, call: FunctionCall) -> None:
        reply = self._made()
        if reply is None:
            return  # it was cancelled: the service learns that in the same moment
        self._end_sound(reply)
        reply.names[call.id] = self._names[call.id] = call.name
        self._calls[call.id] = reply
        arguments = encode_text(call.args or {})
        wanted = ToolCall(id=call.id, name=call.name, arguments=arguments)
        self.events.append(ReplyToolCall(reply=reply.id, step=reply.step, call=wanted))

    def _on_calls_dropped(self, ids: list[str]) -> None:
        for id in ids:
            reply = self._calls.pop(id, None)
            if reply is not None:
                reply.names.pop(id, None)
                self.events.append(ToolCallDropped(reply=reply.id, call_id=id))
                self._go_on(reply)

    def _on_generated(self) -> None:
        """All of it is made; the service's turn goes on for as long as it would be heard."""
        reply = self._reply
        if reply is not None and reply.is_begun and not reply.owes_results:
            self._ending.append(_Ending())
            self._done(reply, "whole")

    def _on_turn_complete(self, content: ServerContent) -> None:
        reply, reason = self._reply, content.turn_complete_reason or ""
        if self._ending and (reply is None or content.interrupted or not reply.is_begun):
            self._ended(self._ending.popleft())
        elif reply is not None and not reply.owes_results and not content.interrupted:
            if reason in WANTS_MORE:
                self._done(reply, "whole")
            else:
                self._done(reply, "cut" if reply.is_begun else "failed", reason)
        if self._reply is None:
            self._holds = False
            if not self._ending:
                self._tell_notes()

    def _ended(self, ending: _Ending) -> None:
        if ending.cancelled:
            self._count(ending.cancelled, "cancelled")

    def _done(
        self, reply: _Reply, status: Literal["whole", "cancelled", "cut", "failed"], why: str = ""
    ) -> None:
        self._end_sound(reply)
        if self._reply is reply:
            self._reply = None
        if self._is_ours and self._words:
            self.events.append(CallerSaid(turn=self._turn, text=self._words, is_final=True))
        self._count(reply.id, status, why)

    def _count(
        self, id: str, status: Literal["whole", "cancelled", "cut", "failed"], why: str = ""
    ) -> None:
        """A reply is over; what was told of costs since the last one is its share."""
        usage, self._usage = self._usage, SpeechUsage()
        self.events.append(ReplyDone(reply=id, status=status, usage=usage, detail=why))

    # --- the caller, as the service hears them ------------------------------------------------

    def _on_words(self, text: str) -> None:
        """More of what the caller said; it comes when it comes, even after the answer."""
        if not (self._is_ours or self._is_active or self._reply or self._ending):
            self._caller_began()
        self._words += text
        if self._turn and not (self._is_ours and self._is_active):
            is_final = not self._is_active and self._reply is None
            self.events.append(CallerSaid(turn=self._turn, text=self._words, is_final=is_final))

    def _caller_began(self) -> None:
        """The service hears the caller; it has stopped what it was making."""
        reply = self._reply
        if reply is not None and (reply.is_begun or not self._ending):
            self._ending.append(_Ending(reply.id, may_come=reply.is_begun))
            self._reply = None
        if not self._is_active:
            self._is_active, self._is_saved = True, False
            self._turns += 1
            self._turn, self._words = f"t{self._turns}", ""
            self.events.append(CallerBegan(turn=self._turn))

    def _caller_ended(self) -> None:
        if not self._is_active:
            self._caller_began()  # it answers what it did not transcribe
        self._is_active = False
        self.events.append(CallerEnded(turn=self._turn))
        self.events.append(CallerSaid(turn=self._turn, text=self._words, is_final=True))
