"""API keys: shown once, kept as a hash, limited to scopes, with an end if wanted.

A token is ``rtk_<24 hex digits>_<43 characters>``: an id to find it by and 256 random bits. So
many bits cannot be guessed, and one round of SHA-256 is enough to keep them.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import msgspec
import sqlalchemy as sa

from api.store.database import Actor, Tx
from api.store.errors import NotFound
from api.store.records import Page, new_id, note, page_of
from api.store.tables import api_keys, audit

__all__ = [
    "SCOPES",
    "AuditRecord",
    "KeyRecord",
    "Scope",
    "check_token",
    "create_key",
    "delete_key",
    "find_audit",
    "find_keys",
    "forget_audit",
]

Scope = Literal["read", "write", "calls", "admin"]
SCOPES: tuple[Scope, ...] = get_args(Scope)
AUDIT_BATCH_MAX = 1000  # lines forgotten in one transaction: the store's writer is others' too
TOKEN = re.compile(r"(rtk_[0-9a-f]{24})_([A-Za-z0-9_-]{43})")


@dataclass(frozen=True, slots=True)
class KeyRecord:
    """A key without its secret."""

    id: str
    name: str
    scopes: tuple[Scope, ...]
    created_at_ms: int
    expires_at_ms: int | None

    def allows(self, scope: Scope) -> bool:
        """``admin`` may do everything; every other scope only what it names."""
        return scope in self.scopes or "admin" in self.scopes


@dataclass(frozen=True, slots=True)
class AuditRecord:
    """One line of the audit log."""

    id: int
    at_ms: int
    actor: str
    request_id: str
    action: str
    resource_id: str
    fields: tuple[str, ...]


def create_key(
    tx: Tx, actor: Actor, name: str, scopes: Sequence[Scope], expires_at_ms: int | None = None
) -> tuple[KeyRecord, str]:
    """Make a key; the second value is its token, which is never shown again."""
    id, secret = new_id("rtk"), secrets.token_urlsafe(32)
    ordered = tuple(scope for scope in SCOPES if scope in scopes)
    tx.conn.execute(
        sa.insert(api_keys).values(
            id=id,
            name=name,
            secret_sha256=_digest(secret),
            scopes=" ".join(ordered),
            created_at_ms=tx.now_ms,
            expires_at_ms=expires_at_ms,
        )
    )
    note(tx, actor, "key.created", id, ordered)
    return KeyRecord(id, name, ordered, tx.now_ms, expires_at_ms), f"{id}_{secret}"


def check_token(tx: Tx, token: str) -> KeyRecord | None:
    """The key that ``token`` is, or None: malformed, unknown, revoked, wrong or expired."""
    match = TOKEN.fullmatch(token)
    if match is None:
        return None
    row = tx.conn.execute(sa.select(api_keys).where(api_keys.c.id == match[1])).one_or_none()
    if row is None or not hmac.compare_digest(row.secret_sha256, _digest(match[2])):
        return None
    if row.expires_at_ms is not None and row.expires_at_ms <= tx.now_ms:
        return None
    return _record(row)


def find_keys(tx: Tx, limit: int, offset: int) -> Page[KeyRecord]:
    """A page of keys, newest first."""
    query = sa.select(api_keys).order_by(api_keys.c.created_at_ms.desc(), api_keys.c.id)
    return page_of(tx, query, limit, offset, _record)


def delete_key(tx: Tx, actor: Actor, id: str) -> None:
    """Revoke a key at once.

    Raises:
        NotFound.
    """
    if not tx.conn.execute(sa.delete(api_keys).where(api_keys.c.id == id)).rowcount:
        raise NotFound("key", id)
    note(tx, actor, "key.deleted", id)


def find_audit(
    tx: Tx, limit: int, offset: int, resource_id: str | None = None, actor: str | None = None
) -> Page[AuditRecord]:
    """A page of the audit log, newest first."""
    query = sa.select(audit).order_by(audit.c.id.desc())
    if resource_id is not None:
        query = query.where(audit.c.resource_id == resource_id)
    if actor is not None:
        query = query.where(audit.c.actor == actor)

    def make(row: sa.Row[Any]) -> AuditRecord:
        fields = msgspec.json.decode(row.fields, type=tuple[str, ...])
        return AuditRecord(
            row.id, row.at_ms, row.actor, row.request_id, row.action, row.resource_id, fields
        )

    return page_of(tx, query, limit, offset, make)


def forget_audit(tx: Tx, keep_ms: int) -> int:
    """Forget some of the lines that are older; how many. Ask again until there is none."""
    older = sa.select(audit.c.id).where(audit.c.at_ms < tx.now_ms - keep_ms)
    some = older.order_by(audit.c.at_ms).limit(AUDIT_BATCH_MAX)
    return tx.conn.execute(sa.delete(audit).where(audit.c.id.in_(some))).rowcount


def _digest(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()


def _record(row: sa.Row[Any]) -> KeyRecord:
    scopes = tuple(scope for scope in SCOPES if scope in row.scopes.split())
    return KeyRecord(row.id, row.name, scopes, row.created_at_ms, row.expires_at_ms)
