"""``/v1/webhooks``: who is told of what happens, and how the telling goes."""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta
from quart import Blueprint

from api.outgoing.outbox import (
    WEBHOOKS,
    Delivery,
    DeliveryState,
    create_webhook,
    find_deliveries,
    renew_secret,
    retry_delivery,
    tell_one,
    update_webhook,
)
from api.outgoing.specs import Event, WebhookSpec
from api.store.records import Record
from api.web.operations import Answer, Operation, actor, operation
from api.web.problems import configured
from api.web.requests import (
    PageView,
    Paging,
    changes_of,
    page_view,
    partial_of,
    wanted_revision,
)
from api.web.resources import add_resources, shown
from api.web.services import services
from api.web.times import Time, shown_time
from rtcore.providers.functions import checked_url

__all__ = ["blueprint"]

blueprint = Blueprint("outgoing", __name__, url_prefix="/v1/webhooks")


class WebhookView(WebhookSpec, frozen=True, kw_only=True):
    """A webhook, without its secret."""

    id: str
    created_at: Time
    updated_at: Time


class NewWebhookView(WebhookView, frozen=True, kw_only=True):
    """A webhook with a new secret, which is shown now and never again."""

    secret: Annotated[str, Meta(description="Signs what is sent, as Standard Webhooks says.")]


class DeliveryView(msgspec.Struct, frozen=True, kw_only=True):
    """One event on its way to a webhook."""

    id: str
    event_id: Annotated[str, Meta(description="`webhook-id` of all its attempts.")]
    event: Event
    subject_id: Annotated[str, Meta(description="What it is about: a call, say.")]
    state: DeliveryState
    attempts: int
    error: Annotated[str, Meta(description="Of the last attempt; empty if it went well.")]
    due_at: Annotated[Time | None, Meta(description="When it is tried next.")]
    created_at: Time
    updated_at: Time


class DeliveryFilter(Paging, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A list of deliveries."""

    state: DeliveryState | None = None


WebhookPatch = partial_of(WebhookSpec, "WebhookPatch")


def _view(record: Record[WebhookSpec]) -> WebhookView:
    return WebhookView(
        **msgspec.structs.asdict(record.spec),
        id=record.id,
        created_at=shown_time(record.created_at_ms),
        updated_at=shown_time(record.updated_at_ms),
    )


def _new_view(record: Record[WebhookSpec], secret: str) -> NewWebhookView:
    return NewWebhookView(**msgspec.structs.asdict(_view(record)), secret=secret)


def _delivery(delivery: Delivery) -> DeliveryView:
    return DeliveryView(
        id=delivery.id,
        event_id=delivery.event_id,
        event=delivery.event,
        subject_id=delivery.subject_id,
        state=delivery.state,
        attempts=delivery.attempts,
        error=delivery.error,
        due_at=shown_time(delivery.due_at_ms) if delivery.state == "waiting" else None,
        created_at=shown_time(delivery.created_at_ms),
        updated_at=shown_time(delivery.updated_at_ms),
    )


def _check(spec: WebhookSpec) -> WebhookSpec:
    """
    Raises:
        ApiError: 422, its URL cannot be used.
    """
    with configured():
        checked_url(spec.url, "url", allow_private=services().settings.allow_private_urls)
    return spec


add_resources(
    blueprint,
    WEBHOOKS,
    _view,
    key="webhook_id",
    shows=WebhookView,
    scope="admin",
    lists="List webhooks",
    reads="Read a webhook",
    deletes="Delete a webhook, and what it was to be told",
    deletes_scope="admin",
)


@operation(
    blueprint,
    "POST",
    "",
    Operation(
        summary="Create a webhook; its secret is shown this once",
        scope="admin",
        body=WebhookSpec,
        returns={201: NewWebhookView},
    ),
)
async def create(body: WebhookSpec) -> Answer:
    record, secret = await services().store.write(create_webhook, actor(), _check(body))
    location = f"/v1/webhooks/{record.id}"
    return shown(record, _new_view(record, secret), 201, Location=location)


@operation(
    blueprint,
    "PATCH",
    "/<id:webhook_id>",
    Operation(
        summary="Change a webhook; what waits goes to its new URL",
        scope="admin",
        body=WebhookPatch,
        returns={200: WebhookView},
        conditional="required",
    ),
)
async def update(webhook_id: str, body: msgspec.Struct) -> Answer:
    revision, changes = wanted_revision(required=True), changes_of(body)

    def change(spec: WebhookSpec) -> WebhookSpec:
        return _check(msgspec.structs.replace(spec, **changes))

    record = await services().store.write(update_webhook, actor(), webhook_id, revision, change)
    return shown(record, _view(record))


@operation(
    blueprint,
    "POST",
    "/<id:webhook_id>/secret",
    Operation(
        summary="Give a webhook another secret, from its next attempt on",
        scope="admin",
        returns={200: NewWebhookView},
    ),
)
async def renew(webhook_id: str) -> Answer:
    record, secret = await services().store.write(renew_secret, actor(), webhook_id)
    return shown(record, _new_view(record, secret))


@operation(
    blueprint,
    "POST",
    "/<id:webhook_id>/test",
    Operation(
        summary="Send a webhook.test, whatever the webhook wants to know",
        scope="admin",
        returns={202: DeliveryView},
    ),
)
async def test(webhook_id: str) -> Answer:
    own = services()
    delivery = await own.store.write(tell_one, actor(), webhook_id)
    own.sender.wake()
    return Answer(_delivery(delivery), 202)


@operation(
    blueprint,
    "GET",
    "/<id:webhook_id>/deliveries",
    Operation(
        summary="List what a webhook was or is to be told; state=dead: what was given up",
        scope="admin",
        query=DeliveryFilter,
        returns={200: PageView[DeliveryView]},
    ),
)
async def deliveries(webhook_id: str, query: DeliveryFilter) -> Answer:
    page = await services().store.read(
        find_deliveries, webhook_id, query.limit, query.offset, query.state
    )
    return Answer(page_view(page, map(_delivery, page.items), query))


@operation(
    blueprint,
    "POST",
    "/<id:webhook_id>/deliveries/<id:delivery_id>/retry",
    Operation(
        summary="Try a delivery again, from its first attempt on",
        scope="admin",
        returns={202: DeliveryView},
        problems=(409,),
    ),
)
async def retry(webhook_id: str, delivery_id: str) -> Answer:
    own = services()
    delivery = await own.store.write(retry_delivery, actor(), webhook_id, delivery_id)
    own.sender.wake()
    return Answer(_delivery(delivery), 202)
