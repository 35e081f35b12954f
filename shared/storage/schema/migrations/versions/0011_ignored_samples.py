"""Samples of runs that automations ignored."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from shared.storage.database.columns import Json, UtcDateTime

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Bring the schema one step forward."""
    op.add_column("automations", sa.Column("ignored_at", UtcDateTime(), nullable=True))
    op.add_column("automations", sa.Column("ignored_sample", Json, nullable=True))


def downgrade() -> None:
    """Take the step back."""
    for column in ("ignored_sample", "ignored_at"):
        op.drop_column("automations", column)
