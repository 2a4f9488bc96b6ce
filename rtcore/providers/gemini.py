"""Google Gemini, ``streamGenerateContent`` as server-sent events.

Source: google-genai 3.4.0, ``types.py`` and ``models.py``. Each event is a whole response whose
text parts are increments; there is no end marker.
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

__all__ = ["GeminiResponder", "GeminiSettings"]

FILTERED = frozenset(
    {"SAFETY", "RECITATION", "BLOCKLIST", "PROHIBITED_CONTENT", "SPII", "LANGUAGE"}
)


class GeminiSettings(Settings, frozen=True):
    """``extra`` is merged into ``generationConfig``: thinking, sampling."""

    model: str
    base_url: str = "https://generativelanguage.googleapis.com/v1beta"
    key_name: str = "GEMINI_API_KEY"
    temperature: float | None = None
    max_output_tokens: int | None = None
    extra: dict[str, Any] = msgspec.field(default_factory=dict)
    deadlines: Deadlines = Deadlines()


class _Call(msgspec.Struct):
    name: str = ""
    id: str | None = None
    args: dict[str, Any] | None = None


class _Part(msgspec.Struct, rename="camel"):
    text: str | None = None
    thought: bool | None = None
    thought_signature: str | None = None
    function_call: _Call | None = None


class _Content(msgspec.Struct):
    parts: list[_Part] | None = None


class _Candidate(msgspec.Struct, rename="camel"):
    content: _Content | None = None
    finish_reason: str | None = None


class _Usage(msgspec.Struct, rename="camel"):
    prompt_token_count: int | None = None
    cached_content_token_count: int | None = None
    candidates_token_count: int | None = None
    thoughts_token_count: int | None = None


class _Feedback(msgspec.Struct, rename="camel"):
    block_reason: str | None = None


class _Error(msgspec.Struct):
    message: str = ""
    status: str = ""


class _Chunk(msgspec.Struct, rename="camel"):
    candidates: list[_Candidate] | None = None
    usage_metadata: _Usage | None = None
    prompt_feedback: _Feedback | None = None
    error: _Error | None = None


CHUNK = msgspec.json.Decoder(_Chunk)


class GeminiResponder(HttpService):
    """A mind at Google; fills :class:`rtcore.ports.Responder`."""

    def __init__(
        self, settings: GeminiSettings, secrets: Mapping[str, str], *, name: str = "gemini"
    ) -> None:
        self._settings = settings
        secret = find_secret(secrets, settings.key_name)
        client = HttpClient(
            name,
            settings.base_url,
            headers={"x-goog-api-key": secret.reveal()},
            deadlines=settings.deadlines,
            secret=secret,
        )
        super().__init__(client)

    async def respond(self, request: ResponderRequest, out: trio.MemorySendChannel[Delta]) -> None:
        """Stream one answer; see :class:`rtcore.ports.Responder`."""
        path = f"/models/{self._settings.model}:streamGenerateContent?alt=sse"
        reading = _Reading(self.name, f"call_{len(request.messages)}")
        async with await self._client.post(path, request_body(self._settings, request)) as answer:
            while (event := await answer.event()) is not None:
                for text in reading.take(event):
                    await put(out, text)
            for delta in reading.end():
                await put(out, delta)


class _Reading:
    """One answer as its events tell it; no I/O."""

    def __init__(self, provider: str, id_prefix: str) -> None:
        self._provider = provider
        self._id_prefix = id_prefix  # calls need an id to be answered by; not all models give one
        self._calls: list[ToolCall] = []
        self._finish_reason: str | None = None
        self._input_tokens = self._cached_tokens = self._output_tokens = 0

    def take(self, event: SseEvent) -> Iterator[TextDelta]:
        """What one event adds to the text."""
        chunk = decode(self._provider, CHUNK, event.data)
        if chunk.error is not None:
            raise service_fault(self._provider, chunk.error.status, chunk.error.message)
        if chunk.prompt_feedback is not None and chunk.prompt_feedback.block_reason:
            self._finish_reason = "SAFETY"
        if usage := chunk.usage_metadata:
            self._input_tokens = usage.prompt_token_count or 0
            self._cached_tokens = usage.cached_content_token_count or 0
            self._output_tokens = (usage.candidates_token_count or 0) + (
                usage.thoughts_token_count or 0
            )
        for candidate in (chunk.candidates or ())[:1]:
            self._finish_reason = candidate.finish_reason or self._finish_reason
            for part in candidate.content.parts or () if candidate.content else ():
                if part.function_call is not None:
                    self._calls.append(self._call(part.function_call, part.thought_signature))
                elif part.text and not part.thought:
                    yield TextDelta(text=part.text)

    def end(self) -> Iterator[ToolCall | Finished]:
        """The calls, and why it ended.

        Raises:
            ProviderError: the stream ended without saying that the answer is whole, or the
                model failed to write a valid call.
        """
        if self._finish_reason is None:
            raise ProviderError(self._provider, "the stream ended early", retryable=True)
        if self._finish_reason == "MALFORMED_FUNCTION_CALL":
            raise ProviderError(self._provider, "malformed function call", retryable=True)
        yield from self._calls
        if self._finish_reason in FILTERED:
            reason = "filtered"
        elif self._finish_reason == "MAX_TOKENS":
            reason = "length"
        else:
            reason = "tool_calls" if self._calls else "stop"
        yield Finished(
            stop_reason=reason,
            input_tokens=self._input_tokens,
            output_tokens=self._output_tokens,
            cached_tokens=self._cached_tokens,
        )

    def _call(self, call: _Call, signature: str | None) -> ToolCall:
        return ToolCall(
            id=call.id or f"{self._id_prefix}_{len(self._calls)}",
            name=call.name,
            arguments=msgspec.json.encode(call.args or {}).decode(),
            opaque=signature,
        )


def request_body(settings: GeminiSettings, request: ResponderRequest) -> dict[str, Any]:
    """The request as the service wants it: system apart, roles ``user`` and ``model``."""
    body: dict[str, Any] = {"contents": _contents(request.messages)}
    if system := "\n\n".join(m.text for m in request.messages if m.role == "system" and m.text):
        body["systemInstruction"] = {"parts": [{"text": system}]}
    if request.tools:
        declarations = [
            {"name": tool.name, "description": tool.description}
            | ({"parametersJsonSchema": tool.parameters} if tool.parameters else {})
            for tool in request.tools
        ]
        body["tools"] = [{"functionDeclarations": declarations}]
    config: dict[str, Any] = {}
    if settings.temperature is not None:
        config["temperature"] = settings.temperature
    if settings.max_output_tokens is not None:
        config["maxOutputTokens"] = settings.max_output_tokens
    if config := config | settings.extra:
        body["generationConfig"] = config
    return body


def _contents(messages: tuple[Message, ...]) -> list[dict[str, Any]]:
    contents: list[dict[str, Any]] = []
    names: dict[str, str] = {}  # an answer names the function too
    for message in messages:
        names.update((call.id, call.name) for call in message.tool_calls)
        parts = _parts(message, names)
        if message.role == "system" or not parts:
            continue
        role = "model" if message.role == "assistant" else "user"
        if contents and contents[-1]["role"] == role:
            contents[-1]["parts"] += parts
        else:
            contents.append({"role": role, "parts": parts})
    return contents


def _parts(message: Message, names: Mapping[str, str]) -> list[dict[str, Any]]:
    if message.role == "tool":
        call_id = message.tool_call_id or ""
        answer = {"id": call_id, "name": names.get(call_id, ""), "response": _object(message.text)}
        return [{"functionResponse": answer}]
    parts: list[dict[str, Any]] = [{"text": message.text}] if message.text else []
    for call in message.tool_calls:
        part: dict[str, Any] = {
            "functionCall": {"id": call.id, "name": call.name, "args": _object(call.arguments)}
        }
        if call.opaque is not None:
            part["thoughtSignature"] = call.opaque
        parts.append(part)
    return parts


def _object(text: str) -> dict[str, Any]:
    """A JSON object as it is, anything else as the member ``output``."""
    try:
        found = msgspec.json.decode(text or "{}")
    except msgspec.DecodeError:
        found = text
    return found if isinstance(found, dict) else {"output": found}
