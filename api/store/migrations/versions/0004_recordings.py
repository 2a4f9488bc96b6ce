"""Recordings of calls, and how long what is known of callers is kept."""

from __future__ import annotations

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    pass
