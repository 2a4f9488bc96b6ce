"""What all kept resources share: an id, a revision, pages, users, and a line in the audit log."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import msgspec
import sqlalchemy as sa

from api.store.database import Actor, Tx
from api.store.errors import InUse, InvalidReference, NotFound, RevisionChanged, User
from api.store.stored import changed_fields, read_stored, rewritten
from api.store.tables import audit, uses

__all__ = [
    "Page",
    "Record",
    "Resources",
    "check_revision",
    "hold",
    "new_id",
    "note",
    "page_of",
    "set_uses",
    "users_of",
]

S = TypeVar("S", bound=msgspec.Struct)
T = TypeVar("T")


def new_id(prefix: str) -> str:
    """96 random bits: no two are equal, none can be guessed."""
    return f"{prefix}_{secrets.token_hex(12)}"


@dataclass(frozen=True, slots=True)
class Page(Generic[T]):
    """Part of a list, newest first; ``total`` counts all that match."""

    items: tuple[T, ...]
    total: int


@dataclass(frozen=True, slots=True)
class Record(Generic[S]):
    """A resource as stored."""

    id: str
    revision: int
    created_at_ms: int
    updated_at_ms: int
    spec: S


def page_of(
    tx: Tx, query: sa.Select[Any], limit: int, offset: int, make: Callable[[sa.Row[Any]], T]
) -> Page[T]:
    """One page of ``query``, and how many rows it has in all."""
    total = tx.conn.scalar(sa.select(sa.func.count()).select_from(query.order_by(None).subquery()))
    rows = tx.conn.execute(query.limit(limit).offset(offset))
    return Page(tuple(make(row) for row in rows), total or 0)


def note(tx: Tx, actor: Actor, action: str, id: str, fields: Sequence[str] = ()) -> None:
    """Write the audit log: who did what to which resource; names of fields, never values."""
    tx.conn.execute(
        sa.insert(audit).values(
            at_ms=tx.now_ms,
            actor=actor.id,
            request_id=actor.request_id,
            action=action,
            resource_id=id,
            fields=msgspec.json.encode(list(fields)).decode(),
        )
    )


def check_revision(found: int, wanted: int | None) -> None:
    """
    Raises:
        RevisionChanged: somebody else has changed it (``None`` wants any).
    """
    if wanted is not None and found != wanted:
        raise RevisionChanged(found)


# --- who uses what ----------------------------------------------------------------------


def set_uses(tx: Tx, user: User, used: Iterable[tuple[str, str]]) -> None:
    """``user`` holds on to exactly ``used``, pairs of kind and id, from now on."""
    tx.conn.execute(sa.delete(uses).where(uses.c.user_kind == user.kind, uses.c.user_id == user.id))
    rows = [
        {
            "user_kind": user.kind,
            "user_id": user.id,
            "user_name": user.name,
            "used_kind": kind,
            "used_id": id,
        }
        for kind, id in sorted(set(used))
    ]
    if rows:
        tx.conn.execute(sa.insert(uses), rows)


def users_of(tx: Tx, kind: str, id: str) -> tuple[User, ...]:
    """All that holds on to one resource."""
    rows = tx.conn.execute(
        sa.select(uses.c.user_kind, uses.c.user_id, uses.c.user_name)
        .where(uses.c.used_kind == kind, uses.c.used_id == id)
        .order_by(uses.c.user_kind, uses.c.user_id)
    )
    return tuple(User(kind=row.user_kind, id=row.user_id, name=row.user_name) for row in rows)


def hold(tx: Tx, key: sa.Column[Any], wanted: Mapping[str, str]) -> None:
    """Keep rows from being deleted until this transaction ends.

    ``wanted``: the key of each row, and the field of the request that names it.

    Raises:
        InvalidReference: one of them does not exist.
    """
    query = sa.select(key).where(key.in_(wanted)).order_by(key).with_for_update(read=True)
    found = set(tx.conn.scalars(query))
    for id, field in wanted.items():
        if id not in found:
            raise InvalidReference(field, f"there is no {id}: create it first")


# --- resources without versions ---------------------------------------------------------


class Resources(Generic[S]):
    """The functions, or the knowledge bases: all plain functions of a transaction."""

    def __init__(self, kind: str, prefix: str, table: sa.Table, spec: type[S]) -> None:
        self.kind = kind
        self._prefix = prefix
        self._table = table
        self._spec = spec

    def create(self, tx: Tx, actor: Actor, spec: S) -> Record[S]:
        record = Record(new_id(self._prefix), 1, tx.now_ms, tx.now_ms, spec)
        tx.conn.execute(
            sa.insert(self._table).values(
                id=record.id,
                name=getattr(spec, "name"),  # noqa: B009 - every spec has one, S cannot say so
                revision=1,
                spec=msgspec.json.encode(spec).decode(),
                created_at_ms=tx.now_ms,
                updated_at_ms=tx.now_ms,
            )
        )
        note(tx, actor, f"{self.kind}.created", record.id)
        return record

    def get(self, tx: Tx, id: str, *, lock: bool = False) -> Record[S]:
        """
        Raises:
            NotFound: there is none.
        """
        return self._record(self._row(tx, id, lock=lock))

    def get_all(self, tx: Tx, ids: Sequence[str]) -> tuple[Record[S], ...]:
        """Those of ``ids`` that exist, in their order."""
        rows = tx.conn.execute(sa.select(self._table).where(self._table.c.id.in_(ids)))
        found = {row.id: self._record(row) for row in rows}
        return tuple(found[id] for id in ids if id in found)

    def find(self, tx: Tx, limit: int, offset: int, name: str | None = None) -> Page[Record[S]]:
        """A page of those whose name contains ``name``, whatever its capitals."""
        columns = self._table.c
        query = sa.select(self._table).order_by(columns.created_at_ms.desc(), columns.id)
        if name is not None:
            query = query.where(columns.name.icontains(name, autoescape=True))
        return page_of(tx, query, limit, offset, self._record)

    def update(
        self,
        tx: Tx,
        actor: Actor,
        id: str,
        revision: int | None,
        change: Callable[[S], S],
    ) -> Record[S]:
        """Make of the spec what ``change`` does; nothing is written if that is the same.

        What this node does not know of the stored spec stays in it.

        Raises:
            NotFound, RevisionChanged; what ``change`` raises.
        """
        row = self._row(tx, id, lock=True)
        old = self._record(row)
        check_revision(old.revision, revision)
        spec = change(old.spec)
        changed = changed_fields(old.spec, spec)
        if not changed:
            return old
        record = Record(id, old.revision + 1, old.created_at_ms, tx.now_ms, spec)
        tx.conn.execute(
            sa.update(self._table)
            .where(self._table.c.id == id)
            .values(
                name=getattr(spec, "name"),  # noqa: B009 - as above
                revision=record.revision,
                spec=rewritten(row.spec, spec, changed),
                updated_at_ms=tx.now_ms,
            )
        )
        note(tx, actor, f"{self.kind}.updated", id, changed)
        return record

    def delete(self, tx: Tx, actor: Actor, id: str, revision: int | None = None) -> None:
        """
        Raises:
            NotFound, RevisionChanged.
            InUse: something holds on to it.
        """
        check_revision(self._row(tx, id, lock=True).revision, revision)
        if users := users_of(tx, self.kind, id):
            raise InUse(self.kind, id, users)
        tx.conn.execute(sa.delete(self._table).where(self._table.c.id == id))
        set_uses(tx, User(kind=self.kind, id=id, name=""), ())
        note(tx, actor, f"{self.kind}.deleted", id)

    def _row(self, tx: Tx, id: str, *, lock: bool) -> sa.Row[Any]:
        query = sa.select(self._table).where(self._table.c.id == id)
        row = tx.conn.execute(query.with_for_update() if lock else query).one_or_none()
        if row is None:
            raise NotFound(self.kind, id)
        return row

    def _record(self, row: sa.Row[Any]) -> Record[S]:
        spec = read_stored(row.spec, self._spec, row.id)
        return Record(row.id, row.revision, row.created_at_ms, row.updated_at_ms, spec)
