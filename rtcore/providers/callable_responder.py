"""Bring your own mind: an async generator of your program."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from typing import Self

import trio

from rtcore.channels import put
from rtcore.ports import Delta, Finished, ResponderRequest, TextDelta, ToolCall
from rtcore.providers._faults import timed_out
from rtcore.providers._own_mind import broken, delta_of
from rtcore.providers._service import Service
from rtcore.providers._settings import Deadlines

__all__ = ["CallableResponder", "Think"]

Think = Callable[[ResponderRequest], AsyncGenerator[str | Delta, None]]


class CallableResponder(Service):
    """Answers with what ``think`` yields; fills :class:`rtcore.ports.Responder`.

    ``think(request)`` is an async generator of text pieces and, if it likes, ``ToolCall`` and
    ``Finished``. It is closed at its first ``await`` when the reply is cancelled. What it raises
    is the failure of this one answer: another provider takes over, or the caller hears an
    apology.
    """

    def __init__(
        self, think: Think, *, name: str = "callable", deadlines: Deadlines | None = None
    ) -> None:
        super().__init__(name)
        self._think = think
        self._deadlines = deadlines or Deadlines()

    async def respond(self, request: ResponderRequest, out: trio.MemorySendChannel[Delta]) -> None:
        """Stream one answer; see :class:`rtcore.ports.Responder`."""
        limit_s = self._deadlines.first_byte_s
        has_called = False
        async with _Answer(self.name, self._think, request) as answer:
            while (piece := await answer.next(limit_s)) is not None:
                limit_s = self._deadlines.stall_s
                delta = delta_of(self.name, piece)
                has_called = has_called or isinstance(delta, ToolCall)
                if not isinstance(delta, TextDelta) or delta.text:
                    await put(out, delta)
                if isinstance(delta, Finished):
                    return
        await put(out, Finished(stop_reason="tool_calls" if has_called else "stop"))


class _Answer:
    """One generator of the program; closed when the block is left. All it raises is ours."""

    def __init__(self, provider: str, think: Think, request: ResponderRequest) -> None:
        self._provider = provider
        try:
            self._pieces = think(request)
        except Exception as exc:  # code that is not ours
            raise broken(provider, exc) from exc

    async def next(self, limit_s: float) -> str | Delta | None:
        """The next piece; None after the last."""
        with trio.move_on_after(limit_s):
            try:
                return await anext(self._pieces, None)
            except Exception as exc:  # as above
                raise broken(self._provider, exc) from exc
        raise timed_out(self._provider, "the next of the answer", limit_s)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        try:
            await self._pieces.aclose()
        except Exception as exc:  # as above
            raise broken(self._provider, exc) from exc
