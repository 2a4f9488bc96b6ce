"""Campaigns: lists of numbers to call, and how far each got."""

from __future__ import annotations

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    pass
