"""Who is asked next: an ordered list, the breakers, and an end to trying."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Generic, Protocol, TypeVar

import trio

from rtcore.errors import ConfigError, ProviderError
from rtcore.providers._service import Service
from rtcore.providers.fallback.breaker import Breakers, CircuitBreaker
from rtcore.usage import Kind, Tally, Usage

__all__ = ["FallbackService", "Named", "Rotation"]


class Named(Protocol):
    """What all ports have."""

    @property
    def name(self) -> str: ...


P = TypeVar("P", bound=Named)
AGAIN_PAUSE_S = 0.25  # before the same provider is asked again: it has just failed


class FallbackService(Service, Generic[P]):
    """A list of providers as one: warmed and closed together."""

    counts_usage = True  # of each member

    def __init__(
        self,
        name: str,
        members: Sequence[P],
        breakers: Breakers | None,
        keys: Sequence[str] | None,
    ) -> None:
        """
        Args:
            breakers: shared with other lists; None: its own.
            keys: for each member, whose breaker is its own too; None: the members' names.
        """
        super().__init__(name)
        if not members:
            raise ConfigError(name, "needs at least one provider")
        self.members = tuple(members)
        breakers = breakers or Breakers()
        names = [member.name for member in members] if keys is None else keys
        self._breakers = tuple(breakers.of(key) for key in names)

    async def warm(self) -> None:
        """Warm the first that lets itself be warmed: the others are for bad days."""
        failure: ProviderError | None = None
        for member, breaker in zip(self.members, self._breakers, strict=True):
            if not isinstance(member, Service):
                return
            try:
                await member.warm()
                return
            except ProviderError as exc:
                breaker.failed(trio.current_time(), exc)
                failure = exc
        assert failure is not None
        raise failure

    async def aclose(self) -> None:
        for member in self.members:
            if isinstance(member, Service):
                await member.aclose()


class Rotation(Generic[P]):
    """The order in which one session goes through a list.

    After a failure the next one is asked, the first again after the last; it ends once more
    have failed without any progress than there are in the list. One that failed in a way that
    asking again cannot help is not asked again.
    """

    def __init__(
        self,
        members: Sequence[P],
        breakers: Sequence[CircuitBreaker],
        usage: Usage,
        kind: Kind,
    ) -> None:
        self._members = members
        self._breakers = breakers
        self._usage = usage
        self._kind = kind
        self._at = -1
        self._failures = 0  # since the last progress
        self._tried: set[int] = set()  # since then
        self._hopeless: set[int] = set()
        self._error: ProviderError | None = None
        self._has_answered = False

    @property
    def used(self) -> Tally:
        """The counts of the present one."""
        return self._usage.of(self._kind, self._members[self._at].name, self._at)

    async def next(self) -> P:
        """The provider to ask now; that it is asked is counted.

        Raises:
            ProviderError: the last failure, as there is nobody left to ask.
        """
        if self._error is not None and self._failures > len(self._members):
            raise self._error
        places = [
            (self._at + step) % len(self._members) for step in range(1, len(self._members) + 1)
        ]
        hopeful = [place for place in places if place not in self._hopeless]
        if not hopeful:
            assert self._error is not None
            raise self._error
        now = trio.current_time()
        healthy = (place for place in hopeful if self._breakers[place].allows(now))
        before = max(self._at, 0)
        self._at = next(healthy, hopeful[0])  # all are down: better a poor chance than none
        if self._at in self._tried:
            await trio.sleep(AGAIN_PAUSE_S)
        self._tried.add(self._at)
        self._has_answered = False
        self.used.requests += 1
        self.used.failovers += self._at != before
        return self._members[self._at]

    def answered(self) -> None:
        """The present one has given something, be it of no lasting worth."""
        if not self._has_answered:
            self._has_answered = True
            self.used.answered += 1

    def progressed(self) -> None:
        """The present one has given a result that stands."""
        self._failures = 0
        self._tried.clear()
        self._breakers[self._at].succeeded()

    def failed(self, error: ProviderError) -> None:
        """The present one has failed."""
        self._error = error
        self._failures += 1
        self._tried.add(self._at)
        if not error.retryable:
            self._hopeless.add(self._at)
        self.used.failures += 1
        self._breakers[self._at].failed(trio.current_time(), error)
