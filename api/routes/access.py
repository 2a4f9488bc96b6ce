"""``/v1/keys``, ``/v1/secrets``, ``/v1/audit``: who may do what, and who did."""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta
from quart import Blueprint

from api.specs import Name
from api.store.keys import (
    AuditRecord,
    KeyRecord,
    Scope,
    create_key,
    delete_key,
    find_audit,
    find_keys,
)
from api.store.secrets import SecretRecord, delete_secret, find_secrets, put_secret
from api.web.operations import Answer, Operation, actor, operation
from api.web.requests import PageView, Paging, page_view
from api.web.services import services
from api.web.times import Time, shown_time

__all__ = ["blueprint"]

blueprint = Blueprint("access", __name__, url_prefix="/v1")

TEN_YEARS_S = 10 * 365 * 86_400


class KeyRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A key to be made. ``admin`` may do everything, each other scope only what it names."""

    name: Name
    scopes: Annotated[list[Scope], Meta(min_length=1, max_length=4)]
    expires_in_s: Annotated[int, Meta(ge=60, le=TEN_YEARS_S)] | None = None


class KeyView(msgspec.Struct, frozen=True, kw_only=True):
    """A key, without its token."""

    id: str
    name: str
    scopes: list[Scope]
    created_at: Time
    expires_at: Time | None


class NewKeyView(KeyView, frozen=True, kw_only=True):
    """A new key. Its token is shown now and never again."""

    token: str


class SecretValue(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The value of a secret; it is sealed, and never shown again."""

    value: Annotated[str, Meta(min_length=1, max_length=4096)]


class SecretView(msgspec.Struct, frozen=True, kw_only=True):
    """All of a secret that is ever shown."""

    name: str
    created_at: Time
    updated_at: Time


class AuditView(msgspec.Struct, frozen=True, kw_only=True):
    """One change: who, what, when. Names of fields, never values."""

    id: int
    at: Time
    actor: str
    request_id: str
    action: str
    resource_id: str
    fields: list[str]


class AuditFilter(Paging, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A part of the audit log."""

    resource_id: Annotated[str, Meta(max_length=100)] | None = None
    actor: Annotated[str, Meta(max_length=40, description="The id of an API key.")] | None = None


def _key_fields(key: KeyRecord) -> dict[str, object]:
    expires = None if key.expires_at_ms is None else shown_time(key.expires_at_ms)
    return {
        "id": key.id,
        "name": key.name,
        "scopes": list(key.scopes),
        "created_at": shown_time(key.created_at_ms),
        "expires_at": expires,
    }


def _key(key: KeyRecord) -> KeyView:
    return msgspec.convert(_key_fields(key), KeyView)


def _secret(secret: SecretRecord) -> SecretView:
    return SecretView(
        name=secret.name,
        created_at=shown_time(secret.created_at_ms),
        updated_at=shown_time(secret.updated_at_ms),
    )


def _line(line: AuditRecord) -> AuditView:
    return AuditView(
        id=line.id,
        at=shown_time(line.at_ms),
        actor=line.actor,
        request_id=line.request_id,
        action=line.action,
        resource_id=line.resource_id,
        fields=list(line.fields),
    )


@operation(
    blueprint,
    "POST",
    "/keys",
    Operation(
        summary="Create an API key", scope="admin", body=KeyRequest, returns={201: NewKeyView}
    ),
)
async def make_key(body: KeyRequest) -> Answer:
    store = services().store
    expires_at_ms = None
    if body.expires_in_s is not None:
        expires_at_ms = int((store.now_s() + body.expires_in_s) * 1000)
    key, token = await store.write(create_key, actor(), body.name, body.scopes, expires_at_ms)
    view = msgspec.convert(_key_fields(key) | {"token": token}, NewKeyView)
    return Answer(view, 201, {"Location": f"/v1/keys/{key.id}"})


@operation(
    blueprint,
    "GET",
    "/keys",
    Operation(
        summary="List API keys", scope="admin", query=Paging, returns={200: PageView[KeyView]}
    ),
)
async def keys(query: Paging) -> Answer:
    page = await services().store.read(find_keys, query.limit, query.offset)
    return Answer(page_view(page, map(_key, page.items), query))


@operation(
    blueprint,
    "DELETE",
    "/keys/<id:key_id>",
    Operation(summary="Revoke an API key at once", scope="admin", returns={204: None}),
)
async def revoke_key(key_id: str) -> Answer:
    await services().store.write(delete_key, actor(), key_id)
    return Answer(status=204)


@operation(
    blueprint,
    "PUT",
    "/secrets/<name:name>",
    Operation(
        summary="Create or replace a secret",
        scope="admin",
        body=SecretValue,
        returns={200: SecretView, 201: SecretView},
        problems=(409,),
    ),
)
async def store_secret(name: str, body: SecretValue) -> Answer:
    secret, is_new = await services().store.write(put_secret, actor(), name, body.value)
    return Answer(_secret(secret), 201 if is_new else 200)


@operation(
    blueprint,
    "GET",
    "/secrets",
    Operation(
        summary="List the names of the secrets",
        scope="admin",
        query=Paging,
        returns={200: PageView[SecretView]},
    ),
)
async def secrets(query: Paging) -> Answer:
    page = await services().store.read(find_secrets, query.limit, query.offset)
    return Answer(page_view(page, map(_secret, page.items), query))


@operation(
    blueprint,
    "DELETE",
    "/secrets/<name:name>",
    Operation(
        summary="Delete a secret that nothing uses",
        scope="admin",
        returns={204: None},
        problems=(409,),
    ),
)
async def remove_secret(name: str) -> Answer:
    await services().store.write(delete_secret, actor(), name)
    return Answer(status=204)


@operation(
    blueprint,
    "GET",
    "/audit",
    Operation(
        summary="Read the audit log",
        scope="admin",
        query=AuditFilter,
        returns={200: PageView[AuditView]},
    ),
)
async def audit(query: AuditFilter) -> Answer:
    page = await services().store.read(
        find_audit, query.limit, query.offset, query.resource_id, query.actor
    )
    return Answer(page_view(page, map(_line, page.items), query))
