"""What passages mean, as vectors: which still need one, and all of a knowledge base."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

import sqlalchemy as sa

from api.specs import EmbeddingChoice
from api.store.database import Tx
from api.store.errors import NotFound
from api.store.knowledge import KNOWLEDGE_BASES
from api.store.passages import Hit
from api.store.tables import documents, knowledge_bases, passage_vectors, passages

__all__ = ["Meaningless", "add_vectors", "find_meaningless", "load_vectors", "vectors_marker"]

VECTORS = passage_vectors.c


@dataclass(frozen=True, slots=True)
class Meaningless:
    """Passages of one knowledge base that have no vector yet."""

    knowledgebase_id: str
    embedding: EmbeddingChoice
    texts: dict[int, str]  # by passage


def find_meaningless(tx: Tx, limit: int, besides: Collection[str] = ()) -> Meaningless | None:
    """Some passages that need a vector, of no base ``besides``; None: none does."""
    ids = tx.conn.scalars(sa.select(knowledge_bases.c.id).order_by(knowledge_bases.c.id)).all()
    for base in KNOWLEDGE_BASES.get_all(tx, ids):
        if base.spec.embedding is None or base.id in besides:
            continue
        rows = tx.conn.execute(
            sa.select(passages.c.id, passages.c.heading, passages.c.text)
            .join(documents, documents.c.id == passages.c.document_id)
            .outerjoin(passage_vectors, VECTORS.passage_id == passages.c.id)
            .where(
                passages.c.knowledge_base_id == base.id,
                documents.c.state == "ready",
                VECTORS.passage_id.is_(None),
            )
            .order_by(passages.c.id)
            .limit(limit)
        ).all()
        if rows:
            texts = {r.id: f"{r.heading}\n{r.text}" if r.heading else r.text for r in rows}
            return Meaningless(base.id, base.spec.embedding, texts)
    return None


def add_vectors(tx: Tx, asked: Meaningless, vectors: Mapping[int, bytes]) -> None:
    """Keep the vectors of ``asked``, unless its passages or its model have gone meanwhile."""
    try:  # locked: another node may be at the same passages, or somebody at the model
        base = KNOWLEDGE_BASES.get(tx, asked.knowledgebase_id, lock=True)
    except NotFound:
        return
    if base.spec.embedding != asked.embedding:
        return
    there = (
        sa.select(passages.c.id)
        .where(passages.c.id.in_(vectors))
        .with_for_update(read=True, key_share=True)
    )
    done = sa.select(VECTORS.passage_id).where(VECTORS.passage_id.in_(vectors))
    wanted = set(tx.conn.scalars(there)) - set(tx.conn.scalars(done))
    rows = [
        {"passage_id": id, "knowledge_base_id": base.id, "vector": vectors[id]}
        for id in sorted(wanted)
    ]
    if rows:
        tx.conn.execute(sa.insert(passage_vectors), rows)


def vectors_marker(tx: Tx, base_id: str) -> tuple[int, int]:
    """Differs whenever the passages of a knowledge base that have vectors do."""
    query = sa.select(sa.func.count(), sa.func.max(VECTORS.passage_id))
    count, newest = tx.conn.execute(query.where(VECTORS.knowledge_base_id == base_id)).one()
    return count, newest or 0


def load_vectors(tx: Tx, base_id: str) -> tuple[list[Hit], bytes]:
    """All passages of a knowledge base that have a vector, and those, one after the other."""
    rows = tx.conn.execute(
        sa.select(
            passages.c.document_id,
            documents.c.name,
            passages.c.knowledge_base_id,
            passages.c.position,
            passages.c.heading,
            passages.c.text,
            VECTORS.vector,
        )
        .join(passages, passages.c.id == VECTORS.passage_id)
        .join(documents, documents.c.id == passages.c.document_id)
        .where(VECTORS.knowledge_base_id == base_id)
        .order_by(VECTORS.passage_id)
    ).all()
    return [Hit(*row[:-1], score=0.0) for row in rows], b"".join(row.vector for row in rows)
