"""Times as they are shown: RFC 3339, UTC, milliseconds."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated

from msgspec import Meta

__all__ = ["Time", "shown_time"]

Time = Annotated[
    str,
    Meta(
        description="RFC 3339, UTC.",
        examples=["2026-11-21T03:07:12.000Z"],
        extra_json_schema={"format": "date-time"},
    ),
]


def shown_time(at_ms: int) -> str:
    """``at_ms`` since 1970 as text."""
    at = datetime.fromtimestamp(at_ms // 1000, UTC)
    return f"{at:%Y-%m-%dT%H:%M:%S}.{at_ms % 1000:03d}Z"
