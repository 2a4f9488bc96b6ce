"""Calls, what is known of their streams, and the numbers that lead to agents."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    op.create_table(
        "calls",
        sa.Column("id", sa.String(length=40), nullable=False),
        sa.Column("direction", sa.String(length=10), nullable=False),
        sa.Column("agent_id", sa.String(length=40), nullable=False),
        sa.Column("agent_version", sa.Integer(), nullable=False),
        sa.Column("from_number", sa.Text(), nullable=False),
        sa.Column("to_number", sa.Text(), nullable=False),
        sa.Column("state", sa.String(length=20), nullable=False),
        sa.Column("carrier_id", sa.String(length=64), nullable=True),
        sa.Column("request_id", sa.String(length=64), nullable=True),
        sa.Column("plan", sa.Text(), nullable=False),
        sa.Column("is_machine", sa.Integer(), nullable=False),
        sa.Column("transfer", sa.Text(), nullable=True),
        sa.Column("media_nonce", sa.String(length=64), nullable=True),
        sa.Column("streams", sa.Integer(), nullable=False),
        sa.Column("hangup", sa.Text(), nullable=True),
        sa.Column("created_at_ms", sa.BigInteger(), nullable=False),
        sa.Column("answered_at_ms", sa.BigInteger(), nullable=True),
        sa.Column("ended_at_ms", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("id", name="pk_calls"),
        sa.UniqueConstraint("carrier_id", name="uq_calls_carrier_id"),
    )
    op.create_index("ix_calls_agent_id", "calls", ["agent_id"])
    op.create_index("ix_calls_created_at_ms", "calls", ["created_at_ms"])
    op.create_index("ix_calls_ended_at_ms", "calls", ["ended_at_ms"])
    op.create_table(
        "call_streams",
        sa.Column("call_id", sa.String(length=40), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("record", sa.Text(), nullable=False),
        sa.Column("is_final", sa.Integer(), nullable=False),
        sa.Column("updated_at_ms", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(
            ["call_id"], ["calls.id"], name="fk_call_streams_call_id", ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("call_id", "number", name="pk_call_streams"),
    )
    op.create_table(
        "numbers",
        sa.Column("number", sa.String(length=40), nullable=False),
        sa.Column("agent_id", sa.String(length=40), nullable=False),
        sa.Column("app_id", sa.String(length=64), nullable=False),
        sa.Column("created_at_ms", sa.BigInteger(), nullable=False),
        sa.Column("updated_at_ms", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("number", name="pk_numbers"),
    )
    op.create_index("ix_numbers_agent_id", "numbers", ["agent_id"])
