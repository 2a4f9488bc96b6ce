"""Bring your own mind: an async generator of your program."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator, Callable

import trio

from rtcore.channels import put
from rtcore.ports import Delta, Finished, ResponderRequest, TextDelta, ToolCall
from rtcore.providers._faults import timed_out
from rtcore.providers._service import Service
from rtcore.providers._settings import Deadlines

__all__ = ["CallableResponder", "Think"]

Think = Callable[[ResponderRequest], AsyncGenerator[str | Delta, None]]


class CallableResponder(Service):
    """Answers with what ``think`` yields; fills :class:`rtcore.ports.Responder`.

    ``think(request)`` is an async generator of text pieces and, if it likes, ``ToolCall`` and
    ``Finished``. It is closed at its first ``await`` when the reply is cancelled. To let another
    provider take over it raises :class:`rtcore.errors.ProviderError`; any other exception is a
    bug of the program and ends the call.
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
        async with contextlib.aclosing(self._think(request)) as pieces:
            while (piece := await self._next(pieces, limit_s)) is not None:
                limit_s = self._deadlines.stall_s
                delta = TextDelta(text=piece) if isinstance(piece, str) else piece
                has_called = has_called or isinstance(delta, ToolCall)
                if not isinstance(delta, TextDelta) or delta.text:
                    await put(out, delta)
                if isinstance(delta, Finished):
                    return
        await put(out, Finished(stop_reason="tool_calls" if has_called else "stop"))

    async def _next(
        self, pieces: AsyncGenerator[str | Delta, None], limit_s: float
    ) -> str | Delta | None:
        with trio.move_on_after(limit_s):
            return await anext(pieces, None)
        raise timed_out(self.name, "the next of the answer", limit_s)
