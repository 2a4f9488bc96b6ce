"""Webhooks and what they are to be told: an outbox.

:func:`tell` writes a delivery in the transaction of what it tells of, so that both happen or
neither does; whatever node has room claims it, and if that dies another does.
"""

from __future__ import annotations

import base64
import secrets
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import msgspec
import sqlalchemy as sa

from api.outgoing.specs import Event, WebhookSpec
from api.store.database import Actor, Tx
from api.store.errors import Conflict, NotFound, VaultLocked
from api.store.records import Page, Record, Resources, new_id, note, page_of
from api.store.tables import deliveries, webhooks
from api.web.times import shown_time

__all__ = [
    "CLAIM_MS",
    "WEBHOOKS",
    "Delivery",
    "DeliveryState",
    "Work",
    "claim_deliveries",
    "create_webhook",
    "find_deliveries",
    "finish_delivery",
    "is_delivery_due",
    "renew_secret",
    "retry_delivery",
    "tell",
    "tell_one",
    "tidy_deliveries",
    "update_webhook",
]

DeliveryState = Literal["waiting", "delivered", "dead"]

WEBHOOKS = Resources("webhook", "whk", webhooks, WebhookSpec)
COLUMNS = deliveries.c
CLAIM_MS = 20_000  # an attempt takes half of it at most: a node silent for longer has died
SECRET_BYTES = 24  # what Standard Webhooks advises
KEEP_DELIVERED_MS = 3 * 86_400_000
KEEP_DEAD_MS = 30 * 86_400_000
WAITING_MAX = 50_000  # for one webhook: past it the oldest are given up


@dataclass(frozen=True, slots=True)
class Delivery:
    """One event on its way to one webhook, and how that goes."""

    id: str
    webhook_id: str
    event_id: str
    event: Event
    subject_id: str
    state: DeliveryState
    attempts: int
    due_at_ms: int
    error: str
    created_at_ms: int
    updated_at_ms: int


SHOWN = [COLUMNS[name] for name in Delivery.__slots__]


@dataclass(frozen=True, slots=True)
class Work:
    """A delivery that this node has claimed; ``secret`` is None if it cannot be opened."""

    id: str
    webhook_id: str
    event_id: str
    attempts: int  # with this one
    url: str
    body: bytes
    secret: str | None


# --- webhooks ---------------------------------------------------------------------------


def create_webhook(tx: Tx, actor: Actor, spec: WebhookSpec) -> tuple[Record[WebhookSpec], str]:
    """A webhook, and the secret that signs what it is sent.

    Raises:
        VaultLocked: no key is configured to seal the secret with.
    """
    record = WEBHOOKS.create(tx, actor, spec)
    return record, _seal_new(tx, record.id)


def update_webhook(
    tx: Tx,
    actor: Actor,
    id: str,
    revision: int | None,
    change: Callable[[WebhookSpec], WebhookSpec],
) -> Record[WebhookSpec]:
    """As :meth:`Resources.update`; what waits for one that is now disabled is given up."""
    record = WEBHOOKS.update(tx, actor, id, revision, change)
    if not record.spec.is_enabled:
        tx.conn.execute(
            sa.update(deliveries)
            .where(COLUMNS.webhook_id == id, COLUMNS.state == "waiting")
            .values(state="dead", error="the webhook was disabled", updated_at_ms=tx.now_ms)
        )
    return record


def renew_secret(tx: Tx, actor: Actor, id: str) -> tuple[Record[WebhookSpec], str]:
    """Another secret for a webhook, from the next attempt on.

    Raises:
        NotFound, VaultLocked.
    """
    record = WEBHOOKS.get(tx, id, lock=True)
    note(tx, actor, "webhook.secret_renewed", id)
    return record, _seal_new(tx, id)


def _seal_new(tx: Tx, id: str) -> str:
    secret = "whsec_" + base64.b64encode(secrets.token_bytes(SECRET_BYTES)).decode()
    sealed = tx.vault.seal(secret)
    tx.conn.execute(sa.update(webhooks).where(webhooks.c.id == id).values(sealed=sealed))
    return secret


# --- what happens -----------------------------------------------------------------------


class _Wish(msgspec.Struct):
    """What is read here of a :class:`WebhookSpec`; a newer node's may name events of its own."""

    url: str
    events: tuple[str, ...] = ()
    is_enabled: bool = True


