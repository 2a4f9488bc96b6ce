"""Bring your own mind: a plain generator in a thread, for what does not run on Trio.

A LangGraph graph, a local model, any blocking client: what it yields is spoken as it comes.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Generator

import trio

from rtcore.channels import put
from rtcore.ports import Delta, Finished, ResponderRequest, TextDelta, ToolCall
from rtcore.providers._faults import timed_out
from rtcore.providers._own_mind import broken, delta_of
from rtcore.providers._service import Service
from rtcore.providers._settings import Deadlines
from rtcore.providers._tasks import run_beside

__all__ = ["Think", "ThreadResponder"]

Think = Callable[[ResponderRequest], Generator[str | Delta, None, None]]
THREADS_MAX = 64  # answers at a time; one more waits, and its deadline with it
PIECES_MAX = 8  # a mind is slower than we are


class ThreadResponder(Service):
    """Answers with what ``think`` yields; fills :class:`rtcore.ports.Responder`.

    ``think(request)`` is a generator of text pieces and, if it likes, ``ToolCall`` and
    ``Finished``. When the reply is cancelled we stop listening at once, and the generator is
    closed when it next yields. What it raises is the failure of this one answer: another
    provider takes over, or the caller hears an apology.
    """

    def __init__(
        self,
        think: Think,
        *,
        name: str = "thread",
        deadlines: Deadlines | None = None,
        threads_max: int = THREADS_MAX,
    ) -> None:
        super().__init__(name)
        self._think = think
        self._deadlines = deadlines or Deadlines()
        self._limiter = trio.CapacityLimiter(threads_max)

    async def respond(self, request: ResponderRequest, out: trio.MemorySendChannel[Delta]) -> None:
        """Stream one answer; see :class:`rtcore.ports.Responder`."""
        tx, rx = trio.open_memory_channel[str | Delta](PIECES_MAX)

        def produce() -> None:
            try:
                with contextlib.closing(self._think(request)) as pieces:
                    for piece in pieces:
                        trio.from_thread.check_cancelled()
                        trio.from_thread.run(tx.send, piece)
            except Exception as exc:  # code that is not ours: its failure is this answer's
                raise broken(self.name, exc) from exc

        async def listen_to_thread() -> None:
            await trio.to_thread.run_sync(produce, limiter=self._limiter, abandon_on_cancel=True)
            tx.close()  # all was said: only then is there an end to tell of

        with tx, rx:
            await run_beside(lambda: self._relay(rx, out), listen_to_thread)

    async def _relay(
        self, rx: trio.MemoryReceiveChannel[str | Delta], out: trio.MemorySendChannel[Delta]
    ) -> None:
        limit_s = self._deadlines.first_byte_s
        has_called = False
        while (piece := await self._next(rx, limit_s)) is not None:
            limit_s = self._deadlines.stall_s
            delta = delta_of(self.name, piece)
            has_called = has_called or isinstance(delta, ToolCall)
            if not isinstance(delta, TextDelta) or delta.text:
                await put(out, delta)
            if isinstance(delta, Finished):
                return
        await put(out, Finished(stop_reason="tool_calls" if has_called else "stop"))

    async def _next(
        self, rx: trio.MemoryReceiveChannel[str | Delta], limit_s: float
    ) -> str | Delta | None:
        try:
            with trio.move_on_after(limit_s):
                return await rx.receive()
        except trio.EndOfChannel:
            return None
        raise timed_out(self.name, "the next of the answer", limit_s)
