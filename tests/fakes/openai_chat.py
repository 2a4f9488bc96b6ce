"""A chat completions server as OpenAI documents it, and as its imitators depart from it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from tests.fakes._faults import Fault
from tests.fakes._http import FakeHttpServer, HttpRequest, Reply, sse


@dataclass(frozen=True)
class Answer:
    """What the model says: text pieces, then calls as (id, name, pieces of arguments)."""

    texts: Sequence[str] = ("Hello", " there", ".")
    calls: Sequence[tuple[str | None, str, Sequence[str]]] = ()
    finish_reason: str | None = None  # None: as OpenAI would


@dataclass(frozen=True)
class Quirks:
    """How a compatible server departs."""

    call_ids: bool = True
    call_indexes: bool = True
    finish_stop_always: bool = False
    usage: bool = True
    done_marker: bool = True


class FakeOpenAIChat(FakeHttpServer):
    """Says ``answers`` in turn, the last for ever; counts five input tokens a message."""

    def __init__(self, *answers: Answer, quirks: Quirks = Quirks()) -> None:
        super().__init__()
        self.answers = list(answers) or [Answer()]
        self.quirks = quirks

    def choose(self, request: HttpRequest) -> Answer:
        """What to say to ``request``."""
        return self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]

    async def answer(self, request: HttpRequest, reply: Reply, fault: Fault) -> None:
        if not request.path.endswith("/chat/completions"):
            await reply.whole(404, b'{"error":{"message":"unknown path"}}', "application/json")
            return
        answer = self.choose(request)
        body = request.json()
        await self.play(
            reply,
            [sse(chunk) for chunk in self._chunks(answer, body)]
            + ([sse(b"[DONE]")] if self.quirks.done_marker else []),
            fault,
            error=sse({"error": {"message": "scripted fault", "type": "server_error"}}),
            unknown=b': keep-alive\n\nevent: novelty\ndata: {"choices": [], "new": 1}\n\n',
        )

    def _chunks(self, answer: Answer, body: dict[str, Any]) -> list[dict[str, Any]]:
        chunks = [_chunk({"role": "assistant", "content": ""})]
        chunks += [_chunk({"content": text, "obfuscation": "x"}) for text in answer.texts]
        for index, (call_id, name, pieces) in enumerate(answer.calls):
            head: dict[str, Any] = {"type": "function", "function": {"name": name, "arguments": ""}}
            if self.quirks.call_ids and call_id:
                head["id"] = call_id
            heads = [head, *({"function": {"arguments": piece}} for piece in pieces)]
            for piece in heads:
                if self.quirks.call_indexes:
                    piece["index"] = index
                chunks.append(_chunk({"tool_calls": [piece]}))
        usual = "tool_calls" if answer.calls and not self.quirks.finish_stop_always else "stop"
        chunks.append(_chunk({}, answer.finish_reason or usual))
        if self.quirks.usage and body.get("stream_options", {}).get("include_usage"):
            usage = {
                "prompt_tokens": 5 * len(body["messages"]),
                "completion_tokens": len(answer.texts),
                "total_tokens": 5 * len(body["messages"]) + len(answer.texts),
            }
            chunks.append(_chunk({}) | {"choices": [], "usage": usage})
        return chunks


def _chunk(delta: dict[str, Any], finish_reason: str | None = None) -> dict[str, Any]:
    choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish_reason}
    return {
        "id": "chatcmpl-1",
        "object": "chat.completion.chunk",
        "created": 1_700_000_000,
        "model": "scripted",
        "choices": [choice],
        "usage": None,
    }
