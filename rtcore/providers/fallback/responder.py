"""A list of minds as one: the next takes over, or races, until somebody has begun to answer."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import trio

from rtcore.channels import put
from rtcore.errors import ProviderError
from rtcore.ports import Delta, Finished, Responder, ResponderRequest
from rtcore.providers._tasks import run_beside
from rtcore.providers.fallback.breaker import Breakers, CircuitBreaker
from rtcore.providers.fallback.service import FallbackService
from rtcore.usage import Request, Tally

__all__ = ["FallbackResponder"]


class FallbackResponder(FallbackService[Responder]):
    """Minds in order; fills :class:`rtcore.ports.Responder`.

    Until a first delta has come, a failure makes the next one begin at once, and silence for
    ``hedge_after_s`` makes it begin beside those under way (the same one again, in a list of
    one). Whoever delivers first answers alone; the losers are cancelled. From then on nobody
    takes over: half an answer of one and half of another make none, so a failure is raised.
    """

    def __init__(
        self,
        members: Sequence[Responder],
        *,
        breakers: Breakers | None = None,
        keys: Sequence[str] | None = None,
        hedge_after_s: float | None = None,
        name: str = "fallback_responder",
    ) -> None:
        super().__init__(name, members, breakers, keys)
        self._hedge_after_s = math.inf if hedge_after_s is None else hedge_after_s

    async def respond(self, request: ResponderRequest, out: trio.MemorySendChannel[Delta]) -> None:
        """Stream one answer; see :class:`rtcore.ports.Responder`.

        Raises:
            ProviderError: of the one that had begun, or of the last when none began.
        """
        race = _Race(request, out, self.members, self.breakers)

        async def start_all() -> None:
            async with trio.open_nursery() as nursery:
                for place in self._starters():
                    race.start(nursery, place)
                    if await race.is_decided(self._hedge_after_s):
                        return

        await run_beside(start_all)
        if race.error is not None:
            raise race.error

    def _starters(self) -> Iterator[int]:
        """Whose turn it is, by place; each breaker is consulted only when its turn has come."""
        any_healthy = False
        places = range(len(self.members))
        is_alone = len(places) == 1 and self._hedge_after_s < math.inf
        for place in (0, 0) if is_alone else places:
            if self.breakers[place].allows(trio.current_time()):
                any_healthy = True
                yield place
        if not any_healthy:  # all are down: better a poor chance than none
            yield from places


class _Race:
    """Attempts at one answer; the first to deliver is the winner."""

    def __init__(
        self,
        request: ResponderRequest,
        out: trio.MemorySendChannel[Delta],
        members: Sequence[Responder],
        breakers: Sequence[CircuitBreaker],
    ) -> None:
        self._request = request
        self._out = out
        self._members = members
        self._breakers = breakers
        self._is_first = True
        self._running: set[trio.CancelScope] = set()
        self._winner: trio.CancelScope | None = None
        self._changed = trio.Event()
        self.error: ProviderError | None = None  # of the winner, or the last so far

    async def is_decided(self, limit_s: float) -> bool:
        """Wait for a winner (true), or till the next should begin: all failed, or time is up."""
        with trio.move_on_after(limit_s):
            while self._winner is None and self._running:
                self._changed = trio.Event()
                await self._changed.wait()
        return self._winner is not None

    def start(self, nursery: trio.Nursery, place: int) -> None:
        """Ask one more; its answer is passed on if it is the first to have one."""
        scope = trio.CancelScope()
        self._running.add(scope)
        used = self._request.context.usage.of("llm", self._members[place].name, place)
        used.failovers += not self._is_first or place > 0
        self._is_first = False
        nursery.start_soon(self._attempt, place, scope, used)

    async def _attempt(self, place: int, scope: trio.CancelScope, used: Tally) -> None:
        breaker = self._breakers[place]
        try:
            with scope, Request(used, self._request.chars) as asked:
                await self._answer(self._members[place], scope, asked)
                self.error = None
                breaker.succeeded()
        except ProviderError as exc:
            breaker.failed(trio.current_time(), exc)
            if self._winner in (None, scope):
                self.error = exc
        finally:
            self._running.discard(scope)
            self._changed.set()

    async def _answer(self, member: Responder, scope: trio.CancelScope, asked: Request) -> None:
        tx, rx = trio.open_memory_channel[Delta](0)
        has_finished = False

        async def pass_on() -> None:
            nonlocal has_finished
            async for delta in rx:
                self._claim(scope)
                if has_finished := isinstance(delta, Finished):
                    asked.told(delta.input_tokens, delta.output_tokens, delta.cached_tokens)
                else:
                    asked.got(delta.chars)
                await put(self._out, delta)

        async def ask() -> None:
            with tx:
                await member.respond(self._request, tx)

        with rx:
            try:
                await run_beside(pass_on, ask)
            finally:
                asked.is_wasted = self._winner not in (None, scope)
        if not has_finished:
            raise ProviderError(member.name, "the answer ended early", retryable=True)

    def _claim(self, scope: trio.CancelScope) -> None:
        if self._winner is None:
            self._winner = scope
            self._changed.set()
            for loser in self._running - {scope}:
                loser.cancel(reason="another was first")
