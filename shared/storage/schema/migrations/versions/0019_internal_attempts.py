"""An index of the attempts that failed inside Hookline, which are few."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from shared.storage.schema.indexes_ahead import ATTEMPTS_INTERNAL, is_there

revision = "0019"
down_revision = "0018"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Bring the schema one step forward. On PostgreSQL it was made before, where there were attempts already."""
    if is_there(op.get_bind(), ATTEMPTS_INTERNAL):
        return
    one = ATTEMPTS_INTERNAL
    where = sa.text(one.where)
    op.create_index(one.name, one.table, [one.column], postgresql_where=where, sqlite_where=where)


def downgrade() -> None:
    """Take the step back."""
    op.drop_index(ATTEMPTS_INTERNAL.name, ATTEMPTS_INTERNAL.table)
