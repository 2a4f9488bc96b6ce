"""Knowledge in SQLite: full text (FTS5), stemmed, ranked by BM25, headings above text."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Iterable

import trio

from rtcore.errors import ProviderError
from rtcore.ports import Hit

__all__ = ["SqliteKnowledge"]

WORDS_MAX = 32  # more only costs time: a spoken question has a dozen
# they match everything, cost the most and say nothing
COMMON = (
    "a about all am an and any are as at be because been but by can could did do does for from "
    "had has have hello how i if in into is it its just me my no not of on or our please s she "
    "should so some t tell than thank thanks that the their them then there these they this to "
    "us was we well were what when where which who why will with would yes you your"
)
STOP_WORDS = frozenset(COMMON.split())
HEADING_WEIGHT = 2.0  # a heading says what a passage is about


class SqliteKnowledge:
    """Fills :class:`rtcore.ports.KnowledgeIndex`; held in memory, shared by all calls."""

    name = "knowledge.sqlite"

    def __init__(self, passages: Iterable[Hit]) -> None:
        """Index ``passages``; takes some 50 us each."""
        # used by one thread at a time: the limiter sees to it
        self._db = sqlite3.connect(":memory:", check_same_thread=False)
        self._db.execute(
            "CREATE VIRTUAL TABLE passages USING fts5"
            "(title, text, source UNINDEXED, tokenize='porter unicode61')"
        )
        rows = [(hit.title, hit.text, hit.source) for hit in passages]
        self._db.executemany("INSERT INTO passages VALUES (?, ?, ?)", rows)
        self._limiter = trio.CapacityLimiter(1)

    async def search(self, question: str, limit: int) -> tuple[Hit, ...]:
        """See :class:`rtcore.ports.KnowledgeIndex`."""
        words = [word for word in re.findall(r"\w+", question.lower()) if word not in STOP_WORDS]
        if not (words := list(dict.fromkeys(words))[:WORDS_MAX]):
            return ()
        # quoted, a word is only a word to FTS5, whatever it looks like
        any_of = " OR ".join(f'"{word}"' for word in words)
        return await trio.to_thread.run_sync(
            self._search, any_of, limit, limiter=self._limiter, abandon_on_cancel=True
        )

    def close(self) -> None:
        """Let the index go; no search comes after."""
        self._db.close()

    def _search(self, any_of: str, limit: int) -> tuple[Hit, ...]:
        try:
            rows = self._db.execute(
                "SELECT title, text, source FROM passages WHERE passages MATCH ? "
                f"ORDER BY bm25(passages, {HEADING_WEIGHT}, 1.0), rowid LIMIT ?",
                (any_of, limit),
            ).fetchall()
        except sqlite3.Error as exc:
            raise ProviderError(self.name, str(exc), retryable=False) from exc
        return tuple(Hit(title=title, text=text, source=source) for title, text, source in rows)
