"""Connections that many share: made when first used, kept while there are not too many."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Hashable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

import trio

__all__ = ["Kept"]

CLOSE_LIMIT_S = 0.05  # as long as any connection of ours may take to say goodbye


class Closable(Protocol):
    async def aclose(self) -> None: ...


K = TypeVar("K", bound=Hashable)
R = TypeVar("R", bound=Closable)


@dataclass(slots=True)
class _Shared(Generic[R]):
    one: R
    users: int = 0


class Kept(Generic[K, R]):
    """``most`` of them, and those in use; who was not used for longest goes first."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._shared: dict[K, _Shared[R]] = {}  # the most recently used last

    def __len__(self) -> int:
        return len(self._shared)

    @asynccontextmanager
    async def use(self, key: K, make: Callable[[], R]) -> AsyncIterator[R]:
        """The one under ``key``, made if there is none; not closed before the block ends.

        Raises what ``make`` does.
        """
        shared = self._shared.pop(key, None) or _Shared(make())
        self._shared[key] = shared
        shared.users += 1
        try:
            yield shared.one
        finally:
            shared.users -= 1
            await self._trim(self._most)

    async def aclose(self) -> None:
        """Close all that are not in use."""
        await self._trim(0)

    async def _trim(self, most: int) -> None:
        idle = [key for key, shared in self._shared.items() if not shared.users]
        for one in [self._shared.pop(key).one for key in idle[: max(0, len(self) - most)]]:
            with trio.move_on_after(CLOSE_LIMIT_S, shield=True):
                await one.aclose()
