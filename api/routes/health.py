"""``/healthz``, ``/readyz``, ``/metrics``: for whoever runs the node."""

from __future__ import annotations

from http import HTTPStatus

import msgspec
import sqlalchemy as sa
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from quart import Blueprint, Response

from api.store import Tx
from api.web.operations import Answer, Operation, authenticate, operation
from api.web.problems import ApiError
from api.web.services import services

__all__ = ["blueprint"]

blueprint = Blueprint("health", __name__)


class Health(msgspec.Struct, frozen=True, kw_only=True):
    """The node lives."""

    status: str


@operation(
    blueprint,
    "GET",
    "/healthz",
    Operation(summary="Whether the process lives", scope=None, returns={200: Health}),
)
async def healthz() -> Answer:
    return Answer(Health(status="ok"))


def _ping(tx: Tx) -> None:
    tx.conn.execute(sa.select(1))


@operation(
    blueprint,
    "GET",
    "/readyz",
    Operation(
        summary="Whether the node takes new calls and requests",
        scope=None,
        returns={200: Health},
        problems=(503,),
    ),
)
async def readyz() -> Answer:
    own = services()
    if not own.is_ready():
        raise ApiError(HTTPStatus.SERVICE_UNAVAILABLE, "the node is starting, full or draining")
    await own.store.read(_ping)  # its own limits bound it
    return Answer(Health(status="ready"))


@operation(
    blueprint,
    "GET",
    "/metrics",
    Operation(
        summary="Counters and times for Prometheus; needs a key that may read",
        scope=None,
        returns={200: str},
        problems=(401, 403, 429, 503),
    ),
)
async def metrics() -> Response:
    own = services()
    if own.settings.metrics_need_key:
        await authenticate("read")
    return Response(generate_latest(own.registry), content_type=CONTENT_TYPE_LATEST)
