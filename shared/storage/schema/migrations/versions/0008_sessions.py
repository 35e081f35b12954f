"""Sessions of the console."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from shared.storage.database.columns import BigId, UtcDateTime

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Bring the schema one step forward."""
    op.create_table(
        "sessions",
        sa.Column("id", BigId, sa.Identity(always=False), nullable=False),
        sa.Column("digest", sa.LargeBinary(32), nullable=False),
        sa.Column("key_id", BigId, nullable=False),
        sa.Column("browser", sa.String(255), nullable=False, server_default=""),
        sa.Column("created_at", UtcDateTime(), nullable=False),
        sa.Column("seen_at", UtcDateTime(), nullable=False),
        sa.Column("ends_at", UtcDateTime(), nullable=False),
        sa.ForeignKeyConstraint(["key_id"], ["api_keys.id"], name=op.f("fk_sessions_key_id"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_sessions")),
        sa.UniqueConstraint("digest", name=op.f("uq_sessions_digest")),
    )
    op.create_index(op.f("ix_sessions_key_id"), "sessions", ["key_id"])
    op.create_index(op.f("ix_sessions_ends_at"), "sessions", ["ends_at"])


def downgrade() -> None:
    """Take the step back."""
    op.drop_table("sessions")
