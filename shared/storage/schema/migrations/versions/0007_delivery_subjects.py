"""The project, run and collection that a delivery's event was about."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

_NAMES = ("event_project", "event_run", "event_collection")


def upgrade() -> None:
    """Bring the schema one step forward."""
    for name in _NAMES:
        op.add_column("deliveries", sa.Column(name, sa.String(512), nullable=True))


def downgrade() -> None:
    """Take the step back."""
    for name in _NAMES:
        op.drop_column("deliveries", name)