def tell(tx: Tx, event: Event, subject_id: str, data: Mapping[str, Any]) -> None:
    """Have every webhook that wants to know told of ``event``, once this transaction is kept.

    Args:
        subject_id: what it is about: a call, a campaign. What is forgotten of it takes along
            what was told of it.
        data: as JSON.
    """
    # none is deleted or disabled before this transaction ends: what it tells would be lost, or late
    query = sa.select(webhooks.c.id, webhooks.c.spec).order_by(webhooks.c.id)
    found = tx.conn.execute(query.with_for_update(read=True, key_share=True)).all()
    wanting = []
    for row in found:
        wish = msgspec.json.decode(row.spec, type=_Wish)
        if wish.is_enabled and (not wish.events or event in wish.events):
            wanting.append(row.id)
    _write(tx, wanting, event, subject_id, data)


def tell_one(tx: Tx, actor: Actor, id: str) -> Delivery:
    """Have one webhook told that this is a test, whatever else it wants to know.

    Raises:
        NotFound: there is no such webhook.
    """
    WEBHOOKS.get(tx, id)
    note(tx, actor, "webhook.tested", id)
    (made,) = _write(tx, [id], "webhook.test", id, {"webhook_id": id})
    return _get(tx, id, made)


def _write(
    tx: Tx, ids: list[str], event: Event, subject_id: str, data: Mapping[str, Any]
) -> list[str]:
    if not ids:
        return []
    event_id = new_id("evt")
    told = {"id": event_id, "type": event, "created_at": shown_time(tx.now_ms), "data": data}
    body = msgspec.json.encode(told)
    rows = [
        {
            "id": new_id("dlv"),
            "webhook_id": id,
            "event_id": event_id,
            "event": event,
            "subject_id": subject_id,
            "body": body,
            "state": "waiting",
            "attempts": 0,
            "due_at_ms": tx.now_ms,
            "error": "",
            "created_at_ms": tx.now_ms,
            "updated_at_ms": tx.now_ms,
        }
        for id in ids
    ]
    tx.conn.execute(sa.insert(deliveries), rows)
    return [str(row["id"]) for row in rows]


# --- delivering -------------------------------------------------------------------------


def is_delivery_due(tx: Tx) -> bool:
    """Whether :func:`claim_deliveries` would find something; only reads."""
    query = sa.select(COLUMNS.id).where(*_is_due(tx)).limit(1)
    return tx.conn.scalar(query) is not None


def claim_deliveries(tx: Tx, limit: int, busy: Collection[str] = ()) -> tuple[Work, ...]:
    """Take up to ``limit`` that are due, none of the webhooks ``busy``; each is taken once.

    They are due again after :data:`CLAIM_MS` if nothing is heard of them.
    """
    query = (
        sa.select(COLUMNS.id, COLUMNS.webhook_id, COLUMNS.event_id, COLUMNS.attempts, COLUMNS.body)
        .where(*_is_due(tx))
        .order_by(COLUMNS.due_at_ms, COLUMNS.id)
        .limit(limit)
        .with_for_update(skip_locked=True)
    )
    if busy:
        query = query.where(COLUMNS.webhook_id.not_in(busy))
    rows = tx.conn.execute(query).all()
    if not rows:
        return ()
    tx.conn.execute(
        sa.update(deliveries)
        .where(COLUMNS.id.in_([row.id for row in rows]))
        .values(
            attempts=COLUMNS.attempts + 1,
            due_at_ms=tx.now_ms + CLAIM_MS,
            updated_at_ms=tx.now_ms,
        )
    )
    to = _receivers(tx, {row.webhook_id for row in rows})
    return tuple(
        Work(
            row.id,
            row.webhook_id,
            row.event_id,
            row.attempts + 1,
            to[row.webhook_id][0],
            bytes(row.body),
            to[row.webhook_id][1],
        )
        for row in rows
    )


def _is_due(tx: Tx) -> tuple[sa.ColumnElement[bool], ...]:
    return COLUMNS.state == "waiting", COLUMNS.due_at_ms <= tx.now_ms


def _receivers(tx: Tx, ids: set[str]) -> dict[str, tuple[str, str | None]]:
    """URL and secret of each."""
    columns = webhooks.c
    query = sa.select(columns.id, columns.spec, columns.sealed).where(columns.id.in_(ids))
    found: dict[str, tuple[str, str | None]] = {}
    for row in tx.conn.execute(query):
        try:
            secret = tx.vault.open(row.sealed) if row.sealed is not None else None
        except VaultLocked:
            secret = None
        found[row.id] = msgspec.json.decode(row.spec, type=_Wish).url, secret
    return found


