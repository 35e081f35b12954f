"""What automations and webhooks were before each edit."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from shared.storage.database.columns import BigId, UtcDateTime

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Bring the schema one step forward."""
    op.create_table(
        "kept_revisions",
        sa.Column("id", BigId, sa.Identity(always=False), nullable=False),
        sa.Column("created_at", UtcDateTime(), nullable=False),
        sa.Column("kind", sa.String(16), nullable=False),
        sa.Column("target_id", sa.BigInteger(), nullable=False),
        sa.Column("entity_id", sa.BigInteger(), nullable=False),
        sa.Column("revision", sa.BigInteger(), nullable=False),
        sa.Column("change", sa.String(16), nullable=False),
        sa.Column("changed", sa.JSON(), nullable=False),
        sa.Column("user_name", sa.String(255), nullable=True),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.Column("content", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_kept_revisions")),
    )
    op.create_index("ix_kept_revisions_target", "kept_revisions", ["kind", "target_id", "id"])
    op.create_index("ix_kept_revisions_created_at", "kept_revisions", ["created_at"])


def downgrade() -> None:
    """Take the step back."""
    op.drop_table("kept_revisions")
