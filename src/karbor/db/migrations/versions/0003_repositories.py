"""Repositories: prune epochs, turns of upkeep, how far their history is; the outbox; the epoch in which a run began."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from karbor.db.columns import Instant, octets, words

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    """Make the tables and the column."""
    op.create_table(
        "repositories",
        sa.Column("provider_id", words(64), primary_key=True),
        sa.Column("project_id", words(255), primary_key=True),
        sa.Column("epoch", sa.Integer, nullable=False),
        sa.Column("upkeep_at", Instant, nullable=False),
        sa.Column("upkeep", octets(), nullable=False),
        sa.Column("log_number", sa.Integer, nullable=False),
        sa.Column("log_hash", words(64), nullable=False),
        sa.Column("log_held_until", Instant, nullable=False),
    )
    op.create_table(
        "changes",
        sa.Column("id", sa.Integer, primary_key=True, autoincrement=True),
        sa.Column("provider_id", words(64), nullable=False),
        sa.Column("project_id", words(255), nullable=False),
        sa.Column("body", octets(), nullable=False),
    )
    op.create_index("changes_of_repository", "changes", ["provider_id", "project_id", "id"])
    op.create_index("repositories_due", "repositories", ["upkeep_at"])
    with op.batch_alter_table("runs") as runs:
        runs.add_column(sa.Column("epoch", sa.Integer, nullable=False, server_default="0"))
