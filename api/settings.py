"""Settings of the management API: frozen, checked on load, handed to :func:`api.app.create_app`."""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta

from api.specs import Retention

__all__ = ["ApiSettings"]


class ApiSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How the API is served. Each limit sits in its type, each reason beside its default."""

    # where carriers and browsers reach us, without a slash at the end
    public_url: Annotated[str, Meta(pattern=r"^https?://[^\s/?#]+(/[^\s?#]*[^\s/?#])?$")] = (
        "http://127.0.0.1:8080"
    )
    body_max_bytes: Annotated[int, Meta(ge=1024, le=16 << 20)] = 512 << 10  # a prompt of 100,000
    # characters, each of them escaped, and room for the rest
    upload_max_bytes: Annotated[int, Meta(ge=1024, le=256 << 20)] = 10 << 20  # a book of plain
    # text is 1 MiB; all of it is in memory while it is read
    documents_max: Annotated[int, Meta(ge=1)] = 1000  # of one knowledge base
    requests_per_s: Annotated[float, Meta(gt=0)] = 50.0  # sustained, for each key
    requests_burst: Annotated[int, Meta(ge=1)] = 100
    allow_private_urls: bool = False  # whatever the API names may be on http:// and inside
    metrics_need_key: bool = True  # closed by default; a scraper can send a bearer token
    chat_idle_limit_s: Annotated[float, Meta(gt=0)] = 86_400.0  # then the text is forgotten
    chat_turns_max: Annotated[int, Meta(ge=1)] = 200  # a log longer than this fits no model
    idempotency_keep_s: Annotated[float, Meta(gt=0)] = 86_400.0  # retries come within a day
    audit_keep_days: Annotated[int, Meta(ge=1, le=36_500)] = 365  # questions come within a year
    retention: Retention = Retention()  # of what is known of callers; an agent may say otherwise
