"""The audit log by user, action, and id or name of what was changed."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0020"
down_revision = "0019"
branch_labels = None
depends_on = None

_NAME = {
    "postgresql": "left(detail ->> 'name', 600)",
    "sqlite": "substr(json_extract(detail, '$.name'), 1, 600)",
}


def upgrade() -> None:
    """Bring the schema one step forward."""
    # Rows that a version before this one still writes have no name: they are found by id, user, action and time.
    op.add_column("audit_log", sa.Column("target_name", sa.String(600), nullable=True))
    op.execute(f"UPDATE audit_log SET target_name = {_NAME[op.get_bind().dialect.name]}")  # noqa: S608 - none is given
    for column in ("user_name", "target", "target_name"):
        op.create_index(f"ix_audit_log_{column}", "audit_log", [column, "entity_id", "id"])
    op.create_index(
        "ix_audit_log_action",
        "audit_log",
        ["action", "entity_id", "id"],
        postgresql_ops={"action": "varchar_pattern_ops"},
    )


def downgrade() -> None:
    """Take the step back."""
    for column in ("action", "target_name", "target", "user_name"):
        op.drop_index(f"ix_audit_log_{column}", "audit_log")
    op.drop_column("audit_log", "target_name")
