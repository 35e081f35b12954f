"""API keys that end by themselves."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from shared.storage.database.columns import UtcDateTime

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Bring the schema one step forward."""
    op.add_column("api_keys", sa.Column("expires_at", UtcDateTime(), nullable=True))


def downgrade() -> None:
    """Take the step back."""
    op.drop_column("api_keys", "expires_at")
