"""Webhooks in: sources, the secrets that they use, and their last requests."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from shared.storage.database.columns import BigId, Json, UtcDateTime

revision = "0018"
down_revision = "0017"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Bring the schema one step forward."""
    op.create_table(
        "sources",
        sa.Column("id", BigId, sa.Identity(), nullable=False),
        sa.Column("entity_id", sa.BigInteger(), nullable=False),
        sa.Column("name", sa.String(length=64), nullable=False),
        sa.Column("kind", sa.String(length=16), nullable=False),
        sa.Column("token", sa.String(length=32), nullable=False),
        sa.Column("definition", Json, nullable=False),
        sa.Column("enabled", sa.Boolean(), nullable=False, server_default=sa.text("true")),
        sa.Column("revision", sa.BigInteger(), nullable=False),
        sa.Column("created_at", UtcDateTime(), nullable=False),
        sa.Column("updated_at", UtcDateTime(), nullable=False),
        sa.ForeignKeyConstraint(["entity_id"], ["entities.id"], name=op.f("fk_sources_entity_id"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_sources")),
        sa.UniqueConstraint("entity_id", "name", name=op.f("uq_sources_entity_id_name")),
        sa.UniqueConstraint("token", name=op.f("uq_sources_token")),
        sqlite_autoincrement=True,
    )
    op.create_table(
        "source_secrets",
        sa.Column("source_id", sa.BigInteger(), nullable=False),
        sa.Column("secret_id", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(
            ["source_id"], ["sources.id"], name=op.f("fk_source_secrets_source_id"), ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(["secret_id"], ["secrets.id"], name=op.f("fk_source_secrets_secret_id")),
        sa.PrimaryKeyConstraint("source_id", "secret_id", name=op.f("pk_source_secrets")),
    )
    op.create_index(op.f("ix_source_secrets_secret_id"), "source_secrets", ["secret_id"])
    op.create_table(
        "source_requests",
        sa.Column("id", BigId, sa.Identity(), nullable=False),
        sa.Column("source_id", sa.BigInteger(), nullable=False),
        sa.Column("outcome", sa.String(length=16), nullable=False),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.Column("events", sa.JSON(none_as_null=True), nullable=True),
        sa.Column("sender", sa.String(length=64), nullable=False, server_default=""),
        sa.Column("headers", Json, nullable=False),
        sa.Column("body_bytes", sa.Integer(), nullable=False),
        sa.Column("body", sa.Text(), nullable=True),
        sa.Column("created_at", UtcDateTime(), nullable=False),
        sa.ForeignKeyConstraint(
            ["source_id"], ["sources.id"], name=op.f("fk_source_requests_source_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_source_requests")),
    )
    op.create_index(op.f("ix_source_requests_source_id_id"), "source_requests", ["source_id", "id"])


def downgrade() -> None:
    """Take the step back."""
    op.drop_table("source_requests")
    op.drop_table("source_secrets")
    op.drop_table("sources")
