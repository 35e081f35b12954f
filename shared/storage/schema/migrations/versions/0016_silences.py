"""Automations that fire on silent runs, and what was published of a silence."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0016"
down_revision = "0015"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Bring the schema one step forward."""
    op.add_column("automations", sa.Column("silent_ms", sa.BigInteger(), nullable=True))
    some = sa.text("silent_ms IS NOT NULL")
    op.create_index("ix_automations_silent_ms", "automations", ["silent_ms"], postgresql_where=some, sqlite_where=some)
    for column in ("told_ms", "told_seen_ms"):
        op.add_column("run_watches", sa.Column(column, sa.BigInteger(), nullable=False, server_default="0"))


def downgrade() -> None:
    """Take the step back."""
    for column in ("told_seen_ms", "told_ms"):
        op.drop_column("run_watches", column)
    op.drop_index("ix_automations_silent_ms", "automations")
    op.drop_column("automations", "silent_ms")
