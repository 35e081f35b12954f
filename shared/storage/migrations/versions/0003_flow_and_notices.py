"""How a webhook answers lately, its rate limit and client certificate; notices of Hookline's own."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from shared.storage.columns import BigId, UtcDateTime

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
    unfulfilled = sa.text("status IN ('dead', 'refused', 'skipped')")
    for owner, leading in (("anyone", []), ("automation", ["automation_id"]), ("webhook", ["webhook_id"])):
        op.create_index(
            f"ix_deliveries_unfulfilled_{owner}",
            "deliveries",
            [*leading, "status", "seq"],
            postgresql_where=unfulfilled,
            sqlite_where=unfulfilled,
        )
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
    op.drop_index("ix_deliveries_unfulfilled_webhook", "deliveries")
    op.drop_index("ix_deliveries_unfulfilled_automation", "deliveries")
    op.drop_index("ix_deliveries_unfulfilled_anyone", "deliveries")
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
