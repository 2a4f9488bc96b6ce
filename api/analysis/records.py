"""The analyses of calls as they are kept: a queue that outlives the node, and what came of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import msgspec
import sqlalchemy as sa

from api.analysis.findings import Findings
from api.analysis.queueing import enqueue
from api.calls.records import StoredCall, facts, get_call, get_streams
from api.outgoing.outbox import tell
from api.specs import AgentSpec
from api.store.agents import get_agent, get_published
from api.store.database import Actor, Tx
from api.store.errors import Conflict, NotFound
from api.store.records import note
from api.store.tables import analyses, call_streams
from rtcore.call import CallRecord

__all__ = [
    "ATTEMPTS_MAX",
    "CRASHED_MS",
    "LEASE_MS",
    "AnalysisState",
    "StoredAnalysis",
    "Work",
    "claim_analysis",
    "finish_analysis",
    "get_analysis",
    "is_analysis_due",
    "request_analysis",
    "save_findings",
]

AnalysisState = Literal["waiting", "done", "failed"]
COLUMNS = analyses.c
LEASE_MS = 300_000  # an attempt takes less: a node silent for so long has died
ATTEMPTS_MAX = 4
BACKOFF_MS = (10_000, 60_000, 600_000)
CRASHED_MS = 60_000  # a stream whose record is that old and not final never gets one


@dataclass(frozen=True, slots=True)
class StoredAnalysis:
    """An analysis as it is kept."""

    call_id: str
    agent_id: str
    agent_version: int
    state: AnalysisState
    attempts: int
    due_at_ms: int
    findings: Findings
    requested_at_ms: int
    updated_at_ms: int


@dataclass(frozen=True, slots=True)
class Work:
    """An analysis that this node has claimed; ``spec`` is None if its agent is gone."""

    analysis: StoredAnalysis
    call: StoredCall
    records: tuple[CallRecord, ...]
    spec: AgentSpec | None


def get_analysis(tx: Tx, call_id: str) -> StoredAnalysis | None:
    """That of a call; None if it has none."""
    row = tx.conn.execute(sa.select(analyses).where(COLUMNS.call_id == call_id)).one_or_none()
    return None if row is None else _analysis(row)


def request_analysis(tx: Tx, actor: Actor, call_id: str, version: int | None) -> StoredAnalysis:
    """Analyse a call, again if it was: as a version of its agent says, by default the published.

    Raises:
        NotFound: there is no such call, agent or version.
        Conflict: the call goes on, nobody talked in it, or the agent wants nothing analysed.
    """
    call = get_call(tx, call_id, lock=True)
    if call.ended_at_ms is None:
        raise Conflict("the call goes on: ask again when it is over")
    if not call.streams:
        raise Conflict("nobody talked in this call")
    find = get_published(tx, call.agent_id)
    record = find if version is None else get_agent(tx, call.agent_id, version)
    version = record.published_version if version is None else version
    if record.spec.analysis is None:
        raise Conflict(f"agent {call.agent_id} wants nothing analysed: give it an analysis")
    assert version is not None
    enqueue(tx, call_id, call.agent_id, version, tx.now_ms)
    note(tx, actor, "call.analysis_requested", call_id)
    found = get_analysis(tx, call_id)
    assert found is not None
    return found


def is_analysis_due(tx: Tx) -> bool:
    """Whether :func:`claim_analysis` would find something; only reads."""
    return tx.conn.scalar(sa.select(COLUMNS.call_id).where(*_is_due(tx)).limit(1)) is not None


def claim_analysis(tx: Tx) -> Work | None:
    """Take the next that is due; it is due again after :data:`LEASE_MS` if nothing is heard."""
    row = tx.conn.execute(
        sa.select(analyses)
        .where(*_is_due(tx))
        .order_by(COLUMNS.due_at_ms, COLUMNS.call_id)
        .limit(1)
        .with_for_update(skip_locked=True)
    ).one_or_none()
    if row is None:
        return None
    values = {"attempts": row.attempts + 1, "due_at_ms": tx.now_ms + LEASE_MS}
    _set(tx, row.call_id, **values)
    found = get_analysis(tx, row.call_id)
    assert found is not None
    try:
        spec = get_agent(tx, row.agent_id, row.agent_version).spec
    except NotFound:
        spec = None
    return Work(found, get_call(tx, row.call_id), get_streams(tx, row.call_id), spec)


def save_findings(tx: Tx, work: Work, findings: Findings) -> bool:
    """Keep what has been found so far; False: somebody else is at it by now, or it was erased."""
    return _settle(tx, work, result=_json(findings), due_at_ms=tx.now_ms + LEASE_MS)


def finish_analysis(tx: Tx, work: Work, findings: Findings, *, try_again: bool) -> AnalysisState:
    """The attempt is over: done, failed, or (with ``try_again``, while there are tries) waiting."""
    attempts = work.analysis.attempts
    if try_again and attempts < ATTEMPTS_MAX:
        wait_ms = BACKOFF_MS[min(attempts, len(BACKOFF_MS)) - 1]
        _settle(tx, work, result=_json(findings), due_at_ms=tx.now_ms + wait_ms)
        return "waiting"
    state: AnalysisState = "failed" if findings.error or findings.has_failed else "done"
    if _settle(tx, work, result=_json(findings), state=state):
        told = {"state": state, **msgspec.to_builtins(findings)}
        tell(tx, "call.analysed", work.call.id, {**facts(work.call), "analysis": told})
    return state


def _settle(tx: Tx, work: Work, **values: Any) -> bool:
    """Change the row if it is still this attempt's."""
    return _set(
        tx,
        work.call.id,
        COLUMNS.attempts == work.analysis.attempts,
        COLUMNS.requested_at_ms == work.analysis.requested_at_ms,
        COLUMNS.state == "waiting",
        **values,
    )


def _set(tx: Tx, call_id: str, *where: sa.ColumnElement[bool], **values: Any) -> bool:
    changed = tx.conn.execute(
        sa.update(analyses)
        .where(COLUMNS.call_id == call_id, *where)
        .values(updated_at_ms=tx.now_ms, **values)
    )
    return changed.rowcount > 0


def _is_due(tx: Tx) -> tuple[sa.ColumnElement[bool], ...]:
    """It waits, its time has come, and no stream's last record is still to be written."""
    streams = call_streams.c
    unwritten = sa.exists().where(
        streams.call_id == COLUMNS.call_id,
        streams.is_final == 0,
        streams.updated_at_ms > tx.now_ms - CRASHED_MS,
    )
    return COLUMNS.state == "waiting", COLUMNS.due_at_ms <= tx.now_ms, ~unwritten


def _json(findings: Findings) -> str:
    return msgspec.json.encode(findings).decode()


def _analysis(row: sa.Row[Any]) -> StoredAnalysis:
    return StoredAnalysis(
        call_id=row.call_id,
        agent_id=row.agent_id,
        agent_version=row.agent_version,
        state=row.state,
        attempts=row.attempts,
        due_at_ms=row.due_at_ms,
        findings=msgspec.json.decode(row.result, type=Findings),
        requested_at_ms=row.requested_at_ms,
        updated_at_ms=row.updated_at_ms,
    )
