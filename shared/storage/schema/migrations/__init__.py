"""Alembic migrations: how a database gets from any older shape to that of `shared.storage.schema.tables`."""
