"""Anthropic Messages, streamed.

Source: the events of anthropic 2.11.0 and platform.claude.com/docs, streaming.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import msgspec
import trio

from rtcore.channels import put
from rtcore.errors import ProviderError
from rtcore.ports import Delta, Finished, Message, ResponderRequest, TextDelta, ToolCall
from rtcore.providers._faults import service_fault
from rtcore.providers._http import HttpClient
from rtcore.providers._http_service import HttpService
from rtcore.providers._settings import Deadlines, Settings, find_secret
from rtcore.providers._sse import SseEvent
from rtcore.providers._wire import decode

__all__ = ["AnthropicResponder", "AnthropicSettings"]

STOP_REASONS = {
    "tool_use": "tool_calls",
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
    "refusal": "filtered",
}
OPENING = "[The call is connected.]"  # the service wants the user's word first; a welcome is ours


class AnthropicSettings(Settings, frozen=True):
    """``extra`` is merged into each request: whatever else the service takes."""

    model: str
    base_url: str = "https://api.anthropic.com"
    key_name: str = "ANTHROPIC_API_KEY"
    version: str = "2026-10-21"
    max_output_tokens: int = 1024  # the service wants a limit; some minutes of speech
    temperature: float | None = None
    extra: dict[str, Any] = msgspec.field(default_factory=dict)
    deadlines: Deadlines = Deadlines()


class _Usage(msgspec.Struct):
    input_tokens: int | None = None
    cache_read_input_tokens: int | None = None
    cache_creation_input_tokens: int | None = None
    output_tokens: int | None = None


class _Start(msgspec.Struct):
    usage: _Usage = msgspec.field(default_factory=_Usage)


class _Block(msgspec.Struct):
    type: str = ""
    text: str = ""
    id: str = ""
    name: str = ""


class _Part(msgspec.Struct):
    """The ``delta`` of a block and that of the message."""

    type: str = ""
    text: str = ""
    partial_json: str = ""
    stop_reason: str | None = None


class _Error(msgspec.Struct):
    type: str = ""
    message: str = ""


class _Event(msgspec.Struct):
    type: str
    index: int = 0
    message: _Start = msgspec.field(default_factory=_Start)
    content_block: _Block = msgspec.field(default_factory=_Block)
    delta: _Part = msgspec.field(default_factory=_Part)
    usage: _Usage | None = None
    error: _Error = msgspec.field(default_factory=_Error)


class _Kind(msgspec.Struct):
    type: str = ""


KIND = msgspec.json.Decoder(_Kind)
EVENT = msgspec.json.Decoder(_Event)
KNOWN = frozenset(
    {
        "message_start",
        "content_block_start",
        "content_block_delta",
        "message_delta",
        "message_stop",
        "error",
    }
)


class AnthropicResponder(HttpService):
    """A mind at Anthropic; fills :class:`rtcore.ports.Responder`."""

    def __init__(
        self, settings: AnthropicSettings, secrets: Mapping[str, str], *, name: str = "anthropic"
    ) -> None:
        self._settings = settings
        secret = find_secret(secrets, settings.key_name)
        client = HttpClient(
            name,
            settings.base_url,
            headers={"x-api-key": secret.reveal(), "anthropic-version": settings.version},
            deadlines=settings.deadlines,
            secret=secret,
        )
        super().__init__(client)

    async def respond(self, request: ResponderRequest, out: trio.MemorySendChannel[Delta]) -> None:
        """Stream one answer; see :class:`rtcore.ports.Responder`."""
        reading = _Reading(self.name)
        async with await self._client.post(
            "/v1/messages", request_body(self._settings, request)
        ) as answer:
            while not reading.is_done and (event := await answer.event()) is not None:
                for text in reading.take(event):
                    await put(out, text)
            for delta in reading.end():
                await put(out, delta)


class _Reading:
    """One answer as its events tell it; no I/O."""

    def __init__(self, provider: str) -> None:
        self._provider = provider
        self._calls: dict[int, tuple[_Block, list[str]]] = {}
        self._stop_reason = ""
        self._input_tokens = self._cached_tokens = self._output_tokens = 0
        self.is_done = False

    def take(self, event: SseEvent) -> Iterator[TextDelta]:
        """What one event adds to the text."""
        if decode(self._provider, KIND, event.data).type not in KNOWN:
            return  # the set is open: what is new may have any shape
        found = decode(self._provider, EVENT, event.data)
        if found.type == "message_start":
            self._count(found.message.usage)
        elif found.type == "content_block_start":
            if found.content_block.type == "tool_use":
                self._calls[found.index] = (found.content_block, [])
            elif found.content_block.type == "text" and found.content_block.text:
                yield TextDelta(text=found.content_block.text)
        elif found.type == "content_block_delta":
            if found.delta.type == "text_delta" and found.delta.text:
                yield TextDelta(text=found.delta.text)
            elif found.delta.type == "input_json_delta" and found.index in self._calls:
                self._calls[found.index][1].append(found.delta.partial_json)
        elif found.type == "message_delta":
            self._stop_reason = found.delta.stop_reason or self._stop_reason
            self._count(found.usage or _Usage())
        elif found.type == "message_stop":
            self.is_done = True
        else:
            raise service_fault(self._provider, found.error.type, found.error.message)

    def end(self) -> Iterator[ToolCall | Finished]:
        """The calls, and why it ended.

        Raises:
            ProviderError: the stream ended without saying that the answer is whole.
        """
        if not self.is_done:
            raise ProviderError(self._provider, "the stream ended early", retryable=True)
        for block, pieces in self._calls.values():
            yield ToolCall(id=block.id, name=block.name, arguments="".join(pieces) or "{}")
        yield Finished(
            stop_reason=STOP_REASONS.get(self._stop_reason, "stop"),
            input_tokens=self._input_tokens,
            output_tokens=self._output_tokens,
            cached_tokens=self._cached_tokens,
        )

    def _count(self, usage: _Usage) -> None:
        """Usage is cumulative, and told in parts."""
        if usage.input_tokens is not None:
            self._cached_tokens = usage.cache_read_input_tokens or 0
            written = usage.cache_creation_input_tokens or 0
            self._input_tokens = usage.input_tokens + self._cached_tokens + written
        if usage.output_tokens is not None:
            self._output_tokens = usage.output_tokens


def request_body(settings: AnthropicSettings, request: ResponderRequest) -> dict[str, Any]:
    """The request as the service wants it: system apart, roles alternating, the user first."""
    body: dict[str, Any] = {
        "model": settings.model,
        "max_tokens": settings.max_output_tokens,
        "messages": _messages(request.messages),
        "stream": True,
    }
    if system := "\n\n".join(m.text for m in request.messages if m.role == "system" and m.text):
        body["system"] = system
    if request.tools:
        body["tools"] = [
            {
                "name": tool.name,
                "description": tool.description,
                "input_schema": tool.parameters or {"type": "object", "properties": {}},
            }
            for tool in request.tools
        ]
        body["tool_choice"] = {"type": "auto"}
    if settings.temperature is not None:
        body["temperature"] = settings.temperature
    return body | settings.extra


def _messages(messages: tuple[Message, ...]) -> list[dict[str, Any]]:
    turns: list[dict[str, Any]] = []
    for message in messages:
        blocks = _blocks(message)
        if message.role == "system" or not blocks:
            continue
        role = "assistant" if message.role == "assistant" else "user"
        if not turns and role == "assistant":
            turns.append({"role": "user", "content": [{"type": "text", "text": OPENING}]})
        if turns and turns[-1]["role"] == role:
            turns[-1]["content"] += blocks
        else:
            turns.append({"role": role, "content": blocks})
    return turns


def _blocks(message: Message) -> list[dict[str, Any]]:
    if message.role == "tool":
        result = {"type": "tool_result", "tool_use_id": message.tool_call_id}
        return [{**result, "content": message.text}]
    blocks: list[dict[str, Any]] = []
    if message.text.strip():  # an empty text block is an error
        blocks.append({"type": "text", "text": message.text})
    for call in message.tool_calls:
        blocks.append(
            {"type": "tool_use", "id": call.id, "name": call.name, "input": _input_of(call)}
        )
    return blocks


def _input_of(call: ToolCall) -> dict[str, Any]:
    """Arguments as an object; what the model got wrong is shown to it as it was."""
    try:
        found = msgspec.json.decode(call.arguments or "{}")
    except msgspec.DecodeError:
        found = call.arguments
    return found if isinstance(found, dict) else {"invalid": found}
