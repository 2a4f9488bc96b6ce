"""Campaigns, and what becomes of them as a whole: plain functions of a transaction.

Whoever changes a campaign or its numbers locks the campaign first, so that two nodes never
wait for each other.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import sqlalchemy as sa

from api.campaigns.rules import is_finished
from api.campaigns.specs import CampaignSpec, TargetState
from api.outgoing.outbox import tell
from api.store import tables
from api.store.database import Actor, Tx
from api.store.errors import Conflict, NotFound, User
from api.store.records import (
    Page,
    Record,
    Resources,
    check_revision,
    hold,
    note,
    page_of,
    set_uses,
)
from api.store.stored import changed_fields, read_stored
from api.store.tables import campaign_attempts, campaign_targets, campaigns

__all__ = [
    "ATTEMPTS",
    "CAMPAIGNS",
    "TARGETS",
    "CampaignRecord",
    "CampaignState",
    "Report",
    "cancel_campaign",
    "create_campaign",
    "delete_campaign",
    "find_campaigns",
    "finish_if_done",
    "get_campaign",
    "go_on",
    "pause_campaign",
    "refuse_if",
    "report_on",
    "resume_campaign",
    "spec_of_call",
    "start_campaign",
    "stop_itself",
    "update_campaign",
]

CampaignState = Literal["draft", "running", "paused", "completed", "cancelled"]
RESOURCES = Resources("campaign", "cmp", campaigns, CampaignSpec)
CAMPAIGNS, TARGETS, ATTEMPTS = campaigns.c, campaign_targets.c, campaign_attempts.c
HOURS = {"windows", "except_dates", "time_zone"}


@dataclass(frozen=True, slots=True)
class CampaignRecord:
    """A campaign as it is kept; ``reason`` says why it paused, if it did so by itself."""

    record: Record[CampaignSpec]
    state: CampaignState
    reason: str
    dialled_at_ms: int
    resumed_at_ms: int
    started_at_ms: int | None
    ended_at_ms: int | None

    @property
    def id(self) -> str:
        return self.record.id

    @property
    def spec(self) -> CampaignSpec:
        return self.record.spec


@dataclass(frozen=True, slots=True)
class Report:
    """Numbers by state and by outcome, attempts by outcome; calls that go on have none."""

    states: dict[str, int]
    outcomes: dict[str, int]
    attempts: dict[str, int]
    open_attempts: int
    next_due_ms: int | None


# --- campaigns --------------------------------------------------------------------------


def create_campaign(tx: Tx, actor: Actor, spec: CampaignSpec) -> CampaignRecord:
    """
    Raises:
        InvalidReference: there is no such agent.
    """
    record = RESOURCES.create(tx, actor, spec)
    _hold_agent(tx, record.id, spec)
    return get_campaign(tx, record.id)


def get_campaign(tx: Tx, id: str, *, lock: bool = False) -> CampaignRecord:
    """
    Raises:
        NotFound: there is none.
    """
    query = sa.select(campaigns).where(CAMPAIGNS.id == id)
    row = tx.conn.execute(query.with_for_update() if lock else query).one_or_none()
    if row is None:
        raise NotFound("campaign", id)
    return _campaign(row)


def spec_of_call(tx: Tx, call_id: str) -> CampaignSpec:
    """How the campaign calls that made this call.

    Raises:
        NotFound: none did, or it was deleted.
    """
    made = sa.select(CAMPAIGNS.spec).join(campaign_attempts, ATTEMPTS.campaign_id == CAMPAIGNS.id)
    spec = tx.conn.scalar(made.where(ATTEMPTS.call_id == call_id))
    if spec is None:
        raise NotFound("campaign of call", call_id)
    return read_stored(spec, CampaignSpec, call_id)


def find_campaigns(
    tx: Tx, limit: int, offset: int, name: str | None, state: CampaignState | None
) -> Page[CampaignRecord]:
    """A page of campaigns, the newest first."""
    query = sa.select(campaigns).order_by(CAMPAIGNS.created_at_ms.desc(), CAMPAIGNS.id)
    if name is not None:
        query = query.where(CAMPAIGNS.name.icontains(name, autoescape=True))
    if state is not None:
        query = query.where(CAMPAIGNS.state == state)
    return page_of(tx, query, limit, offset, _campaign)


def update_campaign(
    tx: Tx,
    actor: Actor,
    id: str,
    revision: int | None,
    change: Callable[[CampaignSpec], CampaignSpec],
) -> CampaignRecord:
    """What is changed holds for every call that begins after it.

    Raises:
        NotFound, RevisionChanged, InvalidReference; what ``change`` raises.
        Conflict: the campaign is over.
    """
    old = get_campaign(tx, id, lock=True)
    refuse_if(old, "cancelled")
    record = RESOURCES.update(tx, actor, id, revision, change)
    if old.state != "completed":
        _hold_agent(tx, id, record.spec)
    if HOURS & set(changed_fields(old.spec, record.spec)):
        _look_again(tx, id)
    return get_campaign(tx, id)


def delete_campaign(tx: Tx, actor: Actor, id: str, revision: int | None = None) -> None:
    """Delete a campaign, its numbers and its attempts; the calls stay.

    Raises:
        NotFound, RevisionChanged.
        Conflict: it still calls.
    """
    campaign = get_campaign(tx, id, lock=True)
    check_revision(campaign.record.revision, revision)
    refuse_if(campaign, "running")
    if _open_attempts(tx, id):
        raise Conflict("calls of this campaign still go on: wait, or cancel it with hang_up=true")
    RESOURCES.delete(tx, actor, id)


# --- what it does -----------------------------------------------------------------------


def start_campaign(tx: Tx, actor: Actor, id: str) -> CampaignRecord:
    """
    Raises:
        NotFound.
        Conflict: it has begun before, or there is nobody to call.
    """
    campaign = get_campaign(tx, id, lock=True)
    refuse_if(campaign, "running", "paused", "completed", "cancelled")
    if not _has(tx, id, "waiting"):
        raise Conflict("there is nobody to call: add numbers first")
    return _run(tx, actor, id, "started", started_at_ms=tx.now_ms)


def pause_campaign(tx: Tx, actor: Actor, id: str, *, hangs_up: bool) -> CampaignRecord:
    """No call begins once this is written; those that go on end by themselves, or are ended.

    Raises:
        NotFound.
        Conflict: it does not run.
    """
    campaign = get_campaign(tx, id, lock=True)
    refuse_if(campaign, "draft", "completed", "cancelled")
    if hangs_up:
        _hang_up(tx, id)
    if campaign.state == "paused":
        return campaign
    return _turn(tx, actor, id, "paused", state="paused", reason="")


def resume_campaign(tx: Tx, actor: Actor, id: str) -> CampaignRecord:
    """
    Raises:
        NotFound.
        Conflict: it is not paused.
    """
    campaign = get_campaign(tx, id, lock=True)
    refuse_if(campaign, "draft", "completed", "cancelled")
    if campaign.state == "running":
        return campaign
    _run(tx, actor, id, "resumed")
    finish_if_done(tx, id)
    return get_campaign(tx, id)


def cancel_campaign(tx: Tx, actor: Actor, id: str, *, hangs_up: bool) -> CampaignRecord:
    """End it for good: whoever has not been called will not be.

    Raises:
        NotFound.
        Conflict: it is completed.
    """
    campaign = get_campaign(tx, id, lock=True)
    refuse_if(campaign, "completed")
    if hangs_up:
        _hang_up(tx, id)
    if campaign.state == "cancelled":
        return campaign
    tx.conn.execute(
        sa.update(campaign_targets)
        .where(TARGETS.campaign_id == id, TARGETS.state == "waiting")
        .values(
            state="done",
            outcome=sa.func.coalesce(TARGETS.outcome, "cancelled"),
            updated_at_ms=tx.now_ms,
        )
    )
    _release_agent(tx, id)
    ended = _turn(tx, actor, id, "cancelled", state="cancelled", ended_at_ms=tx.now_ms)
    _tell_finished(tx, ended)
    return ended


def stop_itself(tx: Tx, id: str, reason: str) -> None:
    """Pause a campaign that goes wrong, until somebody has seen why."""
    campaign = get_campaign(tx, id, lock=True)
    if campaign.state == "running":
        _turn(tx, Actor("campaign"), id, "paused", state="paused", reason=reason)


def finish_if_done(tx: Tx, id: str) -> None:
    """Complete a campaign that runs and has nothing left to do. It must be locked."""
    if get_campaign(tx, id).state != "running":
        return
    if is_finished(has_waiting=_has(tx, id, "waiting"), has_dialling=_has(tx, id, "dialling")):
        _release_agent(tx, id)
        values = {"state": "completed", "ended_at_ms": tx.now_ms}
        _tell_finished(tx, _turn(tx, Actor("campaign"), id, "completed", **values))


def go_on(tx: Tx, actor: Actor, campaign: CampaignRecord) -> None:
    """A completed campaign has numbers to call again.

    Raises:
        InvalidReference: its agent has gone.
    """
    _hold_agent(tx, campaign.id, campaign.spec)
    _run(tx, actor, campaign.id, "resumed")


def _has(tx: Tx, id: str, state: TargetState) -> bool:
    query = sa.select(TARGETS.id).where(TARGETS.campaign_id == id, TARGETS.state == state)
    return tx.conn.scalar(query.limit(1)) is not None


def _tell_finished(tx: Tx, campaign: CampaignRecord) -> None:
    """Tell webhooks that a campaign is over; with the outcomes of all its numbers."""
    outcomes = _counted(tx, TARGETS.outcome, TARGETS.campaign_id == campaign.id)
    data = {
        "campaign_id": campaign.id,
        "name": campaign.spec.name,
        "state": campaign.state,
        "outcomes": outcomes,
    }
    tell(tx, "campaign.finished", campaign.id, data)


def _run(tx: Tx, actor: Actor, id: str, action: str, **values: Any) -> CampaignRecord:
    """Let it call, with no failure held against it."""
    values |= {"reason": "", "ended_at_ms": None, "resumed_at_ms": tx.now_ms}
    return _turn(tx, actor, id, action, state="running", **values)


def _turn(tx: Tx, actor: Actor, id: str, action: str, **values: Any) -> CampaignRecord:
    tx.conn.execute(
        sa.update(campaigns).where(CAMPAIGNS.id == id).values(**values, updated_at_ms=tx.now_ms)
    )
    note(tx, actor, f"campaign.{action}", id)
    return get_campaign(tx, id)


def refuse_if(campaign: CampaignRecord, *states: CampaignState) -> None:
    """
    Raises:
        Conflict: the campaign is in one of ``states``; the message says what would help.
    """
    hints = {
        "draft": "it has not been started: start it",
        "running": "it is running: pause it first",
        "paused": "it is paused: resume it",
        "completed": "it is completed: add numbers, or retry some",
        "cancelled": "it was cancelled: create another",
    }
    if campaign.state in states:
        raise Conflict(hints[campaign.state])


def _hold_agent(tx: Tx, id: str, spec: CampaignSpec) -> None:
    hold(tx, tables.agents.c.id, {spec.agent_id: "agent_id"})
    set_uses(tx, User(kind="campaign", id=id, name=spec.name), [("agent", spec.agent_id)])


def _release_agent(tx: Tx, id: str) -> None:
    set_uses(tx, User(kind="campaign", id=id, name=""), ())


def _look_again(tx: Tx, id: str) -> None:
    """The hours may be others now: forget when they were to come next."""
    tx.conn.execute(
        sa.update(campaign_targets)
        .where(
            TARGETS.campaign_id == id,
            TARGETS.state == "waiting",
            TARGETS.due_at_ms != TARGETS.not_before_ms,
        )
        .values(due_at_ms=TARGETS.not_before_ms)
    )


def _hang_up(tx: Tx, id: str) -> None:
    tx.conn.execute(
        sa.update(campaign_attempts)
        .where(ATTEMPTS.campaign_id == id, ATTEMPTS.is_open == 1)
        .values(hang_up_at_ms=tx.now_ms)
    )


def _open_attempts(tx: Tx, id: str) -> int:
    query = sa.select(sa.func.count()).select_from(campaign_attempts)
    where = ATTEMPTS.campaign_id == id, ATTEMPTS.is_open == 1
    return tx.conn.scalar(query.where(*where)) or 0


# --- how far it got ---------------------------------------------------------------------


def report_on(tx: Tx, id: str) -> Report:
    """
    Raises:
        NotFound: there is no such campaign.
    """
    get_campaign(tx, id)
    is_ours, is_waiting = TARGETS.campaign_id == id, TARGETS.state == "waiting"
    attempts_of = ATTEMPTS.campaign_id == id
    return Report(
        states=_counted(tx, TARGETS.state, is_ours),
        outcomes=_counted(tx, TARGETS.outcome, is_ours, TARGETS.state == "done"),
        attempts=_counted(tx, ATTEMPTS.outcome, attempts_of, ATTEMPTS.is_open == 0),
        open_attempts=_open_attempts(tx, id),
        next_due_ms=tx.conn.scalar(
            sa.select(sa.func.min(TARGETS.due_at_ms)).where(is_ours, is_waiting)
        ),
    )


def _counted(tx: Tx, column: sa.Column[Any], *where: sa.ColumnElement[bool]) -> dict[str, int]:
    rows = tx.conn.execute(sa.select(column, sa.func.count()).where(*where).group_by(column))
    return {value: count for value, count in rows if value is not None}


def _campaign(row: sa.Row[Any]) -> CampaignRecord:
    spec = read_stored(row.spec, CampaignSpec, row.id)
    return CampaignRecord(
        record=Record(row.id, row.revision, row.created_at_ms, row.updated_at_ms, spec),
        state=row.state,
        reason=row.reason,
        dialled_at_ms=row.dialled_at_ms,
        resumed_at_ms=row.resumed_at_ms,
        started_at_ms=row.started_at_ms,
        ended_at_ms=row.ended_at_ms,
    )
