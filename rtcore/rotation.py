"""Who of an ordered list of providers is asked next, and when there is nobody left to ask."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Generic, Protocol, TypeVar

import trio

from rtcore.errors import ProviderError
from rtcore.usage import Kind, Named, Tally, Usage

__all__ = ["Health", "Rotation"]

P = TypeVar("P", bound=Named)
AGAIN_PAUSE_S = 0.25  # before the same provider is asked again; doubled for each further round


class Health(Protocol):
    """What is known of a provider's health, by all who ask it; times in seconds."""

    def allows(self, now_s: float) -> bool:
        """Whether to ask it now."""
        ...

    def succeeded(self) -> None:
        """It answered."""
        ...

    def failed(self, now_s: float, error: ProviderError) -> None:
        """It failed."""
        ...


class Rotation(Generic[P]):
    """The order in which one call goes through a list.

    After a failure the next one is asked, the first again after the last; it ends once more
    have failed without any progress than there are in the list, ``again_max`` times over. One
    that failed in a way that asking again cannot help is not asked again.
    """

    def __init__(
        self,
        members: Sequence[P],
        healths: Sequence[Health],
        usage: Usage,
        kind: Kind,
        again_max: int = 1,
    ) -> None:
        """
        Args:
            healths: one for each member, or none where nobody keeps them.
            again_max: for how many rounds all that failed are asked again, after growing pauses.
        """
        self._again_max = again_max
        self._members = members
        self._healths = healths
        self._usage = usage
        self._kind = kind
        self._at = -1
        self._failures = 0  # since the last progress
        self._tried: set[int] = set()  # since then
        self._hopeless: set[int] = set()
        self._error: ProviderError | None = None
        self._has_answered = False

    @property
    def place(self) -> int:
        """Where the present one stands in its list; the first, before any was asked."""
        return max(self._at, 0)

    @property
    def used(self) -> Tally:
        """The counts of the present one."""
        return self._usage.of(self._kind, self._members[self.place].name, self.place)

    @property
    def is_over(self) -> bool:
        """Whether there is nobody left to ask."""
        all_failed = self._failures > len(self._members) * self._again_max
        return all_failed or len(self._hopeless) == len(self._members)

    @property
    def is_failing(self) -> bool:
        """Whether something has failed since the last progress."""
        return self._failures > 0

    @property
    def has_failed_again(self) -> bool:
        """Whether all have failed since the last progress, and one that was asked once more."""
        return self._failures > len(self._members)

    @property
    def has_another(self) -> bool:
        """Whether one is left that has not been tried since the last progress."""
        untried = set(range(len(self._members))) - self._tried - self._hopeless
        return bool(untried - {self._at})

    async def next(self) -> P:
        """The provider to ask now; that another had failed before it is counted.

        Raises:
            ProviderError: the last failure, as there is nobody left to ask.
        """
        if self.is_over:
            assert self._error is not None
            raise self._error
        places = [
            (self._at + step) % len(self._members) for step in range(1, len(self._members) + 1)
        ]
        hopeful = [place for place in places if place not in self._hopeless]
        now = trio.current_time()
        healthy = (p for p in hopeful if not self._healths or self._healths[p].allows(now))
        before = self.place
        self._at = next(healthy, hopeful[0])  # all are down: better a poor chance than none
        if self._at in self._tried:
            rounds = max(1, self._failures // len(self._members))
            await trio.sleep(AGAIN_PAUSE_S * 2 ** (rounds - 1))
        self._tried.add(self._at)
        self._has_answered = False
        self.used.failovers += self._at != before
        return self._members[self._at]

    def answered(self) -> None:
        """The present one has given something, be it of no lasting worth."""
        if not self._has_answered:
            self._has_answered = True
            self.used.answered += 1

    def progressed(self) -> None:
        """The present one has given a result that stands."""
        self.begin_anew()
        if self._healths:
            self._healths[self.place].succeeded()

    def begin_anew(self) -> None:
        """What failed before counts no more; who is asked stays."""
        self._failures = 0
        self._tried.clear()

    def failed(self, error: ProviderError) -> None:
        """The present one has failed."""
        self._error = error
        self._failures += 1
        self._tried.add(self._at)
        if not error.retryable:
            self._hopeless.add(self._at)
        self.used.failures += 1
        if self._healths:
            self._healths[self.place].failed(trio.current_time(), error)
