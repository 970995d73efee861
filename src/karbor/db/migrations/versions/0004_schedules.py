"""Triggers, scheduled operations, quotas, and the service's programs by host."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from karbor.db.columns import Instant, octets, words

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    """Make the tables."""
    _records(
        "triggers",
        sa.Column("name", words(255), nullable=False),
        sa.Column("type", words(64), nullable=False),
        sa.Column("properties_text", words(2000), nullable=False),
    )
    _records(
        "scheduled_operations",
        sa.Column("name", words(255), nullable=False),
        sa.Column("operation_type", words(64), nullable=False),
        sa.Column("trigger_id", words(36), nullable=False),
        sa.Column("plan_id", words(36), nullable=False),
        sa.Column("definition_text", words(2000), nullable=False),
    )
    for column in ("trigger_id", "plan_id"):
        op.create_index(f"ix_scheduled_operations_{column}", "scheduled_operations", [column])
    op.create_table(
        "quotas",
        sa.Column("kind", words(16), primary_key=True),
        sa.Column("name", words(255), primary_key=True),
        sa.Column("resource", words(32), primary_key=True),
        sa.Column("most", sa.BigInteger, nullable=False),
    )
    op.create_table("quota_guards", sa.Column("project_id", words(255), primary_key=True))
    op.create_table(
        "services",
        sa.Column("id", sa.Integer, primary_key=True, autoincrement=True),
        sa.Column("program", words(64), nullable=False),
        sa.Column("host", words(255), nullable=False),
        sa.Column("disabled", sa.Boolean, nullable=False),
        sa.Column("disabled_reason", words(255), nullable=False),
        sa.Column("updated_at", Instant, nullable=False),
    )
    op.create_index("services_of_host", "services", ["host", "program"], unique=True)


def _records(name: str, *columns: sa.Column[str]) -> None:
    op.create_table(
        name,
        sa.Column("id", words(36), primary_key=True),
        sa.Column("project_id", words(255), nullable=False),
        sa.Column("created_at", Instant, nullable=False),
        sa.Column("status", words(64), nullable=False),
        sa.Column("provider_id", words(255), nullable=False),
        *columns,
        sa.Column("body", octets(), nullable=False),
    )
    op.create_index(f"{name}_by_age", name, ["created_at", "id"])
    op.create_index(f"{name}_of_project", name, ["project_id", "created_at", "id"])
