"""Chat completions as OpenAI defined them and Groq, vLLM, Ollama, llama.cpp and others speak them.

Source: openai-openapi, CreateChatCompletionStreamResponse. The compatible servers differ: tool
calls without id or index, whole arguments in one piece, ``stop`` where ``tool_calls`` is meant,
no usage, no ``[DONE]``. All are accepted.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import msgspec
import trio

from rtcore.channels import put
from rtcore.errors import ProviderError
from rtcore.ports import (
    Delta,
    Finished,
    Message,
    ResponderRequest,
    TextDelta,
    ToolCall,
    ToolSpec,
)
from rtcore.providers._faults import service_fault
from rtcore.providers._http_service import HttpService, bearer_client
from rtcore.providers._settings import Deadlines, Settings
from rtcore.providers._sse import SseEvent
from rtcore.providers._wire import decode

__all__ = ["OpenAIChatResponder", "OpenAIChatSettings"]

OPENAI_URL = "https://api.openai.com/v1"
STOP_REASONS = {"length": "length", "content_filter": "filtered"}


class OpenAIChatSettings(Settings, frozen=True):
    """``extra`` is merged into each request: whatever else the service takes."""

    model: str
    base_url: str = OPENAI_URL
    key_name: str | None = "OPENAI_API_KEY"  # None: a local server that asks for none
    temperature: float | None = None
    max_output_tokens: int | None = None
    include_usage: bool = True  # some old servers refuse `stream_options`
    extra: dict[str, Any] = msgspec.field(default_factory=dict)
    deadlines: Deadlines = Deadlines()


class _Function(msgspec.Struct):
    name: str | None = None
    arguments: str | dict[str, Any] | None = None  # Ollama has sent objects


class _ToolPiece(msgspec.Struct):
    index: int | None = None
    id: str | None = None
    function: _Function = msgspec.field(default_factory=_Function)


class _Delta(msgspec.Struct):
    content: str | None = None
    refusal: str | None = None
    tool_calls: list[_ToolPiece] | None = None


class _Choice(msgspec.Struct):
    delta: _Delta | None = None
    finish_reason: str | None = None


class _InputDetails(msgspec.Struct):
    cached_tokens: int | None = None


class _Usage(msgspec.Struct):
    prompt_tokens: int = 0
    completion_tokens: int = 0
    prompt_tokens_details: _InputDetails | None = None

    @property
    def cached_tokens(self) -> int:
        details = self.prompt_tokens_details
        return 0 if details is None else details.cached_tokens or 0


class _Error(msgspec.Struct):
    message: str = ""
    type: str | None = None
    code: str | int | None = None


class _Chunk(msgspec.Struct):
    choices: list[_Choice] = []
    usage: _Usage | None = None
    error: _Error | str | None = None


CHUNK = msgspec.json.Decoder(_Chunk)


class OpenAIChatResponder(HttpService):
    """A mind behind an OpenAI-compatible endpoint; fills :class:`rtcore.ports.Responder`."""

    def __init__(
        self, settings: OpenAIChatSettings, secrets: Mapping[str, str], *, name: str = "openai_chat"
    ) -> None:
        super().__init__(
            bearer_client(name, settings.base_url, secrets, settings.key_name, settings.deadlines)
        )
        self._settings = settings

    async def respond(self, request: ResponderRequest, out: trio.MemorySendChannel[Delta]) -> None:
        """Stream one answer; see :class:`rtcore.ports.Responder`."""
        body = request_body(self._settings, request)
        reading = _Reading(self.name, f"call_{len(request.messages)}")
        async with await self._client.post("/chat/completions", body) as answer:
            while not reading.is_done and (event := await answer.event()) is not None:
                for text in reading.take(event):
                    await put(out, text)
            for delta in reading.end():
                await put(out, delta)


class _Reading:
    """One answer as its events tell it; no I/O."""

    def __init__(self, provider: str, id_prefix: str) -> None:
        self._provider = provider
        self._id_prefix = id_prefix  # for servers that name no call; one per conversation state
        self._calls: list[_ToolPiece] = []
        self._finish_reason: str | None = None
        self._usage = _Usage()
        self.is_done = False

    def take(self, event: SseEvent) -> Iterator[TextDelta]:
        """What one event adds to the text."""
        if event.data == b"[DONE]":
            self.is_done = True
            return
        chunk = decode(self._provider, CHUNK, event.data)
        if chunk.error is not None:
            raise _fault(self._provider, chunk.error)
        if chunk.usage is not None:
            self._usage = chunk.usage
        for choice in chunk.choices[:1]:  # one answer is asked for
            self._finish_reason = choice.finish_reason or self._finish_reason
            if choice.delta is None:
                continue
            for piece in choice.delta.tool_calls or ():
                self._add(piece)
            if text := choice.delta.content or choice.delta.refusal:
                yield TextDelta(text=text)

    def end(self) -> Iterator[ToolCall | Finished]:
        """What is known only at the end of the stream: the calls, and why it ended.

        Raises:
            ProviderError: it ended without saying that the answer is whole.
        """
        if self._finish_reason is None and not self.is_done:
            raise ProviderError(self._provider, "the stream ended early", retryable=True)
        for position, call in enumerate(self._calls):
            arguments = call.function.arguments
            assert isinstance(arguments, str)
            yield ToolCall(
                id=call.id or f"{self._id_prefix}_{position}",
                name=call.function.name or "",
                arguments=arguments or "{}",
            )
        reason = STOP_REASONS.get(
            self._finish_reason or "", "tool_calls" if self._calls else "stop"
        )
        yield Finished(
            stop_reason=reason,
            input_tokens=self._usage.prompt_tokens,
            output_tokens=self._usage.completion_tokens,
            cached_tokens=self._usage.cached_tokens,
        )

    def _add(self, piece: _ToolPiece) -> None:
        """Join a piece to the call it belongs to; only its arguments come in many pieces."""
        given = piece.function.arguments
        text = given if isinstance(given, str) else msgspec.json.encode(given or {}).decode()
        text = "" if given is None else text
        call = self._call_of(piece)
        if call is None:
            function = _Function(piece.function.name, text)
            self._calls.append(_ToolPiece(piece.index, piece.id, function))
            return
        call.id = call.id or piece.id
        call.function.name = call.function.name or piece.function.name
        assert isinstance(call.function.arguments, str)
        call.function.arguments += text

    def _call_of(self, piece: _ToolPiece) -> _ToolPiece | None:
        if piece.index is not None:
            return next((call for call in self._calls if call.index == piece.index), None)
        begins = piece.id or piece.function.name  # no index: a name or an id begins a call
        return None if begins or not self._calls else self._calls[-1]


def request_body(settings: OpenAIChatSettings, request: ResponderRequest) -> dict[str, Any]:
    """The request as the service wants it."""
    body: dict[str, Any] = {
        "model": settings.model,
        "messages": [_message(message) for message in request.messages],
        "stream": True,
    }
    if settings.include_usage:
        body["stream_options"] = {"include_usage": True}
    if request.tools:
        body["tools"] = [_tool(tool) for tool in request.tools]
        body["tool_choice"] = "auto"
    if settings.temperature is not None:
        body["temperature"] = settings.temperature
    if settings.max_output_tokens is not None:  # OpenAI renamed it, the others did not
        is_openai = settings.base_url == OPENAI_URL
        name = "max_completion_tokens" if is_openai else "max_tokens"
        body[name] = settings.max_output_tokens
    return body | settings.extra


def _message(message: Message) -> dict[str, Any]:
    found: dict[str, Any] = {"role": message.role, "content": message.text}
    if message.tool_calls:
        found["tool_calls"] = [
            {
                "id": call.id,
                "type": "function",
                "function": {"name": call.name, "arguments": call.arguments},
            }
            for call in message.tool_calls
        ]
    if message.tool_call_id is not None:
        found["tool_call_id"] = message.tool_call_id
    return found


def _tool(tool: ToolSpec) -> dict[str, Any]:
    function = {
        "name": tool.name,
        "description": tool.description,
        "parameters": tool.parameters or {"type": "object", "properties": {}},
    }
    return {"type": "function", "function": function}


def _fault(provider: str, error: _Error | str) -> ProviderError:
    if isinstance(error, str):
        return service_fault(provider, "", error)
    return service_fault(provider, str(error.type or error.code or ""), error.message)
