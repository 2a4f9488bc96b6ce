"""Puts a call into the queue of analyses: in the transaction that ends it, or when asked to."""

from __future__ import annotations

import msgspec
import sqlalchemy as sa

from api.analysis.findings import Findings
from api.store.agents import get_agent
from api.store.database import Tx
from api.store.errors import NotFound
from api.store.tables import analyses

__all__ = ["SETTLE_MS", "enqueue", "enqueue_if_wished"]

SETTLE_MS = 3_000  # the record of the last stream follows the end of its call within a second


def enqueue_if_wished(tx: Tx, call_id: str, agent_id: str, version: int) -> None:
    """A call has ended: have it analysed, if its agent wants that."""
    try:
        spec = get_agent(tx, agent_id, version).spec
    except NotFound:  # deleted while it was talking
        return
    if spec.analysis is not None:
        enqueue(tx, call_id, agent_id, version, tx.now_ms + SETTLE_MS)


def enqueue(tx: Tx, call_id: str, agent_id: str, version: int, due_at_ms: int) -> None:
    """Have a call analysed as one version of an agent says; what was found before is forgotten."""
    row = {
        "agent_id": agent_id,
        "agent_version": version,
        "state": "waiting",
        "attempts": 0,
        "due_at_ms": due_at_ms,
        "result": msgspec.json.encode(Findings()).decode(),
        "requested_at_ms": tx.now_ms,
        "updated_at_ms": tx.now_ms,
    }
    changed = tx.conn.execute(
        sa.update(analyses).where(analyses.c.call_id == call_id).values(**row)
    )
    if changed.rowcount == 0:
        tx.conn.execute(sa.insert(analyses).values(call_id=call_id, **row))
