"""What was sent and what came back, with each attempt."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Bring the schema one step forward."""
    op.add_column("attempts", sa.Column("exchange", sa.Text(), nullable=True))


def downgrade() -> None:
    """Take the step back."""
    op.drop_column("attempts", "exchange")
