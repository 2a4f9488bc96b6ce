"""Looks up what the caller is saying while it is still being said.

A search begins with the first partial words and again with each newer ones, one at a time; when
the turn ends its result is there, or nearly: the answer waits for it no longer than its budget.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import trio

from rtcore.errors import ProviderError
from rtcore.ports import Hit, KnowledgeIndex, Message

__all__ = ["FusedIndex", "Lookup", "fused", "told"]

BUDGET_S = 0.05  # what a turn may wait: a tenth of what a caller notices
SEARCH_LIMIT_S = 2.0  # a search slower than that is of no use to this turn
HITS_MAX = 4  # some 3,200 characters: what a model can use in one answer
FUSION_RANK = 60  # of Cormack, Clarke and Büttcher (SIGIR 2009), who found it to matter little


class _Nothing:
    """An index of an agent that knows nothing."""

    async def search(self, question: str, limit: int) -> tuple[Hit, ...]:
        return ()


class Lookup:
    """The lookups of one call; :meth:`run` is a task of the call."""

    def __init__(self, index: KnowledgeIndex, *, budget_s: float = BUDGET_S) -> None:
        self._index: KnowledgeIndex = index
        self._budget_s = budget_s
        self._wanted = ""  # the words so far, normalised
        self._known = ""  # those of the newest result
        self._hits: tuple[Hit, ...] = ()
        self._asked = trio.Event()
        self._answered = trio.Event()
        self.searches = 0
        self.skipped = 0  # turns answered without what they asked for
        self.failed = 0

    def look_in(self, index: KnowledgeIndex | None) -> None:
        """Search there from now on: another agent goes on with the call."""
        self._index = _Nothing() if index is None else index
        self._wanted = self._known = ""
        self._hits = ()

    async def run(self) -> None:
        """Search for the newest words, until cancelled."""
        while True:
            await self._asked.wait()
            self._asked = trio.Event()
            wanted, index = self._wanted, self._index
            self.searches += 1
            hits: tuple[Hit, ...] = ()
            with trio.move_on_after(SEARCH_LIMIT_S) as limit:
                try:
                    hits = await index.search(wanted, HITS_MAX)
                except ProviderError:
                    self.failed += 1
            self.failed += limit.cancelled_caught
            if index is self._index:
                self._known, self._hits = wanted, hits
            self._answered.set()
            self._answered = trio.Event()

    def hear(self, text: str) -> None:
        """The caller's words so far; never waits."""
        words = _bare(text)
        if words and words != self._wanted:
            self._wanted = words
            self._asked.set()

    async def find(self, text: str) -> tuple[Hit, ...]:
        """What there is about ``text``, within the budget; past it, what its beginning found.

        Cancelled: the search goes on, for the next who asks.
        """
        # cancelled before it began, an older question must not take the place of the newest
        await trio.lowlevel.checkpoint_if_cancelled()
        self.hear(text)
        words = _bare(text)
        with trio.move_on_after(self._budget_s):
            while self._known != words and self._wanted == words:
                await self._answered.wait()
        if self._known == words:
            return self._hits
        if self._hits and words.startswith(self._known):
            return self._hits
        self.skipped += 1
        return ()


class FusedIndex:
    """Several indexes as one: each is asked at the same time, what they agree on comes first."""

    def __init__(self, *indexes: KnowledgeIndex) -> None:
        self._indexes = indexes

    async def search(self, question: str, limit: int) -> tuple[Hit, ...]:
        """See :class:`rtcore.ports.KnowledgeIndex`; one that fails is done without.

        Raises:
            ProviderError: all failed.
        """
        rankings: list[tuple[Hit, ...]] = []
        errors: list[ProviderError] = []

        async def ask(index: KnowledgeIndex) -> None:
            try:
                rankings.append(await index.search(question, limit * 2))
            except ProviderError as exc:
                errors.append(exc)

        async with trio.open_nursery() as nursery:
            for index in self._indexes:
                nursery.start_soon(ask, index)
        if errors and not rankings:
            raise errors[0]
        return fused(rankings)[:limit]


def fused(rankings: Sequence[Sequence[Hit]]) -> tuple[Hit, ...]:
    """One ranking of several, by the sum of reciprocal ranks."""
    scores: dict[Hit, float] = {}
    for ranking in rankings:
        for rank, hit in enumerate(ranking, 1):
            scores[hit] = scores.get(hit, 0.0) + 1 / (FUSION_RANK + rank)
    return tuple(sorted(scores, key=lambda hit: (-scores[hit], hit.source, hit.text)))


def told(hits: Sequence[Hit]) -> Message:
    """``hits`` as the model is told of them."""
    passages = "\n\n".join(f"[{hit.title}]\n{hit.text}" if hit.title else hit.text for hit in hits)
    return Message(
        role="system",
        text="Found in the documents; use what answers the caller, pass over what does not:\n\n"
        + passages,
    )


def _bare(text: str) -> str:
    return " ".join(re.findall(r"\w+", text.lower()))
