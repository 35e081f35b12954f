"""Marks of a database and of its keys; invitations, default entities, hidden answers."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from shared.storage.database.columns import BigId, UtcDateTime

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Bring the schema one step forward."""
    op.create_table(
        "installation",
        sa.Column("id", sa.SmallInteger(), autoincrement=False, nullable=False),
        sa.Column("token", sa.String(32), nullable=False),
        sa.Column("key_check", sa.LargeBinary(), nullable=True),
        sa.Column("keys_in", sa.Text(), nullable=True),
        sa.Column("data_dir", sa.Text(), nullable=True),
        sa.Column("created_at", UtcDateTime(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_installation")),
    )
    op.create_table(
        "invitations",
        sa.Column("id", BigId, sa.Identity(always=False), nullable=False),
        sa.Column("entity_id", BigId, nullable=False),
        sa.Column("user_name", sa.String(255), nullable=False),
        sa.Column("role", sa.String(16), nullable=False),
        sa.Column("invited_by", sa.String(255), nullable=False),
        sa.Column("created_at", UtcDateTime(), nullable=False),
        sa.ForeignKeyConstraint(
            ["entity_id"], ["entities.id"], name=op.f("fk_invitations_entity_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_invitations")),
        sa.UniqueConstraint("entity_id", "user_name", name=op.f("uq_invitations_entity_id_user_name")),
    )
    op.create_index(op.f("ix_invitations_user_name"), "invitations", ["user_name"])
    op.add_column("users", sa.Column("default_entity_id", sa.BigInteger(), nullable=True))
    op.add_column(
        "entities", sa.Column("answers_hidden", sa.Boolean(), nullable=False, server_default=sa.text("false"))
    )
    # What was taken as a user's default until now: the first team, else the first organization.
    op.execute(
        "UPDATE users SET default_entity_id = ("
        "SELECT entities.id FROM memberships JOIN entities ON entities.id = memberships.entity_id"
        " WHERE memberships.user_id = users.id AND memberships.role IN ('admin', 'member')"
        " ORDER BY CASE WHEN entities.kind = 'team' THEN 0 ELSE 1 END, entities.id LIMIT 1)"
    )


def downgrade() -> None:
    """Take the step back."""
    with op.batch_alter_table("entities") as batch:
        batch.drop_column("answers_hidden")
    with op.batch_alter_table("users") as batch:
        batch.drop_column("default_entity_id")
    op.drop_table("invitations")
    op.drop_table("installation")
