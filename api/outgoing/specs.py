"""What a webhook is, as users write it, and what it can be told of."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from api.specs import Name

__all__ = ["Event", "WebhookSpec"]

Event = Literal[
    "call.started",
    "call.answered",
    "call.ended",
    "call.analysed",
    "call.recording",
    "campaign.finished",
    "message.left",
    "webhook.test",
]


class WebhookSpec(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An address of yours that is told of what happens."""

    name: Name
    url: Annotated[
        str, Meta(max_length=2000, description="https, and no private address unless allowed.")
    ]
    events: Annotated[
        tuple[Event, ...], Meta(max_length=20, description="Of what to tell; empty: of all.")
    ] = ()
    is_enabled: Annotated[
        bool, Meta(description="False: it is told nothing, of before or of meanwhile.")
    ] = True
