"""Slack integrations, the audit log, idempotency keys."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from shared.storage.database.columns import BigId, Json, UtcDateTime

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Bring the schema one step forward."""
    with op.batch_alter_table("webhooks") as batch:
        batch.add_column(sa.Column("kind", sa.String(16), nullable=False, server_default="webhook"))
        batch.add_column(sa.Column("url_secret_id", BigId, nullable=True))
        batch.add_column(sa.Column("slack_team", sa.String(255), nullable=True))
        batch.add_column(sa.Column("slack_channel", sa.String(255), nullable=True))
        batch.create_foreign_key(op.f("fk_webhooks_url_secret_id"), "secrets", ["url_secret_id"], ["id"])
    op.create_index(op.f("ix_webhooks_url_secret_id"), "webhooks", ["url_secret_id"])
    op.create_table(
        "audit_log",
        sa.Column("id", BigId, sa.Identity(always=False), nullable=False),
        sa.Column("created_at", UtcDateTime(), nullable=False),
        sa.Column("user_id", sa.BigInteger(), nullable=False),
        sa.Column("user_name", sa.String(255), nullable=False),
        sa.Column("entity_id", sa.BigInteger(), nullable=True),
        sa.Column("action", sa.String(64), nullable=False),
        sa.Column("target", sa.String(600), nullable=False),
        sa.Column("detail", Json, nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_audit_log")),
    )
    op.create_index("ix_audit_log_entity_id_id", "audit_log", ["entity_id", "id"])
    op.create_table(
        "idempotency_keys",
        sa.Column("user_id", BigId, nullable=False),
        sa.Column("key", sa.String(255), nullable=False),
        sa.Column("request_digest", sa.LargeBinary(32), nullable=False),
        sa.Column("status_code", sa.Integer(), nullable=True),
        sa.Column("body", sa.LargeBinary(), nullable=True),
        sa.Column("created_at", UtcDateTime(), nullable=False),
        sa.ForeignKeyConstraint(
            ["user_id"], ["users.id"], name=op.f("fk_idempotency_keys_user_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("user_id", "key", name=op.f("pk_idempotency_keys")),
    )
    op.create_index("ix_idempotency_keys_created_at", "idempotency_keys", ["created_at"])


def downgrade() -> None:
    """Take the step back."""
    op.drop_table("idempotency_keys")
    op.drop_table("audit_log")
    op.drop_index(op.f("ix_webhooks_url_secret_id"), "webhooks")
    with op.batch_alter_table("webhooks") as batch:
        batch.drop_constraint(op.f("fk_webhooks_url_secret_id"), type_="foreignkey")
        for name in ("slack_channel", "slack_team", "url_secret_id", "kind"):
            batch.drop_column(name)
