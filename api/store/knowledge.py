"""Knowledge bases, their documents, and the work of indexing them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, cast

import sqlalchemy as sa

from api.specs import KnowledgeBaseSpec
from api.store.database import Actor, Tx
from api.store.errors import Conflict, NotFound, User
from api.store.records import Page, Record, Resources, hold, new_id, note, page_of, set_uses
from api.store.tables import documents, knowledge_bases, passage_vectors, passages, secrets
from rtcore.agent.documents import MediaType, Passage

__all__ = [
    "KNOWLEDGE_BASES",
    "DocumentRecord",
    "DocumentState",
    "Work",
    "add_document",
    "add_passages",
    "claim_document",
    "create_base",
    "delete_document",
    "fail_document",
    "find_documents",
    "get_document",
    "update_base",
]

DocumentState = Literal["waiting", "indexing", "ready", "failed"]

KNOWLEDGE_BASES = Resources("knowledgebase", "kb", knowledge_bases, KnowledgeBaseSpec)
COLUMNS = documents.c
SHOWN = [column for column in COLUMNS if column.name not in ("content", "claimed_until_ms")]
CLAIM_MS = 60_000  # a batch of passages takes far less: a node silent for so long has died


@dataclass(frozen=True, slots=True)
class DocumentRecord:
    """A document and how far its indexing has come; found by search once it is ``ready``."""

    id: str
    knowledge_base_id: str
    name: str
    media_type: MediaType
    size_bytes: int
    state: DocumentState
    progress_percent: int
    passage_count: int
    error: str | None
    created_at_ms: int


@dataclass(frozen=True, slots=True)
class Work:
    """A document to be indexed."""

    id: str
    media_type: MediaType
    content: bytes


def create_base(tx: Tx, actor: Actor, spec: KnowledgeBaseSpec) -> Record[KnowledgeBaseSpec]:
    """
    Raises:
        InvalidReference: its secret does not exist.
    """
    record = KNOWLEDGE_BASES.create(tx, actor, spec)
    _hold_secret(tx, record)
    return record


def update_base(
    tx: Tx,
    actor: Actor,
    id: str,
    revision: int | None,
    change: Callable[[KnowledgeBaseSpec], KnowledgeBaseSpec],
) -> Record[KnowledgeBaseSpec]:
    """Change a knowledge base; with another model for it, all meanings are asked for anew.

    Raises:
        NotFound, RevisionChanged; what ``change`` raises.
        InvalidReference: its secret does not exist.
    """
    before = KNOWLEDGE_BASES.get(tx, id, lock=True).spec.embedding
    record = KNOWLEDGE_BASES.update(tx, actor, id, revision, change)
    _hold_secret(tx, record)
    now = record.spec.embedding
    if before is not None and (
        now is None or (now.model, now.base_url) != (before.model, before.base_url)
    ):
        tx.conn.execute(sa.delete(passage_vectors).where(passage_vectors.c.knowledge_base_id == id))
    return record


def _hold_secret(tx: Tx, record: Record[KnowledgeBaseSpec]) -> None:
    embedding = record.spec.embedding
    secret = embedding.secret if embedding is not None else None
    if secret is not None:
        hold(tx, secrets.c.name, {secret: "embedding.secret"})
    user = User(kind="knowledgebase", id=record.id, name=record.spec.name)
    set_uses(tx, user, [("secret", secret)] if secret is not None else [])


def add_document(
    tx: Tx,
    actor: Actor,
    knowledge_base_id: str,
    name: str,
    media_type: MediaType,
    content: bytes,
    documents_max: int,
) -> DocumentRecord:
    """Keep a document; it waits to be indexed.

    Raises:
        NotFound: there is no such knowledge base.
        Conflict: it is full.
    """
    KNOWLEDGE_BASES.get(tx, knowledge_base_id, lock=True)
    is_in_base = COLUMNS.knowledge_base_id == knowledge_base_id
    count = tx.conn.scalar(sa.select(sa.func.count()).where(is_in_base)) or 0
    if count >= documents_max:
        raise Conflict(f"a knowledge base holds {documents_max} documents: delete one first")
    record = DocumentRecord(
        id=new_id("doc"),
        knowledge_base_id=knowledge_base_id,
        name=name,
        media_type=media_type,
        size_bytes=len(content),
        state="waiting",
        progress_percent=0,
        passage_count=0,
        error=None,
        created_at_ms=tx.now_ms,
    )
    shown = {column.name: getattr(record, column.name) for column in SHOWN}
    tx.conn.execute(sa.insert(documents).values(content=content, claimed_until_ms=0, **shown))
    note(tx, actor, "document.created", record.id)
    return record


def get_document(tx: Tx, knowledge_base_id: str, id: str) -> DocumentRecord:
    """
    Raises:
        NotFound.
    """
    query = sa.select(*SHOWN).where(*_is(knowledge_base_id, id))
    row = tx.conn.execute(query).one_or_none()
    if row is None:
        raise NotFound("document", id)
    return _record(row)


def find_documents(
    tx: Tx,
    knowledge_base_id: str,
    limit: int,
    offset: int,
    state: DocumentState | None = None,
) -> Page[DocumentRecord]:
    """A page of one knowledge base's documents, newest first.

    Raises:
        NotFound: there is no such knowledge base.
    """
    KNOWLEDGE_BASES.get(tx, knowledge_base_id)
    query = (
        sa.select(*SHOWN)
        .where(COLUMNS.knowledge_base_id == knowledge_base_id)
        .order_by(COLUMNS.created_at_ms.desc(), COLUMNS.id)
    )
    if state is not None:
        query = query.where(COLUMNS.state == state)
    return page_of(tx, query, limit, offset, _record)


def delete_document(tx: Tx, actor: Actor, knowledge_base_id: str, id: str) -> None:
    """Remove a document and all that was found in it.

    Raises:
        NotFound.
    """
    if not tx.conn.execute(sa.delete(documents).where(*_is(knowledge_base_id, id))).rowcount:
        raise NotFound("document", id)
    note(tx, actor, "document.deleted", id)


# --- indexing ---------------------------------------------------------------------------


def claim_document(tx: Tx) -> Work | None:
    """Take the oldest document that waits, or whose node has died; None if there is none."""
    is_open = sa.or_(
        COLUMNS.state == "waiting",
        sa.and_(COLUMNS.state == "indexing", COLUMNS.claimed_until_ms < tx.now_ms),
    )
    row = tx.conn.execute(
        sa.select(COLUMNS.id, COLUMNS.media_type, COLUMNS.content)
        .where(is_open)
        .order_by(COLUMNS.created_at_ms, COLUMNS.id)
        .limit(1)
        .with_for_update(skip_locked=True)
    ).one_or_none()
    if row is None:
        return None
    # one that was begun before is begun again: nothing of it may be found twice
    tx.conn.execute(sa.delete(passages).where(passages.c.document_id == row.id))
    _set(
        tx,
        row.id,
        state="indexing",
        progress_percent=0,
        passage_count=0,
        claimed_until_ms=tx.now_ms + CLAIM_MS,
    )
    return Work(row.id, cast(MediaType, row.media_type), bytes(row.content))


def add_passages(tx: Tx, id: str, first: int, batch: Sequence[Passage], total: int) -> bool:
    """Index the next ``batch`` of ``total`` passages; the last makes the document ``ready``.

    False: the document has been deleted meanwhile, and nothing was written.
    """
    query = sa.select(COLUMNS.knowledge_base_id).where(COLUMNS.id == id).with_for_update()
    base = tx.conn.scalar(query)
    if base is None:
        return False
    rows = [
        {
            "document_id": id,
            "knowledge_base_id": base,
            "position": first + number,
            "heading": passage.heading,
            "text": passage.text,
        }
        for number, passage in enumerate(batch)
    ]
    tx.conn.execute(sa.insert(passages), rows)
    done = first + len(batch)
    _set(
        tx,
        id,
        state="ready" if done == total else "indexing",
        progress_percent=100 * done // total,
        passage_count=done,
        claimed_until_ms=tx.now_ms + CLAIM_MS,
    )
    return True


def fail_document(tx: Tx, id: str, error: str) -> None:
    """``id`` cannot be indexed; ``error`` tells its owner why."""
    _set(tx, id, state="failed", error=error)


def _set(tx: Tx, id: str, **values: Any) -> None:
    tx.conn.execute(sa.update(documents).where(COLUMNS.id == id).values(**values))


def _is(knowledge_base_id: str, id: str) -> tuple[sa.ColumnElement[bool], ...]:
    return COLUMNS.id == id, COLUMNS.knowledge_base_id == knowledge_base_id


def _record(row: sa.Row[Any]) -> DocumentRecord:
    return DocumentRecord(**{column.name: getattr(row, column.name) for column in SHOWN})
