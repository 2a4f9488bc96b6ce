"""``/v1/messages``: what callers asked agents to pass on."""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta
from quart import Blueprint

from api.messages import KeptMessage, find_messages
from api.web.operations import Answer, Operation, operation
from api.web.requests import PageView, Paging, page_view
from api.web.services import services
from api.web.times import Time, shown_time

__all__ = ["blueprint"]

blueprint = Blueprint("messages", __name__, url_prefix="/v1/messages")


class MessageView(msgspec.Struct, frozen=True, kw_only=True):
    """A message, as it was confirmed by who left it."""

    id: str
    agent_id: str
    call_id: Annotated[str, Meta(description="Or the conversation's, of a chat.")]
    name: Annotated[str, Meta(description="Who it is from, if that was told.")]
    text: str
    created_at: Time


class MessageFilter(Paging, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A list of messages."""

    agent_id: Annotated[str, Meta(max_length=40)] | None = None
    call_id: Annotated[str, Meta(max_length=40)] | None = None


def _view(message: KeptMessage) -> MessageView:
    return MessageView(
        id=message.id,
        agent_id=message.agent_id,
        call_id=message.call_id,
        name=message.name,
        text=message.text,
        created_at=shown_time(message.created_at_ms),
    )


@operation(
    blueprint,
    "GET",
    "",
    Operation(
        summary="List what callers asked agents to pass on",
        scope="read",
        query=MessageFilter,
        returns={200: PageView[MessageView]},
    ),
)
async def find(query: MessageFilter) -> Answer:
    page = await services().store.read(
        find_messages, query.limit, query.offset, query.agent_id, query.call_id
    )
    return Answer(page_view(page, map(_view, page.items), query))
