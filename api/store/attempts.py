"""The attempts of campaigns: each is claimed here before the carrier is asked, and closed once.

An attempt is open from its claim until it is known what became of it, or that nobody will
know. Nothing but its claim begins one, and its row outlives whoever claimed it: that is what
keeps a number from being rung twice.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

import msgspec
import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError

from api.calls.records import StoredCall, begin_outbound, stored_call
from api.calls.views import plan_of
from api.campaigns.rules import (
    FAILURES_MAX,
    breaks_off,
    is_open,
    is_zone,
    next_open_ms,
    outcome_of,
    retry_after_s,
)
from api.campaigns.specs import CampaignSpec, Outcome
from api.store.campaigns import (
    ATTEMPTS,
    CAMPAIGNS,
    TARGETS,
    CampaignRecord,
    finish_if_done,
    get_campaign,
    stop_itself,
)
from api.store.database import Actor, Tx
from api.store.do_not_call import has_opted_out, is_blocked
from api.store.errors import Unreadable
from api.store.stored import read_stored
from api.store.tables import calls, campaign_attempts, campaign_targets, campaigns

__all__ = [
    "LEASE_MS",
    "Claimed",
    "Outlook",
    "claim_call",
    "close_unknown",
    "is_campaign_call",
    "look",
    "refuse_attempt",
    "settle",
    "stop_campaign_of",
    "take_lease",
    "undo_attempt",
]

LEASE_MS = 20_000  # the claimant has this to itself: a request to the carrier has 10 s
LOOKS_MAX = 50  # numbers looked at in one claim; the next claim goes on
REQUEUE_MAX = 2000  # numbers that are put off at once, as their hours are over: some 50 ms
REQUEUES_MAX = 3
IN_CALL_MS = 60_000  # somebody who is in a call with us is left alone for so long
CLOSED_MS = 86_400_000  # hours that never come: the campaign may be changed meanwhile
AGAIN_MS = 5_000  # a call that was to be ended and has not is ended again
LATE_MS = 86_400_000  # how long an unknown attempt may yet become known
WORK_MAX = 50  # of each kind in one look
ACCOUNT_CODES = {1010: "the account has no credit left"}  # of Plivo's hangup codes
CALLS = calls.c


@dataclass(frozen=True, slots=True)
class Claimed:
    """A number that is to be called now, by whoever holds this, and by nobody else."""

    call: StoredCall
    campaign_id: str
    spec: CampaignSpec


@dataclass(frozen=True, slots=True)
class Outlook:
    """What there is to do. ``due_ms``: when the next call may begin; None: nothing waits."""

    ended: tuple[str, ...]  # calls that are over, and their attempts still open
    silent: tuple[str, ...]  # calls of which nobody has heard, and their leases are over
    to_hang_up: tuple[str, ...]
    ringing: int  # of this node
    is_running: bool
    due_ms: int | None


def look(tx: Tx, node: str) -> Outlook:
    """What there is to do, read only."""
    opened = sa.select(ATTEMPTS.call_id).where(ATTEMPTS.is_open == 1)
    with_calls = opened.outerjoin(calls, CALLS.id == ATTEMPTS.call_id)
    over = sa.or_(CALLS.ended_at_ms.is_not(None), CALLS.id.is_(None))
    late = (
        sa.select(ATTEMPTS.call_id)
        .join(calls, CALLS.id == ATTEMPTS.call_id)
        .where(
            ATTEMPTS.outcome == sa.literal_column("'unknown'"),  # so that its own index serves
            ATTEMPTS.ended_at_ms > tx.now_ms - LATE_MS,
            CALLS.ended_at_ms.is_not(None),
            CALLS.hangup.not_like('%"source":""%'),
        )
    )
    unheard = CALLS.ended_at_ms.is_(None), CALLS.answered_at_ms.is_(None)
    rows = tx.conn.execute(
        sa.select(
            CAMPAIGNS.id,
            CAMPAIGNS.spec,
            CAMPAIGNS.dialled_at_ms,
            _open_of(CAMPAIGNS.id).label("dialling"),
            sa.select(sa.func.min(TARGETS.due_at_ms))
            .where(TARGETS.campaign_id == CAMPAIGNS.id, TARGETS.state == "waiting")
            .scalar_subquery()
            .label("due_ms"),
        ).where(CAMPAIGNS.state == "running")
    ).all()
    dues = []
    for row in rows:
        try:
            spec = read_stored(row.spec, CampaignSpec, row.id)
        except Unreadable:
            continue  # a newer node calls for it
        if row.due_ms is not None and row.dialling < spec.concurrency:
            dues.append(max(row.due_ms, _paced_until(spec, row.dialled_at_ms)))
    return Outlook(
        ended=_all(tx, with_calls.where(over)) + _all(tx, late),
        silent=_all(tx, with_calls.where(ATTEMPTS.leased_until_ms < tx.now_ms, *unheard)),
        to_hang_up=_all(tx, opened.where(ATTEMPTS.hang_up_at_ms <= tx.now_ms)),
        ringing=tx.conn.scalar(
            sa.select(sa.func.count())
            .select_from(campaign_attempts.join(calls, CALLS.id == ATTEMPTS.call_id))
            .where(ATTEMPTS.is_open == 1, ATTEMPTS.node == node, *unheard)
        )
        or 0,
        is_running=bool(rows),
        due_ms=min(dues, default=None),
    )


def _all(tx: Tx, query: sa.Select[Any]) -> tuple[str, ...]:
    return tuple(tx.conn.scalars(query.limit(WORK_MAX)))


def _open_of(campaign_id: Any) -> sa.ScalarSelect[int]:
    return (
        sa.select(sa.func.count())
        .select_from(campaign_attempts)
        .where(ATTEMPTS.campaign_id == campaign_id, ATTEMPTS.is_open == 1)
        .scalar_subquery()
    )


def _paced_until(spec: CampaignSpec, dialled_at_ms: int) -> int:
    return dialled_at_ms + int(1000 / spec.calls_per_s)


# --- the claim --------------------------------------------------------------------------


def claim_call(tx: Tx, node: str, account_calls_per_s: float) -> Claimed | None:
    """Take one number that is due, of the campaign that has waited longest; None: none is.

    Written with it: a call in state ``queued`` and an open attempt with a lease. Whoever gets
    the answer asks the carrier, once; from here on the call may have been made.
    """
    if _is_at_pace(tx, account_calls_per_s):
        return None
    running = sa.select(CAMPAIGNS.id).where(CAMPAIGNS.state == "running")
    order = CAMPAIGNS.dialled_at_ms, CAMPAIGNS.id
    for id in tx.conn.scalars(running.order_by(*order)).all():
        mine = sa.select(CAMPAIGNS.id).where(CAMPAIGNS.id == id, CAMPAIGNS.state == "running")
        if tx.conn.scalar(mine.with_for_update(skip_locked=True)) is None:
            continue  # another node is at it, or it was paused just now
        try:
            campaign = get_campaign(tx, id)
        except Unreadable:
            continue  # a newer node calls for it
        claimed = _claim_of(tx, campaign, node)
        if claimed is not None:
            return claimed
    return None


def _is_at_pace(tx: Tx, calls_per_s: float) -> bool:
    """Whether the account begins as many calls as it may, all nodes and all kinds of calls."""
    window_ms = max(1000.0, 1000 / calls_per_s)
    began = sa.select(sa.func.count()).select_from(calls)
    found = tx.conn.scalar(
        began.where(
            CALLS.direction == "outbound",
            # a tenth less: our own moments are even, their transactions come as they can
            CALLS.created_at_ms > tx.now_ms - int(window_ms * 0.9),
        )
    )
    return (found or 0) >= max(1, int(calls_per_s * window_ms / 1000))


def _claim_of(tx: Tx, campaign: CampaignRecord, node: str) -> Claimed | None:
    spec, id = campaign.spec, campaign.id
    if _paced_until(spec, campaign.dialled_at_ms) > tx.now_ms:
        return None
    if (tx.conn.scalar(sa.select(_open_of(id))) or 0) >= spec.concurrency:
        return None
    waits = TARGETS.campaign_id == id, TARGETS.state == "waiting", TARGETS.due_at_ms <= tx.now_ms
    requeues = 0
    for _ in range(LOOKS_MAX):
        row = tx.conn.execute(
            sa.select(campaign_targets)
            .where(*waits)
            .order_by(TARGETS.due_at_ms, TARGETS.position)
            .limit(1)
            .with_for_update(skip_locked=True)
        ).one_or_none()
        if row is None:
            break
        zone = row.time_zone or spec.time_zone
        if not is_zone(zone):
            stop_itself(tx, id, f"a node knows no time zone {zone}: bring its tzdata up to date")
            return None
        if not is_open(spec, zone, tx.now_ms):
            opens_ms = next_open_ms(spec, zone, tx.now_ms) or tx.now_ms + CLOSED_MS
            same = TARGETS.time_zone == row.time_zone
            if row.time_zone is None:
                same = TARGETS.time_zone.is_(None)
            mine = sa.select(TARGETS.id).where(*waits, same).limit(REQUEUE_MAX)
            _put(tx, TARGETS.id.in_(mine.with_for_update(skip_locked=True)), due_at_ms=opens_ms)
            requeues += 1
            if requeues == REQUEUES_MAX:
                return None  # the next claim goes on: other transactions wait for this one
        elif is_blocked(tx, row.number):
            _put(tx, TARGETS.id == row.id, state="done", outcome="do_not_call")
        elif (call := _begin(tx, campaign, row, node)) is not None:
            tx.conn.execute(
                sa.update(campaigns).where(CAMPAIGNS.id == id).values(dialled_at_ms=tx.now_ms)
            )
            return Claimed(call, id, spec)
        else:
            _put(tx, TARGETS.id == row.id, due_at_ms=tx.now_ms + IN_CALL_MS)
    finish_if_done(tx, id)
    return None


def _begin(tx: Tx, campaign: CampaignRecord, row: sa.Row[Any], node: str) -> StoredCall | None:
    """The call of a new attempt; None: this number is in a call with us already."""
    spec = campaign.spec
    numbers = (CALLS.to_number == row.number, CALLS.from_number == row.number)
    given_up = sa.exists().where(ATTEMPTS.call_id == CALLS.id, ATTEMPTS.is_open == 0)
    talks = sa.select(CALLS.id).where(
        CALLS.ended_at_ms.is_(None),
        sa.or_(*numbers),
        sa.or_(CALLS.state != "queued", ~given_up),
    )
    if tx.conn.scalar(talks.limit(1)) is not None:
        return None
    variables = {**spec.variables, **msgspec.json.decode(row.variables, type=dict[str, str])}
    plan = plan_of(spec, variables)
    from_number = spec.from_.removeprefix("+")
    newest = sa.select(sa.func.max(ATTEMPTS.ordinal)).where(ATTEMPTS.target_id == row.id)
    ordinal = (tx.conn.scalar(newest) or 0) + 1
    try:
        with tx.conn.begin_nested():
            actor = Actor(campaign.id)
            call = begin_outbound(tx, actor, spec.agent_id, from_number, row.number, plan)
            tx.conn.execute(
                sa.insert(campaign_attempts).values(
                    call_id=call.id,
                    campaign_id=campaign.id,
                    target_id=row.id,
                    ordinal=ordinal,
                    number=row.number,
                    node=node,
                    is_open=1,
                    leased_until_ms=tx.now_ms + LEASE_MS,
                    created_at_ms=tx.now_ms,
                )
            )
    except IntegrityError:  # another campaign began to call this number in the same moment
        return None
    _put(tx, TARGETS.id == row.id, state="dialling")
    return call


def _put(tx: Tx, where: sa.ColumnElement[bool], **values: Any) -> None:
    changed = sa.update(campaign_targets).where(where)
    tx.conn.execute(changed.values(**values, updated_at_ms=tx.now_ms))


# --- what becomes of it -----------------------------------------------------------------


def settle(tx: Tx, call_id: str) -> Outcome | None:
    """Close the attempt whose call is over; None: it is closed, or the call goes on.

    One that was given up as unknown gets its outcome late, if the carrier tells it after all.
    """
    attempt = _attempt(tx, call_id)
    if attempt is None or not (attempt.is_open or attempt.outcome == "unknown"):
        return None
    call = stored_call(tx, id=call_id)
    if call is None:
        return _close(tx, attempt, "unknown") if attempt.is_open else None
    if call.ended_at_ms is None:
        return None
    outcome = outcome_of(call, has_opted_out=has_opted_out(tx, call_id))
    code = call.ended.code if call.ended is not None else None
    if not _was_told(call):
        outcome = "unknown"
        if not attempt.is_open:
            return None
    _close(tx, attempt, outcome)
    if code in ACCOUNT_CODES:
        stop_itself(tx, attempt.campaign_id, ACCOUNT_CODES[code])
    return outcome


def _was_told(call: StoredCall) -> bool:
    """Whether the carrier has said anything of a call that is over, or taken it at all."""
    ended = call.ended
    return call.carrier_id is not None or (
        ended is not None and (bool(ended.source) or ended.code is not None)
    )


def refuse_attempt(tx: Tx, call_id: str) -> None:
    """The carrier does not take calls to this number."""
    attempt = _attempt(tx, call_id)
    if attempt is not None and attempt.is_open:
        _close(tx, attempt, "bad_number")


def undo_attempt(tx: Tx, call_id: str, wait_s: float, stop_reason: str = "") -> None:
    """The call is known not to have been made: its number waits again, as if it never was.

    ``stop_reason``: why the campaign pauses, if it must.
    """
    attempt = _attempt(tx, call_id)
    if attempt is None or not attempt.is_open:
        return
    _mark(tx, call_id, is_open=0, outcome="not_made", ended_at_ms=tx.now_ms)
    campaign = get_campaign(tx, attempt.campaign_id)
    again_ms = tx.now_ms + int(wait_s * 1000)
    _put(
        tx,
        TARGETS.id == attempt.target_id,
        **_waiting_or_done(tx, campaign, attempt.number, again_ms, "cancelled"),
    )
    if stop_reason:
        stop_itself(tx, attempt.campaign_id, stop_reason)
    finish_if_done(tx, attempt.campaign_id)


def close_unknown(tx: Tx, call_id: str) -> bool:
    """Nobody will tell what became of the attempt: it counts as made, and is not repeated."""
    attempt = _attempt(tx, call_id)
    if attempt is None or not attempt.is_open:
        return False
    _close(tx, attempt, "unknown")
    return True


def take_lease(tx: Tx, call_id: str, *, for_hang_up: bool = False) -> StoredCall | None:
    """The call of an open attempt, for this node alone to ask the carrier about for a while."""
    column = ATTEMPTS.hang_up_at_ms if for_hang_up else ATTEMPTS.leased_until_ms
    wait_ms = AGAIN_MS if for_hang_up else LEASE_MS
    changed = tx.conn.execute(
        sa.update(campaign_attempts)
        .where(ATTEMPTS.call_id == call_id, ATTEMPTS.is_open == 1, column <= tx.now_ms)
        .values({column: tx.now_ms + wait_ms})
    )
    return stored_call(tx, id=call_id) if changed.rowcount else None


def stop_campaign_of(tx: Tx, call_id: str, reason: str) -> None:
    """Pause the campaign that made this call, if one did."""
    campaign_id = tx.conn.scalar(sa.select(ATTEMPTS.campaign_id).where(ATTEMPTS.call_id == call_id))
    if campaign_id is not None:
        stop_itself(tx, campaign_id, reason)


def is_campaign_call(tx: Tx, call_id: str) -> bool:
    """Whether a campaign made this call."""
    query = sa.select(ATTEMPTS.call_id).where(ATTEMPTS.call_id == call_id)
    return tx.conn.scalar(query) is not None


def _attempt(tx: Tx, call_id: str) -> sa.Row[Any] | None:
    """The attempt of a call, locked, and its campaign before it."""
    query = sa.select(campaign_attempts).where(ATTEMPTS.call_id == call_id)
    campaign_id = tx.conn.scalar(query.with_only_columns(ATTEMPTS.campaign_id))
    if campaign_id is None:
        return None
    get_campaign(tx, campaign_id, lock=True)
    return tx.conn.execute(query.with_for_update()).one_or_none()


def _close(tx: Tx, attempt: sa.Row[Any], outcome: Outcome) -> Outcome:
    """Write what became of an attempt, and with it what becomes of its number."""
    _mark(tx, attempt.call_id, is_open=0, outcome=outcome, ended_at_ms=tx.now_ms)
    campaign = get_campaign(tx, attempt.campaign_id)
    outcomes = _outcomes(tx, ATTEMPTS.target_id == attempt.target_id)
    before = sa.select(TARGETS.attempts).where(TARGETS.id == attempt.target_id)
    made = (tx.conn.scalar(before) or 0) + attempt.is_open  # some may have been erased since
    after_s = retry_after_s(campaign.spec, outcomes, made)
    values: dict[str, Any] = {"state": "done", "outcome": outcome, "attempts": made}
    if after_s is not None:
        again_ms = tx.now_ms + after_s * 1000
        values |= _waiting_or_done(tx, campaign, attempt.number, again_ms, outcome)
    _put(tx, TARGETS.id == attempt.target_id, **values)
    since = ATTEMPTS.created_at_ms >= campaign.resumed_at_ms  # what was seen to is forgiven
    newest = _outcomes(tx, sa.and_(ATTEMPTS.campaign_id == campaign.id, since), newest=FAILURES_MAX)
    if breaks_off(newest):
        stop_itself(tx, campaign.id, f"the last {FAILURES_MAX} calls all failed")
    finish_if_done(tx, campaign.id)
    return outcome


def _waiting_or_done(
    tx: Tx, campaign: CampaignRecord, number: str, again_ms: int, outcome: str
) -> dict[str, Any]:
    """What a number is to be that would be called again at ``again_ms``."""
    if is_blocked(tx, number):
        return {"state": "done", "outcome": "do_not_call"}
    if campaign.state == "cancelled":
        return {"state": "done", "outcome": outcome}
    return {"state": "waiting", "not_before_ms": again_ms, "due_at_ms": again_ms}


def _outcomes(
    tx: Tx, where: sa.ColumnElement[bool], *, newest: int | None = None
) -> Sequence[Outcome]:
    """The outcomes of attempts that were made: in their order, or the ``newest`` backwards."""
    query = sa.select(ATTEMPTS.outcome).where(
        where, ATTEMPTS.is_open == 0, ATTEMPTS.outcome != "not_made"
    )
    if newest is None:
        query = query.order_by(ATTEMPTS.ordinal)
    else:
        query = query.order_by(ATTEMPTS.ended_at_ms.desc(), ATTEMPTS.call_id).limit(newest)
    return [cast(Outcome, each) for each in tx.conn.scalars(query)]


def _mark(tx: Tx, call_id: str, **values: Any) -> None:
    tx.conn.execute(
        sa.update(campaign_attempts).where(ATTEMPTS.call_id == call_id).values(**values)
    )
