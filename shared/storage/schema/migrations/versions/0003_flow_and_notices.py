"""How a webhook answers lately, its rate limit and client certificate; notices of Hookline's own."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from shared.storage.database.columns import BigId, UtcDateTime

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

_ADDED = (
    "failed_at",
    "client_certificate_secret_id",
    "failures",
    "circuit_openings",
    "circuit_opened_at",
    "circuit_probe_at",
    "next_slot_at",
    "resumed_at",
    "slow",
)

_UNFULFILLED = {
    "ix_deliveries_unfulfilled": ["entity_id"],
    "ix_deliveries_unfulfilled_anyone": [],
    "ix_deliveries_unfulfilled_automation": ["automation_id"],
    "ix_deliveries_unfulfilled_webhook": ["webhook_id"],
}


def upgrade() -> None:
    """Bring the schema one step forward."""
    with op.batch_alter_table("webhooks") as batch:
        batch.add_column(sa.Column("failed_at", UtcDateTime(), nullable=True))
        batch.add_column(sa.Column("client_certificate_secret_id", BigId, nullable=True))
        batch.add_column(sa.Column("failures", sa.Integer(), nullable=False, server_default="0"))
        batch.add_column(sa.Column("circuit_openings", sa.Integer(), nullable=False, server_default="0"))
        batch.add_column(sa.Column("circuit_opened_at", UtcDateTime(), nullable=True))
        batch.add_column(sa.Column("circuit_probe_at", UtcDateTime(), nullable=True))
        batch.add_column(sa.Column("next_slot_at", UtcDateTime(), nullable=True))
        batch.add_column(sa.Column("resumed_at", UtcDateTime(), nullable=True))
        batch.add_column(sa.Column("slow", sa.Boolean(), nullable=False, server_default=sa.text("false")))
        batch.create_foreign_key(
            op.f("fk_webhooks_client_certificate_secret_id"), "secrets", ["client_certificate_secret_id"], ["id"]
        )
    op.create_index(op.f("ix_webhooks_client_certificate_secret_id"), "webhooks", ["client_certificate_secret_id"])
    op.create_index("ix_automations_event_type", "automations", ["event_type"])
    op.create_index("ix_poison_entries_created_at", "poison_entries", ["created_at"])
    op.create_index("ix_audit_log_created_at", "audit_log", ["created_at"])
    replays = sa.text("replay_of IS NOT NULL")
    op.add_column("deliveries", sa.Column("traceparent", sa.String(55), nullable=True))
    op.create_index(
        "ix_deliveries_replay_of", "deliveries", ["replay_of"], postgresql_where=replays, sqlite_where=replays
    )
    # A delivered one leaves these alone and finds room for its end where it is: then no index needs a new entry.
    op.drop_index("ix_deliveries_unfulfilled", "deliveries")
    postgresql = op.get_bind().dialect.name == "postgresql"
    unfulfilled = sa.Computed(
        "CASE WHEN status IN ('dead', 'refused', 'skipped') THEN status END",
        persisted=postgresql,  # SQLite can't add a stored one, PostgreSQL can't index another
    )
    op.add_column("deliveries", sa.Column("unfulfilled", sa.String(16), unfulfilled))
    for name, leading in _UNFULFILLED.items():
        _index_unfulfilled(name, [*leading, "unfulfilled", "seq"], "unfulfilled IS NOT NULL")
    if postgresql:
        op.execute("ALTER TABLE deliveries SET (fillfactor = 50)")
    op.create_table(
        "notices",
        sa.Column("id", BigId, sa.Identity(always=False), nullable=False),
        sa.Column("event", sa.Text(), nullable=False),
        sa.Column("created_at", UtcDateTime(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_notices")),
    )


def downgrade() -> None:
    """Take the step back."""
    op.drop_table("notices")
    for name in _UNFULFILLED:
        op.drop_index(name, "deliveries")
    op.drop_column("deliveries", "unfulfilled")
    _index_unfulfilled(
        "ix_deliveries_unfulfilled", ["entity_id", "status", "seq"], "status IN ('dead', 'refused', 'skipped')"
    )
    if op.get_bind().dialect.name == "postgresql":
        op.execute("ALTER TABLE deliveries RESET (fillfactor)")
    op.drop_index("ix_deliveries_replay_of", "deliveries")
    op.drop_column("deliveries", "traceparent")
    op.drop_index("ix_audit_log_created_at", "audit_log")
    op.drop_index("ix_poison_entries_created_at", "poison_entries")
    op.drop_index("ix_automations_event_type", "automations")
    op.drop_index(op.f("ix_webhooks_client_certificate_secret_id"), "webhooks")
    with op.batch_alter_table("webhooks") as batch:
        batch.drop_constraint(op.f("fk_webhooks_client_certificate_secret_id"), type_="foreignkey")
        for name in _ADDED:
            batch.drop_column(name)


def _index_unfulfilled(name: str, columns: list[str], where: str) -> None:
    condition = sa.text(where)
    op.create_index(name, "deliveries", columns, postgresql_where=condition, sqlite_where=condition)
