"""Alembic's entry point; `shared.storage.schema.migrate` hands it an open connection."""

from __future__ import annotations

from alembic import context

from shared.storage.schema.tables import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    render_as_batch=context.config.attributes["connection"].dialect.name == "sqlite",
    compare_type=False,
)
with context.begin_transaction():
    context.run_migrations()
