"""Who is asked next: an ordered list, the breakers, and an end to trying."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Generic, Protocol, TypeVar

import trio

from rtcore.errors import ConfigError, ProviderError
from rtcore.providers._service import Service
from rtcore.providers.fallback.breaker import Breakers

__all__ = ["FallbackService", "Named", "Rotation"]


class Named(Protocol):
    """What all ports have."""

    @property
    def name(self) -> str: ...


P = TypeVar("P", bound=Named)
AGAIN_PAUSE_S = 0.25  # before the same provider is asked again: it has just failed


class FallbackService(Service, Generic[P]):
    """A list of providers as one: warmed and closed together."""

    def __init__(self, name: str, members: Sequence[P], breakers: Breakers | None) -> None:
        super().__init__(name)
        if not members:
            raise ConfigError(name, "needs at least one provider")
        self.members = tuple(members)
        self._breakers = breakers or Breakers()

    async def warm(self) -> None:
        """Warm the first that lets itself be warmed: the others are for bad days."""
        failure: ProviderError | None = None
        for member in self.members:
            if not isinstance(member, Service):
                return
            try:
                await member.warm()
                return
            except ProviderError as exc:
                self._breakers.of(member.name).failed(trio.current_time(), exc)
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

    def __init__(self, members: Sequence[P], breakers: Breakers) -> None:
        self._members = members
        self._breakers = breakers
        self._at = -1
        self._failures = 0  # since the last progress
        self._tried: set[int] = set()  # since then
        self._hopeless: set[int] = set()
        self._error: ProviderError | None = None

    async def next(self) -> P:
        """The provider to ask now.

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
        healthy = (p for p in hopeful if self._breakers.of(self._members[p].name).allows(now))
        self._at = next(healthy, hopeful[0])  # all are down: better a poor chance than none
        if self._at in self._tried:
            await trio.sleep(AGAIN_PAUSE_S)
        self._tried.add(self._at)
        return self._members[self._at]

    def progressed(self) -> None:
        """The present one has given a result that stands."""
        self._failures = 0
        self._tried.clear()
        self._breakers.of(self._members[self._at].name).succeeded()

    def failed(self, error: ProviderError) -> None:
        """The present one has failed."""
        self._error = error
        self._failures += 1
        self._tried.add(self._at)
        if not error.retryable:
            self._hopeless.add(self._at)
        name = self._members[self._at].name
        self._breakers.of(name).failed(trio.current_time(), error)
