"""What all lists of providers share: their members, the breakers, a beginning and an end."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Generic, TypeVar

import trio

from rtcore.errors import ConfigError, ProviderError
from rtcore.providers._service import Service
from rtcore.providers.fallback.breaker import Breakers
from rtcore.usage import Named

__all__ = ["FallbackService"]


P = TypeVar("P", bound=Named)


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
        self.breakers = tuple(breakers.of(key) for key in names)

    async def warm(self) -> None:
        """Warm the first that lets itself be warmed: the others are for bad days."""
        failure: ProviderError | None = None
        for member, breaker in zip(self.members, self.breakers, strict=True):
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
