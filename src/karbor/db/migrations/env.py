"""Alembic's entry: runs the revisions on the connection that `karbor.db.migrate` hands in."""

from __future__ import annotations

from alembic import context

from karbor.db.schema import metadata

# SQLite cannot alter most of a table in place; Alembic's batch mode copies it.
context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    render_as_batch=True,
    transactional_ddl=False,
)
context.run_migrations()
