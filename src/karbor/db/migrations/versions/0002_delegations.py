"""Delegations: rights to act for users."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from karbor.db.columns import Instant, octets, words

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Make the table."""
    op.create_table(
        "delegations",
        sa.Column("id", words(36), primary_key=True),
        sa.Column("project_id", words(255), nullable=False),
        sa.Column("created_at", Instant, nullable=False),
        sa.Column("status", words(64), nullable=False),
        sa.Column("provider_id", words(255), nullable=False),
        sa.Column("user_id", words(255), nullable=False),
        sa.Column("body", octets(), nullable=False),
    )
    op.create_index("delegations_by_age", "delegations", ["created_at", "id"])
    op.create_index("delegations_of_project", "delegations", ["project_id", "created_at", "id"])
