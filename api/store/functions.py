"""The functions agents may call. Their names are what a model calls them by."""

from __future__ import annotations

from collections.abc import Callable

import sqlalchemy as sa

from api.specs import FunctionSpec
from api.store import tables
from api.store.database import Actor, Tx
from api.store.errors import InvalidReference, User
from api.store.records import Record, Resources, hold, set_uses

__all__ = ["FUNCTIONS", "create_function", "update_function"]

FUNCTIONS = Resources("function", "fn", tables.functions, FunctionSpec)


def create_function(tx: Tx, actor: Actor, spec: FunctionSpec) -> Record[FunctionSpec]:
    """
    Raises:
        InvalidReference: its secret does not exist.
    """
    record = FUNCTIONS.create(tx, actor, spec)
    _hold_secret(tx, record)
    return record


def update_function(
    tx: Tx,
    actor: Actor,
    id: str,
    revision: int | None,
    change: Callable[[FunctionSpec], FunctionSpec],
) -> Record[FunctionSpec]:
    """
    Raises:
        NotFound, RevisionChanged.
        InvalidReference: its secret does not exist, or an agent that uses it has another
            function of its new name.
    """
    record = FUNCTIONS.update(tx, actor, id, revision, change)
    _hold_secret(tx, record)
    mine, other = tables.uses.alias(), tables.uses.alias()
    clash = tx.conn.execute(
        sa.select(mine.c.user_id, tables.functions.c.id)
        .join(
            other, sa.and_(mine.c.user_kind == other.c.user_kind, mine.c.user_id == other.c.user_id)
        )
        .join(tables.functions, tables.functions.c.id == other.c.used_id)
        .where(
            mine.c.used_kind == "function",
            other.c.used_kind == "function",
            mine.c.used_id == id,
            other.c.used_id != id,
            tables.functions.c.name == record.spec.name,
        )
    ).first()
    if clash is not None:
        raise InvalidReference(
            "name", f"agent {clash[0]} has another function {record.spec.name} ({clash[1]})"
        )
    return record


def _hold_secret(tx: Tx, record: Record[FunctionSpec]) -> None:
    secret = record.spec.secret
    if secret is not None:
        hold(tx, tables.secrets.c.name, {secret: "secret"})
    user = User(kind="function", id=record.id, name=record.spec.name)
    set_uses(tx, user, [("secret", secret)] if secret is not None else [])
