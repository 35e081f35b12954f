"""Runs that are watched for silence."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from shared.storage.database.columns import UtcDateTime

revision = "0014"
down_revision = "0013"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Bring the schema one step forward."""
    op.create_table(
        "run_watches",
        sa.Column("key", sa.String(32), nullable=False),
        sa.Column("partition", sa.Integer(), nullable=False),
        sa.Column("entity", sa.String(512), nullable=False),
        sa.Column("project", sa.String(512), nullable=False),
        sa.Column("run", sa.Text(), nullable=False),
        sa.Column("heartbeat_ms", sa.BigInteger(), nullable=True),
        sa.Column("state_order", sa.BigInteger(), nullable=False),
        sa.Column("start_token", sa.BigInteger(), nullable=False),
        sa.Column("ended", sa.SmallInteger(), nullable=False),
        sa.Column("seen_ms", sa.BigInteger(), nullable=False),
        sa.Column("check_ms", sa.BigInteger(), nullable=True),
        sa.Column("changed_at", UtcDateTime(), nullable=False),
        sa.PrimaryKeyConstraint("key", name=op.f("pk_run_watches")),
    )
    op.create_index("ix_run_watches_check_ms", "run_watches", ["check_ms"])
    op.create_index("ix_run_watches_changed_at", "run_watches", ["changed_at"])


def downgrade() -> None:
    """Take the step back."""
    op.drop_table("run_watches")
