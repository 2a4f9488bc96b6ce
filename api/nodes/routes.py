"""``/v1/nodes``: which nodes are up, and what each holds."""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta
from quart import Blueprint

from api.calls.telephony import telephony
from api.nodes.records import NodeRecord, find_nodes
from api.web.operations import Answer, Operation, operation
from api.web.requests import PageView, Paging, page_view
from api.web.times import Time, shown_time

__all__ = ["blueprint"]

blueprint = Blueprint("nodes", __name__, url_prefix="/v1/nodes")


class NodeView(msgspec.Struct, frozen=True, kw_only=True):
    """A node that is up."""

    id: str
    url: Annotated[str, Meta(description="Of its media; empty: only through the public URL.")]
    calls: int
    capacity: int
    has_room: Annotated[bool, Meta(description="Whether it would take one more call.")]
    is_draining: bool
    is_this: Annotated[bool, Meta(description="Whether it is the one that answers you.")]
    started_at: Time
    heartbeat_at: Time
    silent_s: Annotated[float, Meta(description="Since its last heartbeat.")]


@operation(
    blueprint,
    "GET",
    "",
    Operation(
        summary="List the nodes that are up",
        scope="admin",
        query=Paging,
        returns={200: PageView[NodeView]},
    ),
)
async def find(query: Paging) -> Answer:
    line = telephony()
    page = await line.store.read(find_nodes, query.limit, query.offset)
    shown = (_view(node, line.node_id) for node in page.items)
    return Answer(page_view(page, shown, query))


def _view(node: NodeRecord, own_id: str) -> NodeView:
    return NodeView(
        id=node.id,
        url=node.state.url,
        calls=node.state.calls,
        capacity=node.state.capacity,
        has_room=node.state.has_room,
        is_draining=node.state.is_draining,
        is_this=node.id == own_id,
        started_at=shown_time(node.started_at_ms),
        heartbeat_at=shown_time(node.heartbeat_at_ms),
        silent_s=round(node.silent_ms / 1000, 1),
    )
