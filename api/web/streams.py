"""Server-sent events: a response whose body is made by a task that ends with it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from types import TracebackType

import msgspec
import trio
from quart import Response
from quart.wrappers.response import ResponseBody

__all__ = ["Send", "event_stream"]

EVENTS_MAX = 32  # a reader that is slower makes the work wait
KEEP_ALIVE_S = 15.0  # proxies close what is silent, often after 30 to 60 s

Send = Callable[[str, object], Awaitable[None]]
"""Send one event: its name, and what is sent with it as JSON."""


def event_stream(work: Callable[[Send], Awaitable[None]]) -> Response:
    """A response that sends what ``work`` sends, until that returns.

    The reader goes away: ``work`` is cancelled.
    """
    response = Response(
        _Events(work),
        content_type="text/event-stream",
        headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"},
    )
    response.timeout = None  # it lasts as long as the work does
    return response


class _Events(ResponseBody):
    """Runs the work in a nursery that is open exactly as long as the body is being sent."""

    def __init__(self, work: Callable[[Send], Awaitable[None]]) -> None:
        self._work = work
        self._tx, self._rx = trio.open_memory_channel[bytes](EVENTS_MAX)
        self._manager = trio.open_nursery()
        self._nursery: trio.Nursery | None = None

    async def __aenter__(self) -> AsyncIterator[bytes]:
        self._nursery = await self._manager.__aenter__()
        self._nursery.start_soon(self._run)
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        assert self._nursery is not None
        self._nursery.cancel_scope.cancel(reason="response over")
        await self._manager.__aexit__(exc_type, exc, traceback)

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        with trio.move_on_after(KEEP_ALIVE_S):
            try:
                return await self._rx.receive()
            except trio.EndOfChannel:
                raise StopAsyncIteration from None
        return b": keep-alive\n\n"

    async def _run(self) -> None:
        async with self._tx:
            await self._work(self._send)

    async def _send(self, name: str, data: object) -> None:
        await self._tx.send(f"event: {name}\ndata: ".encode() + msgspec.json.encode(data) + b"\n\n")
