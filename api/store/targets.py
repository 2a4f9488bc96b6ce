"""The numbers of campaigns: added, listed, called again. Plain functions of a transaction."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec
import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

from api.campaigns.specs import Outcome, TargetSpec, TargetState
from api.store.campaigns import ATTEMPTS, TARGETS, get_campaign, go_on, refuse_if
from api.store.database import Actor, Tx
from api.store.errors import NotFound
from api.store.records import Page, new_id, note, page_of
from api.store.tables import campaign_attempts, campaign_targets, do_not_call

__all__ = [
    "CHUNK",
    "Added",
    "AttemptRecord",
    "TargetRecord",
    "add_targets",
    "find_targets",
    "get_target",
    "retry_targets",
]

CHUNK = 500  # numbers in one statement: far below what either database takes


@dataclass(frozen=True, slots=True)
class TargetRecord:
    """A number of a campaign, and how far it got."""

    id: str
    campaign_id: str
    number: str | None  # None: forgotten
    time_zone: str | None
    variables: dict[str, str]
    state: TargetState
    outcome: Outcome | None
    attempts: int
    due_at_ms: int
    updated_at_ms: int


@dataclass(frozen=True, slots=True)
class AttemptRecord:
    """One time that a number was called, or may have been."""

    call_id: str
    ordinal: int
    outcome: str | None
    created_at_ms: int
    ended_at_ms: int | None


@dataclass(slots=True)
class Added:
    """What became of numbers that were added; ``duplicates`` by their places, from 0."""

    added: int = 0
    duplicates: list[int] = field(default_factory=list)
    do_not_call: int = 0


def add_targets(tx: Tx, actor: Actor, id: str, targets: Sequence[TargetSpec]) -> Added:
    """Add numbers, in their order; one that is in the campaign already is passed over.

    A completed campaign goes on with them.

    Raises:
        NotFound.
        Conflict: the campaign was cancelled.
        InvalidReference: the campaign is completed and its agent has gone.
    """
    campaign = get_campaign(tx, id, lock=True)
    refuse_if(campaign, "cancelled")
    result = Added()
    numbers = [target.number.removeprefix("+") for target in targets]
    first_places: dict[str, int] = {}
    for place, number in enumerate(numbers):
        if first_places.setdefault(number, place) != place:
            result.duplicates.append(place)
    newest = sa.select(sa.func.max(TARGETS.position)).where(TARGETS.campaign_id == id)
    base = tx.conn.scalar(newest)
    after = 0 if base is None else base + 1
    places = list(first_places.values())
    for first in range(0, len(places), CHUNK):
        chunk = places[first : first + CHUNK]
        known = do_not_call.c.number.in_([numbers[place] for place in chunk])
        blocked = set(tx.conn.scalars(sa.select(do_not_call.c.number).where(known)))
        rows = {
            numbers[place]: _row(tx, id, after + place, targets[place], numbers[place] in blocked)
            for place in chunk
        }
        added = _insert_new(tx, list(rows.values()))
        result.added += len(added)
        result.do_not_call += len(added & blocked)
        result.duplicates += [place for place in chunk if numbers[place] not in added]
    result.duplicates.sort()
    note(tx, actor, "campaign.targets_added", id)
    if campaign.state == "completed" and result.added > result.do_not_call:
        go_on(tx, actor, campaign)
    return result


def _row(
    tx: Tx, campaign_id: str, position: int, target: TargetSpec, is_blocked: bool
) -> dict[str, Any]:
    return {
        "id": new_id("tgt"),
        "campaign_id": campaign_id,
        "position": position,
        "number": target.number.removeprefix("+"),
        "time_zone": target.time_zone,
        "variables": msgspec.json.encode(target.variables).decode(),
        "state": "done" if is_blocked else "waiting",
        "outcome": "do_not_call" if is_blocked else None,
        "attempts": 0,
        "not_before_ms": tx.now_ms,
        "due_at_ms": tx.now_ms,
        "updated_at_ms": tx.now_ms,
    }


def _insert_new(tx: Tx, rows: list[dict[str, Any]]) -> set[str]:
    """Insert those whose numbers the campaign has not; return their numbers."""
    kind = postgresql if tx.is_postgres else sqlite
    insert = kind.insert(campaign_targets).on_conflict_do_nothing()
    # with RETURNING they go in one statement, else in one for each row
    return set(tx.conn.scalars(insert.returning(TARGETS.number), rows))


def find_targets(
    tx: Tx, campaign_id: str, limit: int, offset: int, filters: Mapping[str, str | None]
) -> Page[TargetRecord]:
    """A page of a campaign's numbers, in their order; ``filters`` by column.

    Raises:
        NotFound: there is no such campaign.
    """
    get_campaign(tx, campaign_id)
    query = sa.select(campaign_targets).where(TARGETS.campaign_id == campaign_id)
    for name, value in filters.items():
        if value is not None:
            query = query.where(TARGETS[name] == value)
    return page_of(tx, query.order_by(TARGETS.position), limit, offset, _target)


def get_target(tx: Tx, campaign_id: str, id: str) -> tuple[TargetRecord, tuple[AttemptRecord, ...]]:
    """A number and all its attempts, in order.

    Raises:
        NotFound: there is none.
    """
    where = TARGETS.campaign_id == campaign_id, TARGETS.id == id
    row = tx.conn.execute(sa.select(campaign_targets).where(*where)).one_or_none()
    if row is None:
        raise NotFound("target", id)
    attempts = tx.conn.execute(
        sa.select(campaign_attempts).where(ATTEMPTS.target_id == id).order_by(ATTEMPTS.ordinal)
    )
    return _target(row), tuple(_attempt(each) for each in attempts)


def retry_targets(
    tx: Tx, actor: Actor, id: str, *, outcome: Outcome | None, target_ids: Sequence[str]
) -> int:
    """Call numbers again that are done, at once, whatever the rules say; return how many.

    Those are chosen by ``outcome``, or else by their ids. Whoever is not to be called stays so.

    Raises:
        NotFound.
        Conflict: the campaign was cancelled.
        InvalidReference: the campaign is completed and its agent has gone.
    """
    campaign = get_campaign(tx, id, lock=True)
    refuse_if(campaign, "cancelled")
    chosen = TARGETS.id.in_(target_ids) if outcome is None else TARGETS.outcome == outcome
    changed = tx.conn.execute(
        sa.update(campaign_targets)
        .where(
            TARGETS.campaign_id == id,
            TARGETS.state == "done",
            chosen,
            TARGETS.number.not_in(sa.select(do_not_call.c.number)),
            TARGETS.number != TARGETS.id,  # forgotten
        )
        .values(
            state="waiting",
            not_before_ms=tx.now_ms,
            due_at_ms=tx.now_ms,
            updated_at_ms=tx.now_ms,
        )
    )
    note(tx, actor, "campaign.targets_retried", id)
    if campaign.state == "completed" and changed.rowcount:
        go_on(tx, actor, campaign)
    return changed.rowcount


def _target(row: sa.Row[Any]) -> TargetRecord:
    return TargetRecord(
        id=row.id,
        campaign_id=row.campaign_id,
        number=None if row.number == row.id else row.number,
        time_zone=row.time_zone,
        variables=msgspec.json.decode(row.variables, type=dict[str, str]),
        state=row.state,
        outcome=row.outcome,
        attempts=row.attempts,
        due_at_ms=row.due_at_ms,
        updated_at_ms=row.updated_at_ms,
    )


def _attempt(row: sa.Row[Any]) -> AttemptRecord:
    return AttemptRecord(
        call_id=row.call_id,
        ordinal=row.ordinal,
        outcome=row.outcome,
        created_at_ms=row.created_at_ms,
        ended_at_ms=row.ended_at_ms,
    )
