"""An endpoint of a user's own, as ``docs/providers.md`` asks for it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tests.fakes._faults import Fault
from tests.fakes._http import FakeHttpServer, HttpRequest, Reply, sse


@dataclass(frozen=True)
class Answer:
    """Text pieces, then calls as (id, name, pieces of arguments)."""

    texts: Sequence[str] = ("Hello", " there", ".")
    calls: Sequence[tuple[str, str, Sequence[str]]] = ()


class FakeOwnEndpoint(FakeHttpServer):
    """Says ``answers`` in turn, the last for ever."""

    def __init__(self, *answers: Answer) -> None:
        super().__init__()
        self.answers = list(answers) or [Answer()]

    def choose(self, request: HttpRequest) -> Answer:
        """What to say to ``request``."""
        return self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]

    async def answer(self, request: HttpRequest, reply: Reply, fault: Fault) -> None:
        answer = self.choose(request)
        events = [sse({"type": "text", "text": text}) for text in answer.texts]
        for call_id, name, pieces in answer.calls:
            call = {"type": "tool_call", "id": call_id, "name": name, "arguments": "".join(pieces)}
            events.append(sse(call))
        reason = "tool_calls" if answer.calls else "stop"
        end = {"type": "finished", "stop_reason": reason, "input_tokens": 3, "output_tokens": 2}
        await self.play(
            reply,
            [*events, sse(end)],
            fault,
            error=sse({"type": "error", "message": "scripted fault"}),
            unknown=b": comment\n\n" + sse({"type": "novelty", "what": 1}),
        )
