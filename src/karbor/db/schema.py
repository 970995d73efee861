"""The tables. States and their moves stand beside the columns that hold them.

There are no foreign keys: a check against `runs` would lock the run's row for every step, edge and record written,
and those are only ever written by the code that holds their run. Filter columns of records are never NULL (the empty
string and 1970 stand for nothing), because databases disagree about the order of NULLs and paging must not.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import BigInteger, Boolean, Column, Index, Integer, MetaData, Table

from karbor.db.columns import Instant, octets, prose, words

metadata = MetaData()


def _records(name: str, *columns: Column[Any]) -> Table:
    """A kind of record: what all kinds have, the columns that serve its filters and order, and `body`, the JSON of
    the domain's record, which is the truth.
    """
    return Table(
        name,
        metadata,
        Column("id", words(36), primary_key=True),
        Column("project_id", words(255), nullable=False),
        Column("created_at", Instant, nullable=False),
        Column("status", words(64), nullable=False),
        Column("provider_id", words(255), nullable=False),
        *columns,
        Column("body", octets(), nullable=False),
        Index(f"{name}_of_project", "project_id", "created_at", "id"),
        Index(f"{name}_by_age", "created_at", "id"),
    )


plans = _records(
    "plans",
    Column("name", words(255), nullable=False),
    Column("description", words(255), nullable=False),
)

# Status of checkpoints: `karbor.domain.checkpoint.MOVES`.
checkpoints = _records(
    "checkpoints",
    Column("plan_id", words(36), nullable=False),
    Column("plan_name", words(255), nullable=False),
    Column("finished_at", Instant, nullable=False),
)

Index("checkpoints_of_plan", checkpoints.c.plan_id, checkpoints.c.created_at, checkpoints.c.id)

restores = _records(
    "restores",
    Column("checkpoint_id", words(36), nullable=False, index=True),
    Column("finished_at", Instant, nullable=False),
)

verifications = _records(
    "verifications",
    Column("checkpoint_id", words(36), nullable=False, index=True),
    Column("finished_at", Instant, nullable=False),
)

operation_logs = _records(
    "operation_logs",
    Column("operation_type", words(64), nullable=False),
    Column("checkpoint_id", words(36), nullable=False, index=True),
    Column("plan_id", words(36), nullable=False, index=True),
    Column("restore_id", words(36), nullable=False, index=True),
    Column("verification_id", words(36), nullable=False, index=True),
    Column("scheduled_operation_id", words(36), nullable=False, index=True),
    Column("started_at", Instant, nullable=False),
    Column("ended_at", Instant, nullable=False),
)

# Status of delegations: `karbor.domain.delegation`.
delegations = _records("delegations", Column("user_id", words(255), nullable=False))

# A run: ready → running (first claim) → succeeded | failed | cancelled. A step ends it; where none does, the journal
# ends it with its last step. `cancel_requested` is a request, not a state: steps marked `always` still run.
runs = Table(
    "runs",
    metadata,
    Column("id", words(36), primary_key=True),
    Column("operation", words(64), nullable=False),
    Column("project_id", words(255), nullable=False),
    Column("provider_id", words(255), nullable=False),
    Column("checkpoint_id", words(36), nullable=False),
    Column("object_id", words(36), nullable=False),
    Column("state", words(16), nullable=False),
    Column("priority", Integer, nullable=False),
    Column("cancel_requested", Boolean, nullable=False),
    Column("created_at", Instant, nullable=False),
    Column("finished_at", Instant),
    Column("reason", prose(), nullable=False),
    Column("input", octets(), nullable=False),
    Column("epoch", Integer, nullable=False, server_default="0"),
    Index("runs_of_object", "object_id", "created_at"),
)

# A step:
#   waiting ─ last need done ─▶ ready ─ claim ─▶ running ─▶ done | failed | cancelled
#   running ─ park, retry ─▶ parked ─ due, claim ─▶ running
#   running ─ give back, worker gone ─▶ ready
#   waiting ─ a need failed ─▶ skipped           parked ─ run cancelled ─▶ ready
#   waiting, ready ─ run cancelled ─▶ cancelled  waiting, ready, parked ─ run ended ─▶ skipped | cancelled
# `waits` counts the needs that are not final. `attempt` is the fencing number: every claim raises it, and whoever
# writes for a step must name its current attempt and worker. `takeovers` counts the workers that it outlived.
# `priority` and `begun_at` are the run's, so that the order of claims is one index.
steps = Table(
    "steps",
    metadata,
    Column("run_id", words(36), primary_key=True),
    Column("seq", Integer, primary_key=True, autoincrement=False),
    Column("action", words(64), nullable=False),
    Column("node", Integer, nullable=False),
    Column("resource", prose(), nullable=False),
    Column("plugin", words(255), nullable=False),
    Column("plugin_version", words(64), nullable=False),
    Column("always", Boolean, nullable=False),
    Column("state", words(16), nullable=False),
    Column("waits", Integer, nullable=False),
    Column("priority", Integer, nullable=False),
    Column("begun_at", Instant, nullable=False),
    Column("due_at", Instant),
    Column("worker_id", words(64), nullable=False),
    Column("attempt", Integer, nullable=False),
    Column("tries", Integer, nullable=False),
    Column("takeovers", Integer, nullable=False),
    Column("reason", octets(), nullable=False),
    Column("result", octets(), nullable=False),
    Column("done_bytes", BigInteger, nullable=False),
    Column("total_bytes", BigInteger, nullable=False),
    Column("what", prose(), nullable=False),
    Column("started_at", Instant),
    Column("finished_at", Instant),
    Index("steps_to_claim", "state", "priority", "begun_at", "run_id", "seq"),
    Index("steps_due", "state", "due_at"),
)

# `later` waits for `earlier`, both of the same run.
edges = Table(
    "edges",
    metadata,
    Column("run_id", words(36), primary_key=True),
    Column("earlier", Integer, primary_key=True, autoincrement=False),
    Column("later", Integer, primary_key=True, autoincrement=False),
    sqlite_with_rowid=False,
)

# What hooks recorded, sealed; node -1 is the run's own.
records = Table(
    "records",
    metadata,
    Column("run_id", words(36), primary_key=True),
    Column("node", Integer, primary_key=True, autoincrement=False),
    Column("name", words(400), primary_key=True),
    Column("value", octets(), nullable=False),
)

# Worker incarnations that are alive; a row that is gone is a lease that has ended.
workers = Table(
    "workers",
    metadata,
    Column("id", words(64), primary_key=True),
    Column("host", words(255), nullable=False),
    Column("pid", Integer, nullable=False),
    Column("started_at", Instant, nullable=False),
    Column("heartbeat_at", Instant, nullable=False, index=True),
)

# One row per repository that something was ever protected in. `epoch` is prune's barrier (`karbor.bank.vault.prune`),
# `upkeep_at` when it is looked after next, `upkeep` the JSON of what the last time found; `log_number` and `log_hash` are
# those of the newest entry of its history in the bank, which one worker writes at a time.
repositories = Table(
    "repositories",
    metadata,
    Column("provider_id", words(64), primary_key=True),
    Column("project_id", words(255), primary_key=True),
    Column("epoch", Integer, nullable=False),
    Column("upkeep_at", Instant, nullable=False),
    Column("upkeep", octets(), nullable=False),
    Column("log_number", Integer, nullable=False),
    Column("log_hash", words(64), nullable=False),
    Column("log_held_until", Instant, nullable=False),
    Index("repositories_due", "upkeep_at"),
)

# The outbox of the bank's history: a row per change of a record, until an entry in the bank holds it.
changes = Table(
    "changes",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=True),
    Column("provider_id", words(64), nullable=False),
    Column("project_id", words(255), nullable=False),
    Column("body", octets(), nullable=False),
    Index("changes_of_repository", "provider_id", "project_id", "id"),
)

triggers = _records(
    "triggers",
    Column("name", words(255), nullable=False),
    Column("type", words(64), nullable=False),
    Column("properties_text", words(2000), nullable=False),
)

scheduled_operations = _records(
    "scheduled_operations",
    Column("name", words(255), nullable=False),
    Column("operation_type", words(64), nullable=False),
    Column("trigger_id", words(36), nullable=False, index=True),
    Column("plan_id", words(36), nullable=False, index=True),
    Column("definition_text", words(2000), nullable=False),
)

# Limits that differ from the configuration's: `kind` is project or class, `name` which one.
quotas = Table(
    "quotas",
    metadata,
    Column("kind", words(16), primary_key=True),
    Column("name", words(255), primary_key=True),
    Column("resource", words(32), primary_key=True),
    Column("most", BigInteger, nullable=False),
)

# One row per project with a limit, locked while something is counted and added, so that two requests do not both take
# the last place.
quota_guards = Table("quota_guards", metadata, Column("project_id", words(255), primary_key=True))

# One row per program and host, for good; whether it lives is said by the heartbeats in `workers`.
services = Table(
    "services",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=True),
    Column("program", words(64), nullable=False),
    Column("host", words(255), nullable=False),
    Column("disabled", Boolean, nullable=False),
    Column("disabled_reason", words(255), nullable=False),
    Column("updated_at", Instant, nullable=False),
    Index("services_of_host", "host", "program", unique=True),
)
