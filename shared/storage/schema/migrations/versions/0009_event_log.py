"""Events, for longer than the streams hold them."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from shared.storage.database.columns import BigId

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Bring the schema one step forward."""
    op.create_table(
        "event_log",
        sa.Column("id", BigId, sa.Identity(always=False), nullable=False),
        sa.Column("partition", sa.Integer(), nullable=False),
        sa.Column("first_ms", sa.BigInteger(), nullable=False),
        sa.Column("first_number", sa.BigInteger(), nullable=False),
        sa.Column("last_ms", sa.BigInteger(), nullable=False),
        sa.Column("last_number", sa.BigInteger(), nullable=False),
        sa.Column("entries", sa.Integer(), nullable=False),
        sa.Column("content", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_event_log")),
        sa.UniqueConstraint(
            "partition", "first_ms", "first_number", name=op.f("uq_event_log_partition_first_ms_first_number")
        ),
    )
    op.create_index("ix_event_log_partition_last_ms", "event_log", ["partition", "last_ms"])


def downgrade() -> None:
    """Take the step back."""
    op.drop_table("event_log")