def finish_delivery(tx: Tx, work: Work, error: str, wait_ms: int | None) -> None:
    """Write down how an attempt went: ``error`` empty: well; ``wait_ms`` None: the last one.

    Of an attempt that took longer than its claim nothing is written.
    """
    state: DeliveryState = "waiting"
    if not error:
        state = "delivered"
    elif wait_ms is None:
        state = "dead"
    tx.conn.execute(
        sa.update(deliveries)
        .where(COLUMNS.id == work.id, COLUMNS.state == "waiting", COLUMNS.attempts == work.attempts)
        .values(
            state=state,
            error=error,
            due_at_ms=tx.now_ms + (wait_ms or 0),
            updated_at_ms=tx.now_ms,
        )
    )


# --- looking after them -----------------------------------------------------------------


def find_deliveries(
    tx: Tx, webhook_id: str, limit: int, offset: int, state: DeliveryState | None = None
) -> Page[Delivery]:
    """A page of what a webhook was or is to be told, the newest first.

    Raises:
        NotFound: there is no such webhook.
    """
    WEBHOOKS.get(tx, webhook_id)
    query = (
        sa.select(*SHOWN)
        .where(COLUMNS.webhook_id == webhook_id)
        .order_by(COLUMNS.created_at_ms.desc(), COLUMNS.id)
    )
    if state is not None:
        query = query.where(COLUMNS.state == state)
    return page_of(tx, query, limit, offset, _delivery)


def retry_delivery(tx: Tx, actor: Actor, webhook_id: str, id: str) -> Delivery:
    """Try again, from the first attempt on.

    Raises:
        NotFound: there is no such delivery.
        Conflict: it has been delivered, or the webhook is disabled.
    """
    if not WEBHOOKS.get(tx, webhook_id, lock=True).spec.is_enabled:
        raise Conflict("the webhook is disabled: enable it first")
    found = _get(tx, webhook_id, id, lock=True)
    if found.state == "delivered":
        raise Conflict("it has been delivered already")
    tx.conn.execute(
        sa.update(deliveries)
        .where(COLUMNS.id == id)
        .values(state="waiting", attempts=0, due_at_ms=tx.now_ms, updated_at_ms=tx.now_ms)
    )
    note(tx, actor, "webhook.delivery_retried", id)
    return _get(tx, webhook_id, id)


def tidy_deliveries(tx: Tx) -> None:
    """Forget what is old, and give up the oldest where too many wait."""
    for state, keep_ms in (("delivered", KEEP_DELIVERED_MS), ("dead", KEEP_DEAD_MS)):
        old = COLUMNS.updated_at_ms < tx.now_ms - keep_ms
        tx.conn.execute(sa.delete(deliveries).where(COLUMNS.state == state, old))
    waiting = COLUMNS.state == "waiting"
    crowded = (
        sa.select(COLUMNS.webhook_id)
        .where(waiting)
        .group_by(COLUMNS.webhook_id)
        .having(sa.func.count() > WAITING_MAX)
    )
    for webhook_id in tx.conn.scalars(crowded).all():
        of_it = (waiting, COLUMNS.webhook_id == webhook_id)
        kept = (
            sa.select(COLUMNS.created_at_ms)
            .where(*of_it)
            .order_by(COLUMNS.created_at_ms.desc())
            .offset(WAITING_MAX)
            .limit(1)
        )
        oldest_ms = tx.conn.scalar(kept)
        tx.conn.execute(
            sa.update(deliveries)
            .where(*of_it, COLUMNS.created_at_ms <= oldest_ms)
            .values(state="dead", error="too many wait for this webhook", updated_at_ms=tx.now_ms)
        )


def _get(tx: Tx, webhook_id: str, id: str, *, lock: bool = False) -> Delivery:
    query = sa.select(*SHOWN).where(COLUMNS.id == id, COLUMNS.webhook_id == webhook_id)
    row = tx.conn.execute(query.with_for_update() if lock else query).one_or_none()
    if row is None:
        raise NotFound("delivery", id)
    return _delivery(row)


def _delivery(row: sa.Row[Any]) -> Delivery:
    return Delivery(**row._asdict())
