"""``/v1/functions``: what agents may call."""

from __future__ import annotations

import msgspec
from quart import Blueprint

from api.specs import FunctionSpec
from api.store.functions import FUNCTIONS, create_function, update_function
from api.store.records import Record
from api.web.operations import Answer, Operation, actor, operation
from api.web.problems import configured, invalid
from api.web.requests import (
    changes_of,
    partial_of,
    wanted_revision,
)
from api.web.resources import add_resources, shown
from api.web.services import services
from api.web.times import Time, shown_time
from rtcore.agent.schema import Parameters
from rtcore.providers.functions import checked_url

__all__ = ["blueprint"]

blueprint = Blueprint("functions", __name__, url_prefix="/v1/functions")


class FunctionView(FunctionSpec, frozen=True, kw_only=True):
    """A function as stored."""

    id: str
    created_at: Time
    updated_at: Time


FunctionPatch = partial_of(FunctionSpec, "FunctionPatch")


def _view(record: Record[FunctionSpec]) -> FunctionView:
    return FunctionView(
        **msgspec.structs.asdict(record.spec),
        id=record.id,
        created_at=shown_time(record.created_at_ms),
        updated_at=shown_time(record.updated_at_ms),
    )


def _check(spec: FunctionSpec) -> FunctionSpec:
    """What the types of the fields cannot say.

    Raises:
        ApiError: 422 with the field.
    """
    with configured():
        checked_url(spec.url, "url", allow_private=services().settings.allow_private_urls)
        Parameters(spec.parameters, "parameters")
    both = set(spec.fixed_parameters) & set(spec.parameters.get("properties", {}))
    if both:
        name = min(both)
        raise invalid(f"fixed_parameters.{name}", "is also in parameters: the model would see it")
    return spec


add_resources(
    blueprint,
    FUNCTIONS,
    _view,
    key="function_id",
    shows=FunctionView,
    scope="read",
    lists="List functions",
    reads="Read a function",
    deletes="Delete a function that no agent uses",
    deletes_scope="write",
)


@operation(
    blueprint,
    "POST",
    "",
    Operation(
        summary="Create a function",
        scope="write",
        body=FunctionSpec,
        returns={201: FunctionView},
        once=True,
    ),
)
async def create(body: FunctionSpec) -> Answer:
    record = await services().store.write(create_function, actor(), _check(body))
    location = f"/v1/functions/{record.id}"
    return shown(record, _view(record), 201, Location=location)


@operation(
    blueprint,
    "PATCH",
    "/<id:function_id>",
    Operation(
        summary="Change a function",
        scope="write",
        body=FunctionPatch,
        returns={200: FunctionView},
        conditional="required",
    ),
)
async def update(function_id: str, body: msgspec.Struct) -> Answer:
    revision, changes = wanted_revision(required=True), changes_of(body)

    def change(spec: FunctionSpec) -> FunctionSpec:
        return _check(msgspec.structs.replace(spec, **changes))

    record = await services().store.write(update_function, actor(), function_id, revision, change)
    return shown(record, _view(record))
