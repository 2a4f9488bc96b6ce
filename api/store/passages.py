"""Full text search over passages: any word may match, the best match comes first."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import sqlalchemy as sa

from api.store.database import Tx

__all__ = ["Hit", "search"]

WORDS_MAX = 32  # more only costs time: a spoken question has a dozen
# common words match everything and cost the most: 3.8 ms of a query over 5,000 entries.
# Those of PostgreSQL's english.stop that occur in questions.
COMMON = (
    "a about all am an and any are as at be because been but by can could did do does for "
    "from had has have how i if in into is it its just me my no not of on or our please s "
    "should so some t than that the their them then there these they this to was we were what "
    "when where which who why will with would you your "
)
STOP_WORDS = frozenset(COMMON.split())

SQLITE = """
SELECT p.document_id, d.name, d.knowledge_base_id, p.position, p.heading, p.text,
       -bm25(passages_fts, 2.0, 1.0) AS score
FROM passages_fts
JOIN passages p ON p.id = passages_fts.rowid
JOIN documents d ON d.id = p.document_id
WHERE passages_fts MATCH :words AND d.state = 'ready' AND p.knowledge_base_id IN :bases
ORDER BY score DESC, p.id LIMIT :limit
"""
POSTGRES = """
SELECT p.document_id, d.name, d.knowledge_base_id, p.position, p.heading, p.text,
       ts_rank_cd(p.words, q) AS score
FROM to_tsquery('english', :words) q, passages p
JOIN documents d ON d.id = p.document_id
WHERE p.words @@ q AND d.state = 'ready' AND p.knowledge_base_id IN :bases
ORDER BY score DESC, p.id LIMIT :limit
"""


@dataclass(frozen=True, slots=True)
class Hit:
    """A passage that was found; a higher ``score`` is better, within one answer only."""

    document_id: str
    document: str
    knowledgebase_id: str
    position: int
    heading: str
    text: str
    score: float


def search(tx: Tx, bases: Sequence[str], question: str, limit: int) -> tuple[Hit, ...]:
    """The passages of ``bases`` that fit ``question`` best; none if it has only common words."""
    words = [word for word in re.findall(r"\w+", question.lower()) if word not in STOP_WORDS]
    words = list(dict.fromkeys(word for word in words if word.strip("_")))[:WORDS_MAX]
    if not words or not bases:
        return ()
    # quoted, a word is only a word to either query language, whatever it looks like
    quote, either = ("'", " | ") if tx.is_postgres else ('"', " OR ")
    statement = sa.text(POSTGRES if tx.is_postgres else SQLITE).bindparams(
        sa.bindparam("bases", expanding=True)
    )
    rows = tx.conn.execute(
        statement,
        {
            "words": either.join(f"{quote}{word}{quote}" for word in words),
            "bases": list(bases),
            "limit": limit,
        },
    )
    return tuple(Hit(*row) for row in rows)
