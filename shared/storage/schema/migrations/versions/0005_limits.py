"""Quotas of entities, what definitions count for, and which automations could not be matched."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from shared.storage.database.columns import Json, UtcDateTime

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Bring the schema one step forward."""
    op.add_column("automations", sa.Column("unmatched_at", UtcDateTime(), nullable=True))
    op.add_column("automations", sa.Column("unmatched_reason", sa.Text(), nullable=True))
    op.add_column("automations", sa.Column("weight_bytes", sa.Integer(), nullable=True))
    op.add_column("entities", sa.Column("quotas", Json, nullable=True))


def downgrade() -> None:
    """Take the step back."""
    for column in ("weight_bytes", "unmatched_reason", "unmatched_at"):
        op.drop_column("automations", column)
    op.drop_column("entities", "quotas")
