"""An Anthropic Messages server as documented, streaming."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import msgspec

from tests.fakes._faults import Fault
from tests.fakes._http import FakeHttpServer, HttpRequest, Reply, sse


@dataclass(frozen=True)
class Answer:
    """Text pieces, then calls as (id, name, pieces of arguments)."""

    texts: Sequence[str] = ("Hello", " there", ".")
    calls: Sequence[tuple[str, str, Sequence[str]]] = ()
    stop_reason: str = ""


class FakeAnthropic(FakeHttpServer):
    """Says ``answers`` in turn, the last for ever; refuses what the service refuses."""

    def __init__(self, *answers: Answer) -> None:
        super().__init__()
        self.answers = list(answers) or [Answer()]

    def choose(self, request: HttpRequest) -> Answer:
        """What to say to ``request``."""
        return self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]

    async def answer(self, request: HttpRequest, reply: Reply, fault: Fault) -> None:
        if complaint := _complaint(request):
            told = {"type": "invalid_request_error", "message": complaint}
            error = {"type": "error", "error": told}
            await reply.whole(400, msgspec.json.encode(error), "application/json")
            return
        answer = self.choose(request)
        overloaded = {"type": "overloaded_error", "message": "Overloaded"}
        await self.play(
            reply,
            _events(answer),
            fault,
            error=_event("error", error=overloaded),
            unknown=_event("ping") + _event("content_block_novelty", index={"deep": 1}),
            malformed=b"event: content_block_delta\ndata: {\n\n",
        )


def _complaint(request: HttpRequest) -> str:
    """What is wrong with a request, in the service's order."""
    body = request.json()
    if "anthropic-version" not in request.headers:
        return "anthropic-version: header is required"
    if "max_tokens" not in body:
        return "max_tokens: Field required"
    roles = [message["role"] for message in body["messages"]]
    if not roles or roles[0] != "user" or any(a == b for a, b in pairwise(roles)):
        return "messages: roles must alternate and begin with user"
    for message in body["messages"]:
        blocks = message["content"]
        if isinstance(blocks, list) and any(b["type"] == "text" and not b["text"] for b in blocks):
            return "messages: text content blocks must be non-empty"
    return ""


def _events(answer: Answer) -> list[bytes]:
    message: dict[str, Any] = {
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "content": [],
        "model": "scripted",
        "stop_reason": None,
        "stop_sequence": None,
        "usage": {"input_tokens": 25, "output_tokens": 1},
    }
    events = [_event("message_start", message=message), _event("ping")]
    index = 0
    if answer.texts:
        events.append(_start(index, {"type": "text", "text": ""}))
        events += [_delta(index, {"type": "text_delta", "text": text}) for text in answer.texts]
        events.append(_event("content_block_stop", index=index))
        index += 1
    for call_id, name, pieces in answer.calls:
        events.append(_start(index, {"type": "tool_use", "id": call_id, "name": name, "input": {}}))
        for piece in pieces:
            events.append(_delta(index, {"type": "input_json_delta", "partial_json": piece}))
        events.append(_event("content_block_stop", index=index))
        index += 1
    reason = answer.stop_reason or ("tool_use" if answer.calls else "end_turn")
    delta = {"stop_reason": reason, "stop_sequence": None}
    usage = {"output_tokens": 4 + len(answer.texts)}
    return [*events, _event("message_delta", delta=delta, usage=usage), _event("message_stop")]


def _event(name: str, **members: Any) -> bytes:
    return sse({"type": name, **members}, name)


def _start(index: int, block: dict[str, Any]) -> bytes:
    return _event("content_block_start", index=index, content_block=block)


def _delta(index: int, delta: dict[str, Any]) -> bytes:
    return _event("content_block_delta", index=index, delta=delta)
