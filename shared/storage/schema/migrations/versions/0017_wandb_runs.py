"""Runs that the wandb client sends straight to Hookline."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from shared.storage.database.columns import BigId, UtcDateTime

revision = "0017"
down_revision = "0016"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Bring the schema one step forward."""
    op.create_table(
        "wandb_runs",
        sa.Column("key", sa.String(32), nullable=False),
        sa.Column("entity_id", BigId, nullable=False),
        sa.Column("project", sa.String(512), nullable=False),
        sa.Column("run", sa.String(512), nullable=False),
        sa.Column("token", sa.String(16), nullable=False),
        sa.Column("about", sa.Text(), nullable=False),
        sa.Column("summary", sa.Text(), nullable=False, server_default="{}"),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("preempting", sa.Boolean(), nullable=False, server_default=sa.text("false")),
        sa.Column("starts", sa.Integer(), nullable=False),
        sa.Column("streamed", sa.Boolean(), nullable=False, server_default=sa.text("false")),
        sa.Column("history_lines", sa.BigInteger(), nullable=False, server_default="0"),
        sa.Column("last_step", sa.BigInteger(), nullable=True),
        sa.Column("told_at", UtcDateTime(), nullable=False),
        sa.Column("seen_at", UtcDateTime(), nullable=False),
        sa.Column("created_at", UtcDateTime(), nullable=False),
        sa.ForeignKeyConstraint(
            ["entity_id"], ["entities.id"], name=op.f("fk_wandb_runs_entity_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("key", name=op.f("pk_wandb_runs")),
    )
    op.create_index("ix_wandb_runs_entity_id_seen_at", "wandb_runs", ["entity_id", "seen_at"])
    op.create_index("ix_wandb_runs_seen_at", "wandb_runs", ["seen_at"])


def downgrade() -> None:
    """Take the step back."""
    op.drop_table("wandb_runs")
