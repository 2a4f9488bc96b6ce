"""Deepgram's Voice Agent as one speech-to-speech model, over its WebSocket.

Source: deepgram-sdk 7.17 ``agent/v1``; developers.deepgram.com, voice agent, message flow and
settings (November 2026). µ-law both ways, binary; all else is text. It finds the turns itself and
cannot be told when they end; what it has said cannot be taken back or shortened, so a note in the
prompt says what was heard. It tells no costs. Nothing it says carries a name but functions.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

import msgspec
import structlog
import trio
from msgspec import Meta

from rtcore.audio import RATE_HZ, mulaw_to_pcm, pcm_to_mulaw
from rtcore.errors import ConfigError
from rtcore.ports import CallerAudio, Message, ToolCall, ToolSpec
from rtcore.providers._dialogue import DialogueService
from rtcore.providers._faults import service_fault
from rtcore.providers._settings import Deadlines, Settings, find_secret
from rtcore.providers._wire import decode, encode_text
from rtcore.speech_port import (
    CallerBegan,
    CallerEnded,
    CallerSaid,
    CancelReply,
    Instruct,
    ReplyAudio,
    ReplyBegun,
    ReplyDone,
    ReplyText,
    ReplyToolCall,
    Say,
    SpeechCommand,
    SpeechEvent,
    SpeechSession,
    Tell,
    ToolCallDropped,
    ToolResult,
    Truncate,
)

__all__ = ["DeepgramAgent", "DeepgramAgentSettings"]

log = structlog.get_logger()

NOTES_MAX = 40  # that are added to the prompt, which may have 25,000 characters; then it is
NOTES_KEPT = 10  # replaced, with the newest of them
QUOTED_MAX_CHARS = 80
REPLIES_KEPT = 16  # whose words can still be quoted
CHUNK_MAX_BYTES = RATE_HZ // 5  # 200 ms: what a new session is told again comes in one piece


class DeepgramAgentSettings(Settings, frozen=True):
    """``listen``, ``think`` and ``speak`` are merged into the settings of these names: an
    ``endpoint`` of one's own, ``context_length``, another voice's ``provider``... ``extra`` is
    merged into the whole."""

    turns: Literal["ours", "theirs"] = "theirs"  # ours cannot be
    listen_model: str = "nova-3"  # flux-general-en: finds turns by what is said
    language: str | None = None  # None: the call's
    think_provider: str = "open_ai"
    think_model: str = "gpt-4o-mini"
    temperature: Annotated[float, Meta(ge=0, le=2)] | None = None
    voice: str = "aura-2-thalia-en"
    key_name: str = "DEEPGRAM_API_KEY"
    base_url: str = "wss://agent.deepgram.com"
    listen: dict[str, Any] = msgspec.field(default_factory=dict)
    think: dict[str, Any] = msgspec.field(default_factory=dict)
    speak: dict[str, Any] = msgspec.field(default_factory=dict)
    extra: dict[str, Any] = msgspec.field(default_factory=dict)
    deadlines: Deadlines = Deadlines(first_byte_s=5.0)  # connected -> SettingsApplied


class DeepgramAgent(DialogueService):
    """Deepgram's Voice Agent; fills :class:`rtcore.speech_port.SpeechModel`.

    Raises:
        ConfigError: the key is missing, or the turns are to be ours.
    """

    can_be_instructed = True

    def __init__(
        self,
        settings: DeepgramAgentSettings,
        secrets: Mapping[str, str],
        *,
        name: str = "deepgram_agent",
    ) -> None:
        if settings.turns == "ours":
            raise ConfigError(
                "turns", "this service cannot be told when a turn ends: leave them theirs"
            )
        key = find_secret(secrets, settings.key_name)
        super().__init__(name, settings.turns, settings.deadlines, key, scheme="Token ")
        self._settings = settings

    async def converse(
        self,
        session: SpeechSession,
        commands: trio.MemoryReceiveChannel[SpeechCommand],
        emit: Callable[[SpeechEvent], None],
    ) -> None:
        """Hold one session; see :class:`rtcore.speech_port.SpeechModel`."""
        await self._hold(_Dialogue(self.name, self._settings, session), commands, emit)


# --- the service's messages ---------------------------------------------------------------


class _Function(msgspec.Struct):
    id: str = ""
    name: str = ""
    arguments: str = ""
    client_side: bool = True


class _Event(msgspec.Struct):
    type: str = ""
    role: str = ""
    content: str = ""
    functions: list[_Function] = []
    description: str = ""
    code: str = ""


EVENT = msgspec.json.Decoder(_Event)


# --- the session --------------------------------------------------------------------------


@dataclass(slots=True, eq=False)
class _Reply:
    """What the agent says until it falls silent, in steps that functions part."""

    id: str
    step: int = 0
    has_sound: bool = False  # in this step
    has_text: bool = False  # in this step
    goes_on: bool = False  # its functions have returned, and nothing was said since
    is_cancelled: bool = False
    waits_for: dict[str, str] = field(default_factory=dict)  # names of functions, by their calls


class _Dialogue:
    def __init__(
        self, provider: str, settings: DeepgramAgentSettings, session: SpeechSession
    ) -> None:
        self.outbox: deque[str | bytes] = deque()
        self.events: deque[SpeechEvent] = deque()
        self.is_ready = False
        self.url = f"{settings.base_url}/v1/agent/converse"
        self._provider = provider
        self._settings = settings
        self._session = session
        self._instructions = session.instructions
        self._tools = session.tools
        self._notes: list[str] = []  # that the prompt has had added to it
        self._said: dict[tuple[str, int], str] = {}  # by reply and step

        self._turns = 0
        self._turn = ""  # of the caller, open
        self._told: deque[str] = deque()  # turns that were no speech, not yet echoed
        self._is_answering = False  # a turn is over, and its answer has not begun
        self._asked: deque[Say] = deque()  # and not yet begun
        self._cancelled: set[str] = set()  # of these, those that are not wanted any more
        self._reply: _Reply | None = None
        self._own_replies = 0
        self._calls: dict[str, _Reply] = {}

    def begin(self) -> None:
        """The service speaks first."""

    # --- what we say ------------------------------------------------------------------------

    def obey(self, command: SpeechCommand) -> None:
        match command:
            case CallerAudio(pcm=pcm):
                mulaw = pcm_to_mulaw(pcm)
                for at in range(0, len(mulaw), CHUNK_MAX_BYTES):
                    self.outbox.append(mulaw[at : at + CHUNK_MAX_BYTES])
            case Say(text=text):
                self._asked.append(command)
                self._send("InjectAgentMessage", message=text, behavior="queue")
            case CancelReply(reply=id):
                self._cancel(id)
            case Truncate():
                self._truncate(command)
            case Tell(text=text, is_turn=True):
                self._told.append(text)
                self._is_answering = True
                self._send("InjectUserMessage", content=text)
            case Tell(text=text):
                self._note(text)
            case ToolResult():
                self._result(command)
            case Instruct(instructions=instructions, tools=tools):
                self._instructions, self._tools = instructions, tools
                self._replace_prompt()
            case _:
                pass  # turns, and what a noise was, are the service's to find

    def _send(self, kind: str, **body: Any) -> None:
        self.outbox.append(encode_text({"type": kind, **body}))

    def _note(self, text: str) -> None:
        """Add to the prompt: that is how it is told what nobody says."""
        self._notes.append(text)
        if len(self._notes) > NOTES_MAX:
            self._replace_prompt()
        else:
            self._send("UpdatePrompt", prompt=text)

    def _replace_prompt(self) -> None:
        del self._notes[:-NOTES_KEPT]
        prompt = "\n\n".join((self._instructions, *self._notes)).strip()
        self._send("UpdateThink", think=_think(self._settings, prompt, self._tools))

    def _truncate(self, command: Truncate) -> None:
        """What was not heard cannot be taken back: the model is told."""
        said = self._said.pop((command.reply, command.step), "")
        if command.heard_ms and command.heard_text:
            heard = command.heard_text
            self._note(f'Note: the caller interrupted your answer and heard only: "{heard}"')
        elif not command.heard_ms and said:
            self._note(f'Note: the caller did not hear your answer: "{said[:QUOTED_MAX_CHARS]}"')

    def _cancel(self, id: str) -> None:
        """The service cannot be stopped: what it still says of a reply is dropped."""
        if self._reply is not None and self._reply.id == id:
            self._over(self._reply, "cancelled")
        elif any(say.reply == id for say in self._asked) and id not in self._cancelled:
            self._cancelled.add(id)
            self.events.append(ReplyDone(reply=id, status="cancelled"))

    def _over(self, reply: _Reply, status: Literal["whole", "cancelled"]) -> None:
        if not reply.is_cancelled:
            self._end_sound(reply)
            reply.is_cancelled = True  # nothing of it is passed on any more
            self.events.append(ReplyDone(reply=reply.id, status=status))

    def _result(self, command: ToolResult) -> None:
        reply = self._calls.pop(command.call_id, None)
        if reply is None:  # made in a session before this one, or given up by the service
            self._note(f"Note: the function {command.call_id} has returned: {command.text}")
            return
        name = reply.waits_for.pop(command.call_id)
        self._send("FunctionCallResponse", id=command.call_id, name=name, content=command.text)
        self._go_on(reply)

    def _go_on(self, reply: _Reply) -> None:
        """Once its functions have all returned, a reply goes on."""
        if not reply.waits_for and reply is self._reply:
            reply.goes_on = True  # with its next words: sound until then is of those before

    def _next_step(self, reply: _Reply) -> None:
        self._end_sound(reply)
        reply.step, reply.has_text, reply.goes_on = reply.step + 1, False, False

    # --- what the service says --------------------------------------------------------------

    def hear(self, message: str | bytes) -> None:
        if isinstance(message, bytes):
            self._on_audio(message)
            return
        event = decode(self._provider, EVENT, message)
        match event.type:
            case "Welcome":
                self.outbox.append(encode_text(_settings(self._settings, self._session)))
            case "SettingsApplied":
                self.is_ready = True
            case "UserStartedSpeaking":
                self._on_caller_began()
            case "ConversationText" if event.role == "user":
                self._on_caller_said(event.content)
            case "ConversationText" if event.content:
                self._on_text(event.content)
            case "AgentAudioDone":
                self._on_audio_done()
            case "FunctionCallRequest":
                for function in event.functions:
                    self._on_function(function)
            case "FunctionCallCancelled":
                for function in event.functions:
                    self._on_function_dropped(function.id)
            case "InjectionRefused":
                self._on_refused()
            case "Error":
                raise service_fault(self._provider, event.code, event.description)
            case "Warning":
                log.warning("speech_model_warning", provider=self._provider, code=event.code)

    def _on_caller_began(self) -> None:
        if self._reply is not None:
            self._over(self._reply, "cancelled")  # it falls silent by itself
            self._reply = None
        if not self._turn:
            self._turns += 1
            self._turn = f"t{self._turns}"
            self.events.append(CallerBegan(turn=self._turn))

    def _on_caller_said(self, text: str) -> None:
        """It says so once it takes the turn to be over."""
        if self._told and text == self._told[0]:
            self._told.popleft()
            return
        self._on_caller_began()
        turn, self._turn = self._turn, ""
        self._is_answering = True
        self.events.append(CallerEnded(turn=turn))
        self.events.append(CallerSaid(turn=turn, text=text, is_final=True))

    def _made(self, text: str = "") -> _Reply:
        """The reply that what comes now belongs to: one we asked for, or one of its own."""
        reply = self._reply
        if reply is not None:
            if text and reply.waits_for and self._is_line(text):  # a step while its functions run
                self._asked.popleft()
                self._next_step(reply)
            elif text and reply.goes_on:
                self._next_step(reply)
            return reply
        if self._asked and (self._is_line(text) if text else not self._is_answering):
            id = self._asked.popleft().reply
        else:
            self._own_replies += 1
            self._is_answering = False
            id = f"m{self._own_replies}"
        self._reply = reply = _Reply(id, is_cancelled=id in self._cancelled)
        self._cancelled.discard(id)
        if not reply.is_cancelled:
            self.events.append(ReplyBegun(reply=id))
        return reply

    def _is_line(self, text: str) -> bool:
        """Whether ``text`` is (the beginning of) the line that we asked for next."""
        return bool(self._asked) and self._asked[0].text.startswith(text.strip())

    def _on_text(self, text: str) -> None:
        reply = self._made(text)
        if not reply.is_cancelled:
            gap = " " if reply.has_text else ""  # it comes by the sentence
            reply.has_text = True
            self.events.append(ReplyText(reply=reply.id, step=reply.step, text=gap + text))
            spoken = (reply.id, reply.step)
            self._said[spoken] = self._said.get(spoken, "") + gap + text
            while len(self._said) > REPLIES_KEPT:
                del self._said[next(iter(self._said))]

    def _on_audio(self, mulaw: bytes) -> None:
        if self._reply is None and self._turn:
            return  # of a reply that the caller has interrupted
        reply = self._made()
        if not reply.is_cancelled:
            reply.has_sound = True
            pcm = mulaw_to_pcm(mulaw)
            self.events.append(ReplyAudio(reply=reply.id, step=reply.step, pcm=pcm))

    def _end_sound(self, reply: _Reply) -> None:
        if reply.has_sound:
            reply.has_sound = False
            last = ReplyAudio(reply=reply.id, step=reply.step, pcm=b"", is_last=True)
            self.events.append(last)

    def _on_audio_done(self) -> None:
        reply = self._reply
        if reply is None:
            return
        if reply.waits_for or reply.goes_on:
            self._end_sound(reply)
            return
        self._over(reply, "whole")
        self._reply = None

    def _on_function(self, function: _Function) -> None:
        if not function.client_side:
            return
        reply = self._made()
        if reply.is_cancelled:
            return
        if reply.goes_on:  # one function after another, without a word between
            self._next_step(reply)
        self._end_sound(reply)
        reply.waits_for[function.id] = function.name
        self._calls[function.id] = reply
        call = ToolCall(id=function.id, name=function.name, arguments=function.arguments or "{}")
        self.events.append(ReplyToolCall(reply=reply.id, step=reply.step, call=call))

    def _on_function_dropped(self, id: str) -> None:
        reply = self._calls.pop(id, None)
        if reply is not None and reply.waits_for.pop(id, None) is not None:
            self.events.append(ToolCallDropped(reply=reply.id, call_id=id))
            self._go_on(reply)

    def _on_refused(self) -> None:
        """A line was not taken: somebody was speaking."""
        if self._asked:
            id = self._asked.popleft().reply
            if id not in self._cancelled and (self._reply is None or self._reply.id != id):
                self.events.append(ReplyDone(reply=id, status="refused"))
            self._cancelled.discard(id)


def _settings(settings: DeepgramAgentSettings, session: SpeechSession) -> dict[str, Any]:
    """The ``Settings`` of a session."""
    listen: dict[str, Any] = {"type": "deepgram", "model": settings.listen_model}
    if settings.listen_model.startswith("flux"):
        listen["version"] = "v2"
    else:
        listen["language"] = settings.language or session.context.language
    if session.context.phrases:
        listen["keyterms"] = list(session.context.phrases)
    summary = "\n\n".join(m.text for m in session.messages if m.role == "system")
    prompt = f"{session.instructions}\n\n{summary}".strip()
    speak = {"provider": {"type": "deepgram", "model": settings.voice}}
    agent: dict[str, Any] = {
        "listen": {"provider": listen} | settings.listen,
        "think": _think(settings, prompt, session.tools),
        "speak": speak | settings.speak,
    }
    if messages := _history(session.messages):
        agent["context"] = {"messages": messages}
    audio = {"encoding": "mulaw", "sample_rate": RATE_HZ}
    told = {
        "type": "Settings",
        "audio": {"input": audio, "output": audio | {"container": "none"}},
        "agent": agent,
    }
    return told | settings.extra


def _think(
    settings: DeepgramAgentSettings, prompt: str, tools: tuple[ToolSpec, ...]
) -> dict[str, Any]:
    provider: dict[str, Any] = {"type": settings.think_provider, "model": settings.think_model}
    if settings.temperature is not None:
        provider["temperature"] = settings.temperature
    functions = [
        {
            "name": tool.name,
            "description": tool.description,
            "parameters": tool.parameters or {"type": "object", "properties": {}},
        }
        for tool in tools
    ]
    return {"provider": provider, "prompt": prompt, "functions": functions} | settings.think


def _history(messages: tuple[Message, ...]) -> list[dict[str, Any]]:
    """The conversation so far, functions with what came of them."""
    results = {m.tool_call_id: m.text for m in messages if m.role == "tool"}
    items: list[dict[str, Any]] = []
    for message in messages:
        if message.role in ("user", "assistant") and message.text:
            items.append({"type": "History", "role": message.role, "content": message.text})
        calls = [
            {
                "id": call.id,
                "name": call.name,
                "client_side": True,
                "arguments": call.arguments or "{}",
                "response": results.get(call.id, ""),
            }
            for call in message.tool_calls
        ]
        if calls:
            items.append({"type": "History", "function_calls": calls})
    return items
