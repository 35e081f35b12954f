"""Accounts of identity providers that people sign in to the console with, and their sessions."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from shared.storage.database.columns import BigId, UtcDateTime

revision = "0015"
down_revision = "0014"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Bring the schema one step forward."""
    op.create_table(
        "user_identities",
        sa.Column("id", BigId, sa.Identity(always=False), nullable=False),
        sa.Column("user_id", BigId, nullable=False),
        sa.Column("issuer", sa.String(512), nullable=False),
        sa.Column("subject", sa.String(255), nullable=False),
        sa.Column("created_at", UtcDateTime(), nullable=False),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], name=op.f("fk_user_identities_user_id"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_user_identities")),
        sa.UniqueConstraint("issuer", "subject", name=op.f("uq_user_identities_issuer_subject")),
        sa.UniqueConstraint("user_id", "issuer", name=op.f("uq_user_identities_user_id_issuer")),
    )
    with op.batch_alter_table("sessions") as batch:
        batch.alter_column("key_id", existing_type=BigId, nullable=True)
        batch.add_column(sa.Column("identity_id", BigId, nullable=True))
        batch.create_foreign_key(
            op.f("fk_sessions_identity_id"), "user_identities", ["identity_id"], ["id"], ondelete="CASCADE"
        )
    op.create_index(op.f("ix_sessions_identity_id"), "sessions", ["identity_id"])


def downgrade() -> None:
    """Take the step back. Who signed in with an account of a provider is signed out."""
    op.execute("DELETE FROM sessions WHERE key_id IS NULL")
    op.drop_index(op.f("ix_sessions_identity_id"), "sessions")
    with op.batch_alter_table("sessions") as batch:
        batch.drop_constraint(op.f("fk_sessions_identity_id"), type_="foreignkey")
        batch.drop_column("identity_id")
        batch.alter_column("key_id", existing_type=BigId, nullable=False)
    op.drop_table("user_identities")
