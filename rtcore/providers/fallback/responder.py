"""A list of minds as one: the next takes over, or races, until somebody has begun to answer."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import trio

from rtcore.errors import ProviderError
from rtcore.ports import Delta, Finished, Responder, ResponderRequest
from rtcore.providers._tasks import run_beside
from rtcore.providers.fallback.breaker import Breakers
from rtcore.providers.fallback.rotation import FallbackService

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
        hedge_after_s: float | None = None,
        name: str = "fallback_responder",
    ) -> None:
        super().__init__(name, members, breakers)
        self._hedge_after_s = math.inf if hedge_after_s is None else hedge_after_s

    async def respond(self, request: ResponderRequest, out: trio.MemorySendChannel[Delta]) -> None:
        """Stream one answer; see :class:`rtcore.ports.Responder`.

        Raises:
            ProviderError: of the one that had begun, or of the last when none began.
        """
        race = _Race(request, out, self._breakers)

        async def start_all() -> None:
            async with trio.open_nursery() as nursery:
                for member in self._starters():
                    race.start(nursery, member)
                    if await race.is_decided(self._hedge_after_s):
                        return

        await run_beside(start_all)
        if race.error is not None:
            raise race.error

    def _starters(self) -> Iterator[Responder]:
        """Who is asked, in order; each breaker is consulted only when its turn has come."""
        any_healthy = False
        is_alone = len(self.members) == 1 and self._hedge_after_s < math.inf
        for member in self.members * 2 if is_alone else self.members:
            if self._breakers.of(member.name).allows(trio.current_time()):
                any_healthy = True
                yield member
        if not any_healthy:  # all are down: better a poor chance than none
            yield from self.members


class _Race:
    """Attempts at one answer; the first to deliver is the winner."""

    def __init__(
        self, request: ResponderRequest, out: trio.MemorySendChannel[Delta], breakers: Breakers
    ) -> None:
        self._request = request
        self._out = out
        self._breakers = breakers
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

    def start(self, nursery: trio.Nursery, member: Responder) -> None:
        """Ask one more; its answer is passed on if it is the first to have one."""
        scope = trio.CancelScope()
        self._running.add(scope)
        nursery.start_soon(self._attempt, member, scope)

    async def _attempt(self, member: Responder, scope: trio.CancelScope) -> None:
        breaker = self._breakers.of(member.name)
        try:
            with scope:
                await self._answer(member, scope)
                self.error = None
                breaker.succeeded()
        except ProviderError as exc:
            breaker.failed(trio.current_time(), exc)
            if self._winner in (None, scope):
                self.error = exc
        finally:
            self._running.discard(scope)
            self._changed.set()

    async def _answer(self, member: Responder, scope: trio.CancelScope) -> None:
        tx, rx = trio.open_memory_channel[Delta](0)
        has_finished = False

        async def pass_on() -> None:
            nonlocal has_finished
            async for delta in rx:
                self._claim(scope)
                has_finished = isinstance(delta, Finished)
                await self._out.send(delta)

        async def ask() -> None:
            with tx:
                await member.respond(self._request, tx)

        with rx:
            await run_beside(pass_on, ask)
        if not has_finished:
            raise ProviderError(member.name, "the answer ended early", retryable=True)

    def _claim(self, scope: trio.CancelScope) -> None:
        if self._winner is None:
            self._winner = scope
            self._changed.set()
            for loser in self._running - {scope}:
                loser.cancel(reason="another was first")
