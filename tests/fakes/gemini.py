"""A Gemini ``streamGenerateContent?alt=sse`` server as documented: no end marker."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from tests.fakes._faults import Fault
from tests.fakes._http import FakeHttpServer, HttpRequest, Reply, sse


@dataclass(frozen=True)
class Answer:
    """Text pieces, then calls as (id, name, arguments, thought signature)."""

    texts: Sequence[str] = ("Hello", " there", ".")
    calls: Sequence[tuple[str | None, str, dict[str, Any], str | None]] = ()
    finish_reason: str = "STOP"


class FakeGemini(FakeHttpServer):
    """Says ``answers`` in turn, the last for ever; refuses a call sent back unsigned."""

    def __init__(self, *answers: Answer) -> None:
        super().__init__()
        self.answers = list(answers) or [Answer()]

    def choose(self, request: HttpRequest) -> Answer:
        """What to say to ``request``."""
        return self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]

    async def answer(self, request: HttpRequest, reply: Reply, fault: Fault) -> None:
        if ":streamGenerateContent?alt=sse" not in request.path:
            await reply.whole(404, b'[{"error":{"message":"unknown method"}}]', "application/json")
            return
        parts = [part for content in request.json()["contents"] for part in content["parts"]]
        signed = any(signature for a in self.answers for *_, signature in a.calls)
        if signed and any("functionCall" in p and "thoughtSignature" not in p for p in parts):
            body = (
                b'[{"error":{"message":"missing thought_signature","status":"INVALID_ARGUMENT"}}]'
            )
            await reply.whole(400, body, "application/json")
            return
        answer = self.choose(request)
        await self.play(
            reply,
            [sse(chunk) for chunk in _chunks(answer)],
            fault,
            error=sse({"error": {"code": 503, "message": "overloaded", "status": "UNAVAILABLE"}}),
            unknown=sse({"novelty": [1], "candidates": [{"content": {"parts": [{"new": {}}]}}]}),
        )


def _chunks(answer: Answer) -> list[dict[str, Any]]:
    parts: list[dict[str, Any]] = [{"text": "pondering", "thought": True}]
    parts += [{"text": text} for text in answer.texts]
    for call_id, name, args, signature in answer.calls:
        call: dict[str, Any] = {"name": name, "args": args}
        part: dict[str, Any] = {"functionCall": call}
        if call_id is not None:
            call["id"] = call_id
        if signature is not None:
            part["thoughtSignature"] = signature
        parts.append(part)
    chunks = [
        {"candidates": [{"content": {"role": "model", "parts": [part]}, "index": 0}]}
        for part in parts
    ]
    chunks[-1]["candidates"][0]["finishReason"] = answer.finish_reason
    usage = {"promptTokenCount": 12, "candidatesTokenCount": 7, "totalTokenCount": 19}
    return [chunk | {"usageMetadata": usage} for chunk in chunks]
