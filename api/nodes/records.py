"""What is kept of nodes and of what they say to each other: plain functions of a transaction.

Times are the database's own, so that the clocks of the nodes need not agree.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

import msgspec
import sqlalchemy as sa

from api.calls.records import Ended, StoredCall, mark_ended
from api.store.database import Tx
from api.store.records import Page, page_of
from api.store.tables import calls, commands, nodes

__all__ = [
    "NODE_LOST",
    "Command",
    "NodeRecord",
    "NodeState",
    "answer_command",
    "beat",
    "bury",
    "channel_of",
    "claim_commands",
    "count_nodes",
    "find_nodes",
    "get_node",
    "has_commands",
    "leave",
    "node_with_room",
    "notify",
    "other_nodes",
    "put_command",
    "release",
    "take_answers",
    "withdraw_command",
]

NODE_LOST = "node_lost"
LOST = Ended(state="failed", cause=NODE_LOST, source="rtcore")
KEPT_MS = 60_000  # an expired command is not done any more, and then forgotten
CLAIMED_MAX = 64  # in one transaction


class NodeState(msgspec.Struct, frozen=True, kw_only=True):
    """What a node tells of itself with each heartbeat."""

    url: str
    calls: int
    capacity: int
    has_room: bool
    is_draining: bool


@dataclass(frozen=True, slots=True)
class NodeRecord:
    """A node as it is kept; ``silent_ms`` is how long it has said nothing."""

    id: str
    state: NodeState
    started_at_ms: int
    heartbeat_at_ms: int
    silent_ms: int


@dataclass(frozen=True, slots=True)
class Command:
    """Something another node wants of this one."""

    id: str
    from_node_id: str
    body: bytes


def channel_of(node_id: str) -> str:
    """The PostgreSQL channel a node listens on."""
    return f"rtcore_{node_id}"


def notify(tx: Tx, channel: str, payload: str) -> None:
    """Wake who listens on ``channel`` once this transaction is committed; at most 7999 octets.

    SQLite has one node: nobody listens.
    """
    if tx.is_postgres:
        tx.conn.execute(sa.select(sa.func.pg_notify(channel, payload)))


def _now_ms(tx: Tx) -> int:
    return int(tx.conn.scalar(sa.select(_clock(tx))) or 0) if tx.is_postgres else tx.now_ms


def _clock(tx: Tx) -> sa.ColumnElement[int]:
    """The time now, inside a statement: one round trip less."""
    if not tx.is_postgres:
        return sa.literal(tx.now_ms)
    return sa.cast(sa.extract("epoch", sa.func.clock_timestamp()) * 1000, sa.BigInteger)


# --- who is up --------------------------------------------------------------------------


def beat(tx: Tx, id: str, state: NodeState) -> None:
    """The node is up. One that was taken for dead is known again."""
    now_ms = _now_ms(tx)
    tx.conn.execute(sa.delete(commands).where(commands.c.expires_at_ms < now_ms - KEPT_MS))
    row = {
        "url": state.url,
        "calls": state.calls,
        "capacity": state.capacity,
        "has_room": int(state.has_room),
        "is_draining": int(state.is_draining),
        "heartbeat_at_ms": now_ms,
    }
    if tx.conn.execute(sa.update(nodes).where(nodes.c.id == id).values(**row)).rowcount == 0:
        tx.conn.execute(sa.insert(nodes).values(id=id, started_at_ms=now_ms, **row))


def leave(tx: Tx, id: str) -> None:
    """The node goes, and holds nothing any more."""
    tx.conn.execute(sa.delete(nodes).where(nodes.c.id == id))
    tx.conn.execute(sa.update(calls).where(calls.c.node_id == id).values(node_id=None))


def bury(tx: Tx, silent_ms: int) -> tuple[StoredCall, ...]:
    """Take out the nodes that have been silent for so long, and end the calls they held.

    Whoever deletes the row of a node ends its calls, in the same transaction: each once, however
    many nodes look. Returns the calls that ended by it.
    """
    limit = _now_ms(tx) - silent_ms
    gone = sa.delete(nodes).where(nodes.c.heartbeat_at_ms < limit).returning(nodes.c.id)
    ids = tx.conn.scalars(gone).all()
    if not ids:
        return ()
    held = sa.select(calls.c.id).where(calls.c.node_id.in_(ids), calls.c.ended_at_ms.is_(None))
    lost = tuple(mark_ended(tx, call_id, LOST) for call_id in tx.conn.scalars(held).all())
    tx.conn.execute(sa.update(calls).where(calls.c.node_id.in_(ids)).values(node_id=None))
    return lost


def release(tx: Tx, node_id: str, streams: Collection[tuple[str, int]]) -> None:
    """The node holds these streams (by call and number) no more; a newer one stays where it is."""
    for call_id, number in streams:
        mine = (calls.c.id == call_id, calls.c.node_id == node_id, calls.c.streams == number)
        tx.conn.execute(sa.update(calls).where(*mine).values(node_id=None))


def count_nodes(tx: Tx) -> int:
    return tx.conn.scalar(sa.select(sa.func.count()).select_from(nodes)) or 0


def other_nodes(tx: Tx, besides: str) -> tuple[str, ...]:
    """The ids of the other nodes that are up."""
    return tuple(tx.conn.scalars(sa.select(nodes.c.id).where(nodes.c.id != besides)))


def get_node(tx: Tx, id: str) -> NodeRecord | None:
    """A node that is up, as far as is known."""
    row = tx.conn.execute(sa.select(nodes).where(nodes.c.id == id)).one_or_none()
    return None if row is None else _node(row, _now_ms(tx))


def find_nodes(tx: Tx, limit: int, offset: int) -> Page[NodeRecord]:
    """A page of the nodes that are up, the newest first."""
    now_ms = _now_ms(tx)
    query = sa.select(nodes).order_by(nodes.c.started_at_ms.desc(), nodes.c.id)
    return page_of(tx, query, limit, offset, lambda row: _node(row, now_ms))


def node_with_room(tx: Tx, besides: str, silent_ms: int) -> NodeRecord | None:
    """The emptiest other node the carrier can reach by itself and that may take a call."""
    now_ms = _now_ms(tx)
    free = (
        nodes.c.id != besides,
        nodes.c.url != "",
        nodes.c.has_room == 1,
        nodes.c.is_draining == 0,
        nodes.c.calls < nodes.c.capacity,
        nodes.c.heartbeat_at_ms >= now_ms - silent_ms,
    )
    load = sa.cast(nodes.c.calls, sa.Float) / nodes.c.capacity
    row = tx.conn.execute(sa.select(nodes).where(*free).order_by(load).limit(1)).one_or_none()
    return None if row is None else _node(row, now_ms)


def _node(row: sa.Row[Any], now_ms: int) -> NodeRecord:
    state = NodeState(
        url=row.url,
        calls=row.calls,
        capacity=row.capacity,
        has_room=bool(row.has_room),
        is_draining=bool(row.is_draining),
    )
    silent_ms = max(0, now_ms - row.heartbeat_at_ms)
    return NodeRecord(row.id, state, row.started_at_ms, row.heartbeat_at_ms, silent_ms)


# --- what they say to each other ----------------------------------------------------------


def put_command(
    tx: Tx, id: str, node_id: str, from_node_id: str, body: bytes, life_ms: int
) -> None:
    """Say ``body`` to a node, and wake it. Past ``life_ms`` it is not done any more."""
    tx.conn.execute(
        sa.insert(commands).values(
            id=id,
            node_id=node_id,
            from_node_id=from_node_id,
            body=body,
            expires_at_ms=_clock(tx) + life_ms,
        )
    )
    notify(tx, channel_of(node_id), f"command {id}")


def has_commands(tx: Tx, node_id: str) -> bool:
    """Whether something waits to be claimed; costs no write."""
    return tx.conn.scalar(sa.select(sa.exists().where(*_waiting(tx, node_id)))) or False


def _waiting(tx: Tx, node_id: str) -> tuple[sa.ColumnElement[bool], ...]:
    of_node = commands.c.node_id == node_id
    return of_node, commands.c.claimed_at_ms.is_(None), commands.c.expires_at_ms > _clock(tx)


def claim_commands(tx: Tx, node_id: str) -> tuple[Command, ...]:
    """Take what was said to the node: each is given out once. Those nobody answers go at once."""
    first = sa.select(commands.c.id).where(*_waiting(tx, node_id)).limit(CLAIMED_MAX)
    taken = tx.conn.execute(
        sa.update(commands)
        .where(commands.c.id.in_(first.with_for_update(skip_locked=True)))
        .values(claimed_at_ms=_clock(tx))
        .returning(
            commands.c.id, commands.c.from_node_id, commands.c.body, commands.c.expires_at_ms
        )
    ).all()
    unanswered = [row.id for row in taken if not row.from_node_id]
    if unanswered:
        tx.conn.execute(sa.delete(commands).where(commands.c.id.in_(unanswered)))
    taken = sorted(taken, key=lambda row: row.expires_at_ms)  # as they were said, as a rule
    return tuple(Command(row.id, row.from_node_id, row.body) for row in taken)


def answer_command(tx: Tx, command: Command, answer: bytes) -> None:
    """Answer a command, and wake who waits for it."""
    tx.conn.execute(sa.update(commands).where(commands.c.id == command.id).values(answer=answer))
    notify(tx, channel_of(command.from_node_id), f"answer {command.id}")


def take_answers(tx: Tx, ids: Collection[str]) -> dict[str, bytes]:
    """The answers there are to commands; each is given out once."""
    if not ids:
        return {}
    answered = (commands.c.id.in_(ids), commands.c.answer.is_not(None))
    rows = tx.conn.execute(
        sa.delete(commands).where(*answered).returning(commands.c.id, commands.c.answer)
    )
    return {row.id: row.answer for row in rows}


def withdraw_command(tx: Tx, id: str) -> bool:
    """Nobody waits for the answer any more; True if nothing was done about it."""
    gone = sa.delete(commands).where(commands.c.id == id).returning(commands.c.claimed_at_ms)
    row = tx.conn.execute(gone).one_or_none()
    return row is not None and row.claimed_at_ms is None
