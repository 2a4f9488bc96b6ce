"""Secrets by name: written and used, never shown again."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError

from api.store.database import Actor, Tx
from api.store.errors import Conflict, InUse, NotFound
from api.store.records import Page, note, page_of, users_of
from api.store.tables import secrets

__all__ = ["SecretRecord", "delete_secret", "find_secrets", "open_secrets", "put_secret"]


@dataclass(frozen=True, slots=True)
class SecretRecord:
    """All of a secret that is ever shown."""

    name: str
    created_at_ms: int
    updated_at_ms: int


def put_secret(tx: Tx, actor: Actor, name: str, value: str) -> tuple[SecretRecord, bool]:
    """Create or replace a secret; say whether it is new.

    Raises:
        VaultLocked: no key is configured to seal it with.
        Conflict: somebody else creates it at the same time.
    """
    sealed = tx.vault.seal(value)
    created = tx.conn.scalar(
        sa.select(secrets.c.created_at_ms).where(secrets.c.name == name).with_for_update()
    )
    row = {"sealed": sealed, "updated_at_ms": tx.now_ms}
    if created is None:
        try:
            tx.conn.execute(sa.insert(secrets).values(name=name, created_at_ms=tx.now_ms, **row))
        except IntegrityError as exc:
            raise Conflict(f"secret {name} was created in this very moment: ask again") from exc
    else:
        tx.conn.execute(sa.update(secrets).where(secrets.c.name == name).values(**row))
    note(tx, actor, "secret.created" if created is None else "secret.replaced", name)
    record = SecretRecord(name, tx.now_ms if created is None else created, tx.now_ms)
    return record, created is None


def find_secrets(tx: Tx, limit: int, offset: int) -> Page[SecretRecord]:
    """A page of secrets, by name."""
    query = sa.select(secrets.c.name, secrets.c.created_at_ms, secrets.c.updated_at_ms).order_by(
        secrets.c.name
    )
    return page_of(
        tx,
        query,
        limit,
        offset,
        lambda row: SecretRecord(row.name, row.created_at_ms, row.updated_at_ms),
    )


def open_secrets(tx: Tx, names: Iterable[str]) -> dict[str, str]:
    """The values of those of ``names`` that exist.

    Raises:
        VaultLocked: no configured key opens one of them.
    """
    query = sa.select(secrets.c.name, secrets.c.sealed).where(secrets.c.name.in_(set(names)))
    return {row.name: tx.vault.open(row.sealed) for row in tx.conn.execute(query)}


def delete_secret(tx: Tx, actor: Actor, name: str) -> None:
    """
    Raises:
        NotFound.
        InUse: an agent or a function names it.
    """
    query = sa.select(secrets.c.name).where(secrets.c.name == name).with_for_update()
    if tx.conn.scalar(query) is None:
        raise NotFound("secret", name)
    if users := users_of(tx, "secret", name):
        raise InUse("secret", name, users)
    tx.conn.execute(sa.delete(secrets).where(secrets.c.name == name))
    note(tx, actor, "secret.deleted", name)
