"""Requests that may be sent twice and are done once: the first answer is kept and repeated."""

from __future__ import annotations

import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError

from api.store.database import Tx
from api.store.errors import Conflict, InvalidReference
from api.store.tables import idempotency

__all__ = ["begin_once", "finish_once", "forget_once"]

COLUMNS = idempotency.c


def begin_once(tx: Tx, api_key_id: str, key: str, fingerprint: str, keep_ms: int) -> bytes | None:
    """Claim ``key`` for one request; the answer of the first, if there was one.

    Raises:
        Conflict: the first is still running.
        InvalidReference: the first was another request (its ``fingerprint`` differs).
    """
    tx.conn.execute(sa.delete(idempotency).where(COLUMNS.created_at_ms < tx.now_ms - keep_ms))
    try:
        with tx.conn.begin_nested():
            tx.conn.execute(
                sa.insert(idempotency).values(
                    api_key_id=api_key_id,
                    key=key,
                    fingerprint=fingerprint,
                    created_at_ms=tx.now_ms,
                )
            )
    except IntegrityError:
        row = tx.conn.execute(sa.select(idempotency).where(*_is(api_key_id, key))).one_or_none()
        if row is not None and row.fingerprint != fingerprint:
            raise InvalidReference(
                "Idempotency-Key", "this key was used for another request: use a new one"
            ) from None
        if row is None or row.answer is None:
            raise Conflict("the first request with this key is still running: ask again") from None
        return bytes(row.answer)
    return None


def finish_once(tx: Tx, api_key_id: str, key: str, answer: bytes) -> None:
    """Keep the answer for those who ask again."""
    tx.conn.execute(sa.update(idempotency).where(*_is(api_key_id, key)).values(answer=answer))


def forget_once(tx: Tx, api_key_id: str, key: str) -> None:
    """The request failed and did nothing: it may be tried again."""
    tx.conn.execute(sa.delete(idempotency).where(*_is(api_key_id, key)))


def _is(api_key_id: str, key: str) -> tuple[sa.ColumnElement[bool], ...]:
    return COLUMNS.api_key_id == api_key_id, COLUMNS.key == key
