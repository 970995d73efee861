"""The first tables: records, runs with their steps, edges and records, workers."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from karbor.db.columns import Instant, octets, prose, words

revision = "0001"
down_revision = None


def upgrade() -> None:
    """Make the tables."""
    op.create_table(
        "checkpoints",
        sa.Column("id", words(36), primary_key=True),
        sa.Column("project_id", words(255), nullable=False),
        sa.Column("created_at", Instant, nullable=False),
        sa.Column("status", words(64), nullable=False),
        sa.Column("provider_id", words(255), nullable=False),
        sa.Column("plan_id", words(36), nullable=False),
        sa.Column("plan_name", words(255), nullable=False),
        sa.Column("finished_at", Instant, nullable=False),
        sa.Column("body", octets(), nullable=False),
    )
    op.create_index("checkpoints_by_age", "checkpoints", ["created_at", "id"])
    op.create_index("checkpoints_of_project", "checkpoints", ["project_id", "created_at", "id"])
    op.create_index("checkpoints_of_plan", "checkpoints", ["plan_id", "created_at", "id"])
    op.create_table(
        "edges",
        sa.Column("run_id", words(36), primary_key=True),
        sa.Column("earlier", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("later", sa.Integer, primary_key=True, autoincrement=False),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "operation_logs",
        sa.Column("id", words(36), primary_key=True),
        sa.Column("project_id", words(255), nullable=False),
        sa.Column("created_at", Instant, nullable=False),
        sa.Column("status", words(64), nullable=False),
        sa.Column("provider_id", words(255), nullable=False),
        sa.Column("operation_type", words(64), nullable=False),
        sa.Column("checkpoint_id", words(36), nullable=False),
        sa.Column("plan_id", words(36), nullable=False),
        sa.Column("restore_id", words(36), nullable=False),
        sa.Column("verification_id", words(36), nullable=False),
        sa.Column("scheduled_operation_id", words(36), nullable=False),
        sa.Column("started_at", Instant, nullable=False),
        sa.Column("ended_at", Instant, nullable=False),
        sa.Column("body", octets(), nullable=False),
    )
    op.create_index("ix_operation_logs_checkpoint_id", "operation_logs", ["checkpoint_id"])
    op.create_index("ix_operation_logs_plan_id", "operation_logs", ["plan_id"])
    op.create_index("ix_operation_logs_restore_id", "operation_logs", ["restore_id"])
    op.create_index("ix_operation_logs_scheduled_operation_id", "operation_logs", ["scheduled_operation_id"])
    op.create_index("ix_operation_logs_verification_id", "operation_logs", ["verification_id"])
    op.create_index("operation_logs_by_age", "operation_logs", ["created_at", "id"])
    op.create_index("operation_logs_of_project", "operation_logs", ["project_id", "created_at", "id"])
    op.create_table(
        "plans",
        sa.Column("id", words(36), primary_key=True),
        sa.Column("project_id", words(255), nullable=False),
        sa.Column("created_at", Instant, nullable=False),
        sa.Column("status", words(64), nullable=False),
        sa.Column("provider_id", words(255), nullable=False),
        sa.Column("name", words(255), nullable=False),
        sa.Column("description", words(255), nullable=False),
        sa.Column("body", octets(), nullable=False),
    )
    op.create_index("plans_by_age", "plans", ["created_at", "id"])
    op.create_index("plans_of_project", "plans", ["project_id", "created_at", "id"])
    op.create_table(
        "records",
        sa.Column("run_id", words(36), primary_key=True),
        sa.Column("node", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("name", words(400), primary_key=True),
        sa.Column("value", octets(), nullable=False),
    )
    op.create_table(
        "restores",
        sa.Column("id", words(36), primary_key=True),
        sa.Column("project_id", words(255), nullable=False),
        sa.Column("created_at", Instant, nullable=False),
        sa.Column("status", words(64), nullable=False),
        sa.Column("provider_id", words(255), nullable=False),
        sa.Column("checkpoint_id", words(36), nullable=False),
        sa.Column("finished_at", Instant, nullable=False),
        sa.Column("body", octets(), nullable=False),
    )
    op.create_index("ix_restores_checkpoint_id", "restores", ["checkpoint_id"])
    op.create_index("restores_by_age", "restores", ["created_at", "id"])
    op.create_index("restores_of_project", "restores", ["project_id", "created_at", "id"])
    op.create_table(
        "runs",
        sa.Column("id", words(36), primary_key=True),
        sa.Column("operation", words(64), nullable=False),
        sa.Column("project_id", words(255), nullable=False),
        sa.Column("provider_id", words(255), nullable=False),
        sa.Column("checkpoint_id", words(36), nullable=False),
        sa.Column("object_id", words(36), nullable=False),
        sa.Column("state", words(16), nullable=False),
        sa.Column("priority", sa.Integer, nullable=False),
        sa.Column("cancel_requested", sa.Boolean, nullable=False),
        sa.Column("created_at", Instant, nullable=False),
        sa.Column("finished_at", Instant),
        sa.Column("reason", prose(), nullable=False),
        sa.Column("input", octets(), nullable=False),
    )
    op.create_index("runs_of_object", "runs", ["object_id", "created_at"])
    op.create_table(
        "steps",
        sa.Column("run_id", words(36), primary_key=True),
        sa.Column("seq", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("action", words(64), nullable=False),
        sa.Column("node", sa.Integer, nullable=False),
        sa.Column("resource", prose(), nullable=False),
        sa.Column("plugin", words(255), nullable=False),
        sa.Column("plugin_version", words(64), nullable=False),
        sa.Column("always", sa.Boolean, nullable=False),
        sa.Column("state", words(16), nullable=False),
        sa.Column("waits", sa.Integer, nullable=False),
        sa.Column("priority", sa.Integer, nullable=False),
        sa.Column("begun_at", Instant, nullable=False),
        sa.Column("due_at", Instant),
        sa.Column("worker_id", words(64), nullable=False),
        sa.Column("attempt", sa.Integer, nullable=False),
        sa.Column("tries", sa.Integer, nullable=False),
        sa.Column("takeovers", sa.Integer, nullable=False),
        sa.Column("reason", octets(), nullable=False),
        sa.Column("result", octets(), nullable=False),
        sa.Column("done_bytes", sa.BigInteger, nullable=False),
        sa.Column("total_bytes", sa.BigInteger, nullable=False),
        sa.Column("what", prose(), nullable=False),
        sa.Column("started_at", Instant),
        sa.Column("finished_at", Instant),
    )
    op.create_index("steps_due", "steps", ["state", "due_at"])
    op.create_index("steps_to_claim", "steps", ["state", "priority", "begun_at", "run_id", "seq"])
    op.create_table(
        "verifications",
        sa.Column("id", words(36), primary_key=True),
        sa.Column("project_id", words(255), nullable=False),
        sa.Column("created_at", Instant, nullable=False),
        sa.Column("status", words(64), nullable=False),
        sa.Column("provider_id", words(255), nullable=False),
        sa.Column("checkpoint_id", words(36), nullable=False),
        sa.Column("finished_at", Instant, nullable=False),
        sa.Column("body", octets(), nullable=False),
    )
    op.create_index("ix_verifications_checkpoint_id", "verifications", ["checkpoint_id"])
    op.create_index("verifications_by_age", "verifications", ["created_at", "id"])
    op.create_index("verifications_of_project", "verifications", ["project_id", "created_at", "id"])
    op.create_table(
        "workers",
        sa.Column("id", words(64), primary_key=True),
        sa.Column("host", words(255), nullable=False),
        sa.Column("pid", sa.Integer, nullable=False),
        sa.Column("started_at", Instant, nullable=False),
        sa.Column("heartbeat_at", Instant, nullable=False),
    )
    op.create_index("ix_workers_heartbeat_at", "workers", ["heartbeat_at"])


def downgrade() -> None:
    """Drop everything."""
    for name in (
        "checkpoints",
        "edges",
        "operation_logs",
        "plans",
        "records",
        "restores",
        "runs",
        "steps",
        "verifications",
        "workers",
    ):
        op.drop_table(name)
