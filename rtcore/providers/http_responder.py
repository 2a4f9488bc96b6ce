"""Bring your own mind: an HTTP endpoint that streams its answer.

The request is ``POST <url>`` with JSON ``{"call_id", "language", "messages", "tools"}``, the
messages and tools as :mod:`rtcore.ports` defines them. The answer is an event stream; each
``data`` is one of ``{"type": "text", "text"}``, ``{"type": "tool_call", "id", "name",
"arguments"}``, ``{"type": "error", "message", "retryable"}`` and, at the end,
``{"type": "finished", "stop_reason", "input_tokens", "output_tokens", "cached_tokens"}``.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec
import trio

from rtcore.channels import put
from rtcore.errors import ProviderError
from rtcore.ports import Delta, Finished, ResponderRequest, TextDelta, ToolCall
from rtcore.providers._http_service import HttpService, bearer_client
from rtcore.providers._settings import Deadlines, Settings
from rtcore.providers._wire import decode

__all__ = ["HttpResponder", "HttpResponderSettings"]


class HttpResponderSettings(Settings, frozen=True):
    """Where the endpoint is; its key, if it wants one, goes as a bearer token."""

    url: str
    key_name: str | None = None
    deadlines: Deadlines = Deadlines()


class _Piece(msgspec.Struct):
    type: str = ""
    text: str = ""
    id: str = ""
    name: str = ""
    arguments: str = "{}"
    message: str = ""
    retryable: bool = True
    stop_reason: str = "stop"
    input_tokens: int = 0
    output_tokens: int = 0
    cached_tokens: int = 0


PIECE = msgspec.json.Decoder(_Piece)


class HttpResponder(HttpService):
    """A mind behind an endpoint of your own; fills :class:`rtcore.ports.Responder`."""

    def __init__(
        self, settings: HttpResponderSettings, secrets: Mapping[str, str], *, name: str = "http"
    ) -> None:
        super().__init__(
            bearer_client(name, settings.url, secrets, settings.key_name, settings.deadlines)
        )
        self._url = settings.url

    async def respond(self, request: ResponderRequest, out: trio.MemorySendChannel[Delta]) -> None:
        """Stream one answer; see :class:`rtcore.ports.Responder`."""
        body = {
            "call_id": request.context.call_id,
            "language": request.context.language,
            "messages": request.messages,
            "tools": request.tools,
        }
        async with await self._client.post(self._url, body) as answer:
            while (event := await answer.event()) is not None:
                delta = self._delta(event.data)
                if delta is not None:
                    await put(out, delta)
                if isinstance(delta, Finished):
                    return
        raise ProviderError(self.name, "the stream ended early", retryable=True)

    def _delta(self, data: bytes) -> Delta | None:
        piece = decode(self.name, PIECE, data)
        match piece.type:
            case "text":
                return TextDelta(text=piece.text) if piece.text else None
            case "tool_call":
                return ToolCall(id=piece.id, name=piece.name, arguments=piece.arguments)
            case "finished":
                return Finished(
                    stop_reason=piece.stop_reason,
                    input_tokens=piece.input_tokens,
                    output_tokens=piece.output_tokens,
                    cached_tokens=piece.cached_tokens,
                )
            case "error":
                raise ProviderError(self.name, piece.message, retryable=piece.retryable)
        return None  # unknown: a newer endpoint
