"""Who is not to be called: one list for all campaigns."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

from api.store.campaigns import TARGETS, finish_if_done
from api.store.database import Actor, Tx
from api.store.errors import NotFound
from api.store.records import Page, note, page_of
from api.store.tables import campaign_targets, campaigns, do_not_call
from api.store.targets import CHUNK

__all__ = [
    "Blocked",
    "BlockedRecord",
    "block_numbers",
    "find_blocked",
    "has_opted_out",
    "is_blocked",
    "unblock_number",
]

Source = Literal["api", "agent"]
COLUMNS = do_not_call.c


@dataclass(frozen=True, slots=True)
class BlockedRecord:
    """A number that is not to be called."""

    number: str
    source: Source
    note: str
    call_id: str | None
    created_at_ms: int


@dataclass(frozen=True, slots=True)
class Blocked:
    """How many numbers are new to the list, and how many waiting targets that has stopped."""

    added: int
    stopped: int


def block_numbers(
    tx: Tx,
    actor: Actor,
    numbers: Sequence[str],
    *,
    source: Source,
    remark: str = "",
    call_id: str | None = None,
) -> Blocked:
    """Put numbers on the list; whoever waits to be called is not, from this transaction on."""
    wanted = sorted({number.removeprefix("+") for number in numbers})
    added = stopped = 0
    for first in range(0, len(wanted), CHUNK):
        chunk = wanted[first : first + CHUNK]
        waits = TARGETS.number.in_(chunk), TARGETS.state == "waiting"
        # in one order, and before their numbers, as everybody locks them
        calling = sa.select(TARGETS.campaign_id).where(*waits)
        ids = list(
            tx.conn.scalars(
                sa.select(campaigns.c.id)
                .where(campaigns.c.id.in_(calling))
                .order_by(campaigns.c.id)
                .with_for_update()
            )
        )
        known = set(tx.conn.scalars(sa.select(COLUMNS.number).where(COLUMNS.number.in_(chunk))))
        rows = [
            {
                "number": number,
                "source": source,
                "note": remark,
                "call_id": call_id,
                "created_at_ms": tx.now_ms,
                "created_by": actor.id,
            }
            for number in chunk
            if number not in known
        ]
        if rows:
            added += _insert(tx, rows)
        if call_id is not None and known:  # known before: that this call asked for it is news
            tx.conn.execute(
                sa.update(do_not_call).where(COLUMNS.number.in_(known)).values(call_id=call_id)
            )
        changed = tx.conn.execute(
            sa.update(campaign_targets)
            .where(*waits)
            .values(state="done", outcome="do_not_call", updated_at_ms=tx.now_ms)
        )
        stopped += changed.rowcount
        for id in ids:
            finish_if_done(tx, id)
    note(tx, actor, "do_not_call.added", call_id or "")
    return Blocked(added, stopped)


def _insert(tx: Tx, rows: list[dict[str, Any]]) -> int:
    """Insert those that nobody else has put there in this moment."""
    kind = postgresql if tx.is_postgres else sqlite
    once = kind.insert(do_not_call).values(rows).on_conflict_do_nothing()
    return len(tx.conn.execute(once.returning(COLUMNS.number)).all())


def is_blocked(tx: Tx, number: str) -> bool:
    """Whether ``number``, digits alone, is not to be called."""
    query = sa.select(COLUMNS.number).where(COLUMNS.number == number)
    return tx.conn.scalar(query) is not None


def has_opted_out(tx: Tx, call_id: str) -> bool:
    """Whether the list grew by what was said in this call."""
    query = sa.select(COLUMNS.number).where(COLUMNS.call_id == call_id)
    return tx.conn.scalar(query.limit(1)) is not None


def find_blocked(tx: Tx, limit: int, offset: int, number: str | None) -> Page[BlockedRecord]:
    """A page of the list, the newest first."""
    query = sa.select(do_not_call).order_by(COLUMNS.created_at_ms.desc(), COLUMNS.number)
    if number is not None:
        query = query.where(COLUMNS.number == number)
    return page_of(tx, query, limit, offset, _record)


def unblock_number(tx: Tx, actor: Actor, number: str) -> None:
    """Take a number off the list; what it has stopped stays stopped until it is retried.

    Raises:
        NotFound: it is not on the list.
    """
    gone = tx.conn.execute(sa.delete(do_not_call).where(COLUMNS.number == number))
    if not gone.rowcount:
        raise NotFound("number on the do-not-call list:", number)
    note(tx, actor, "do_not_call.removed", "")  # never whose


def _record(row: sa.Row[Any]) -> BlockedRecord:
    return BlockedRecord(
        number=row.number,
        source=row.source,
        note=row.note,
        call_id=row.call_id,
        created_at_ms=row.created_at_ms,
    )
