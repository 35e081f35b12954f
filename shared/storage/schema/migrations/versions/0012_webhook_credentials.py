"""Headers, HTTP Basic and a second signing key of webhooks."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from shared.storage.database.columns import BigId, Json, UtcDateTime

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None

_SECRETS = ("basic_password_secret_id", "former_signing_secret_id")
_OTHERS = ("headers", "basic_user", "wandb_signature", "former_signing_until")


def upgrade() -> None:
    """Bring the schema one step forward."""
    with op.batch_alter_table("webhooks") as batch:
        batch.add_column(sa.Column("headers", Json, nullable=True))
        batch.add_column(sa.Column("basic_user", sa.String(255), nullable=True))
        batch.add_column(sa.Column("basic_password_secret_id", BigId, nullable=True))
        batch.add_column(sa.Column("wandb_signature", sa.String(16), nullable=True))
        batch.add_column(sa.Column("former_signing_secret_id", BigId, nullable=True))
        batch.add_column(sa.Column("former_signing_until", UtcDateTime(), nullable=True))
        for name in _SECRETS:
            batch.create_foreign_key(op.f(f"fk_webhooks_{name}"), "secrets", [name], ["id"])
    for name in _SECRETS:
        op.create_index(op.f(f"ix_webhooks_{name}"), "webhooks", [name])


def downgrade() -> None:
    """Take the step back."""
    for name in _SECRETS:
        op.drop_index(op.f(f"ix_webhooks_{name}"), "webhooks")
    with op.batch_alter_table("webhooks") as batch:
        for name in _SECRETS:
            batch.drop_constraint(op.f(f"fk_webhooks_{name}"), type_="foreignkey")
        for name in (*_SECRETS, *_OTHERS):
            batch.drop_column(name)
