"""The outbox in MLflow's database, outside its migrations: they look at their own tables only."""

from __future__ import annotations

import sqlalchemy as sa
from hookline import outbox

from hookline_mlflow.recorder import TABLE


def are_there(engine: sa.Engine) -> bool:
    """Whether the outbox and its lease are."""
    return {TABLE, f"{TABLE}_lease"} <= set(sa.inspect(engine).get_table_names())


def create(engine: sa.Engine) -> None:
    """Create them unless they are there, or another process does so right now. Raises what the database raises."""
    if are_there(engine):
        return
    try:
        outbox.create(engine, TABLE)
    except sa.exc.SQLAlchemyError:
        if not are_there(engine):
            raise
