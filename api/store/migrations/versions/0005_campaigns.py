"""Campaigns: lists of numbers to call, and how far each got."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    op.create_table(
        "campaigns",
        sa.Column("id", sa.String(length=40), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("revision", sa.Integer(), nullable=False),
        sa.Column("spec", sa.Text(), nullable=False),
        sa.Column("state", sa.String(length=20), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("dialled_at_ms", sa.BigInteger(), nullable=False),
        sa.Column("resumed_at_ms", sa.BigInteger(), nullable=False),
        sa.Column("started_at_ms", sa.BigInteger(), nullable=True),
        sa.Column("ended_at_ms", sa.BigInteger(), nullable=True),
        sa.Column("created_at_ms", sa.BigInteger(), nullable=False),
        sa.Column("updated_at_ms", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_campaigns"),
    )
    op.create_index("ix_campaigns_state", "campaigns", ["state"])
    op.create_table(
        "campaign_targets",
        sa.Column("id", sa.String(length=40), nullable=False),
        sa.Column("campaign_id", sa.String(length=40), nullable=False),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.Column("number", sa.String(length=40), nullable=False),
        sa.Column("time_zone", sa.String(length=64), nullable=True),
        sa.Column("variables", sa.Text(), nullable=False),
        sa.Column("state", sa.String(length=20), nullable=False),
        sa.Column("outcome", sa.String(length=20), nullable=True),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("not_before_ms", sa.BigInteger(), nullable=False),
        sa.Column("due_at_ms", sa.BigInteger(), nullable=False),
        sa.Column("updated_at_ms", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(
            ["campaign_id"],
            ["campaigns.id"],
            name="fk_campaign_targets_campaign_id",
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("id", name="pk_campaign_targets"),
        sa.UniqueConstraint("campaign_id", "number", name="uq_campaign_targets_campaign_id"),
    )
    op.create_index(
        "ix_campaign_targets_due",
        "campaign_targets",
        ["campaign_id", "state", "due_at_ms", "position"],
    )
    op.create_index("ix_campaign_targets_number_state", "campaign_targets", ["number", "state"])
    op.create_table(
        "campaign_attempts",
        sa.Column("call_id", sa.String(length=40), nullable=False),
        sa.Column("campaign_id", sa.String(length=40), nullable=False),
        sa.Column("target_id", sa.String(length=40), nullable=False),
        sa.Column("ordinal", sa.Integer(), nullable=False),
        sa.Column("number", sa.String(length=40), nullable=False),
        sa.Column("node", sa.String(length=40), nullable=False),
        sa.Column("is_open", sa.Integer(), nullable=False),
        sa.Column("leased_until_ms", sa.BigInteger(), nullable=False),
        sa.Column("hang_up_at_ms", sa.BigInteger(), nullable=True),
        sa.Column("outcome", sa.String(length=20), nullable=True),
        sa.Column("created_at_ms", sa.BigInteger(), nullable=False),
        sa.Column("ended_at_ms", sa.BigInteger(), nullable=True),
        sa.ForeignKeyConstraint(
            ["campaign_id"],
            ["campaigns.id"],
            name="fk_campaign_attempts_campaign_id",
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("call_id", name="pk_campaign_attempts"),
        sa.UniqueConstraint("target_id", "ordinal", name="uq_campaign_attempts_target_id"),
    )
    op.create_index(
        "ix_campaign_attempts_newest",
        "campaign_attempts",
        ["campaign_id", "is_open", "ended_at_ms"],
    )
    op.create_index(
        "ix_campaign_attempts_unknown",
        "campaign_attempts",
        ["ended_at_ms"],
        sqlite_where=sa.text("outcome = 'unknown'"),
        postgresql_where=sa.text("outcome = 'unknown'"),
    )
    op.create_index("ix_campaign_attempts_is_open", "campaign_attempts", ["is_open"])
    op.create_index(
        "ix_campaign_attempts_number",
        "campaign_attempts",
        ["number"],
        unique=True,
        sqlite_where=sa.text("is_open = 1"),
        postgresql_where=sa.text("is_open = 1"),
    )
    op.create_table(
        "do_not_call",
        sa.Column("number", sa.String(length=40), nullable=False),
        sa.Column("source", sa.String(length=10), nullable=False),
        sa.Column("note", sa.Text(), nullable=False),
        sa.Column("call_id", sa.String(length=40), nullable=True),
        sa.Column("created_at_ms", sa.BigInteger(), nullable=False),
        sa.Column("created_by", sa.String(length=40), nullable=False),
        sa.PrimaryKeyConstraint("number", name="pk_do_not_call"),
    )
    op.create_index("ix_do_not_call_call_id", "do_not_call", ["call_id"])
    op.create_index("ix_do_not_call_created_at_ms", "do_not_call", ["created_at_ms"])
