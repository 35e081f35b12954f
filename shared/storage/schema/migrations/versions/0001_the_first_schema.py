"""The first schema."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from shared.storage.database.columns import BigId, Json, UtcDateTime

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Bring the schema one step forward."""
    op.create_table(
        "attempts",
        sa.Column("delivery_seq", sa.BigInteger(), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("claim", sa.BigInteger(), nullable=False),
        sa.Column("started_at", UtcDateTime(), nullable=False),
        sa.Column("duration_ms", sa.Integer(), nullable=False),
        sa.Column("outcome", sa.String(length=16), nullable=False),
        sa.Column("status_code", sa.Integer(), nullable=True),
        sa.Column("error", sa.Text(), nullable=True),
        sa.Column("response_body", sa.Text(), nullable=True),
        sa.Column("response_truncated", sa.Boolean(), server_default=sa.text("false"), nullable=False),
        sa.Column("request_url", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("delivery_seq", "number", "claim", name=op.f("pk_attempts")),
    )
    op.create_table(
        "deliveries",
        sa.Column("seq", BigId, sa.Identity(always=False), nullable=False),
        sa.Column("id", sa.String(length=32), nullable=False),
        sa.Column("entity_id", sa.BigInteger(), nullable=False),
        sa.Column("automation_id", sa.BigInteger(), nullable=True),
        sa.Column("webhook_id", sa.BigInteger(), nullable=True),
        sa.Column("status", sa.String(length=16), nullable=False),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.Column("payload", sa.Text(), nullable=True),
        sa.Column("event_id", sa.String(length=512), nullable=False),
        sa.Column("event_source", sa.String(length=512), nullable=False),
        sa.Column("event_type", sa.String(length=32), nullable=False),
        sa.Column("event_received_at", UtcDateTime(), nullable=False),
        sa.Column("attempts", sa.Integer(), server_default="0", nullable=False),
        sa.Column("replay_of", sa.String(length=32), nullable=True),
        sa.Column("created_at", UtcDateTime(), nullable=False),
        sa.Column("finished_at", UtcDateTime(), nullable=True),
        sa.PrimaryKeyConstraint("seq", name=op.f("pk_deliveries")),
        sa.UniqueConstraint("id", name=op.f("uq_deliveries_id")),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_deliveries_automation_id_seq", "deliveries", ["automation_id", "seq"], unique=False)
    op.create_index("ix_deliveries_entity_id_seq", "deliveries", ["entity_id", "seq"], unique=False)
    op.create_index("ix_deliveries_event_id", "deliveries", ["event_id"], unique=False)
    op.create_index(
        "ix_deliveries_unfulfilled",
        "deliveries",
        ["entity_id", "status", "seq"],
        unique=False,
        postgresql_where=sa.text("status IN ('dead', 'refused', 'skipped')"),
        sqlite_where=sa.text("status IN ('dead', 'refused', 'skipped')"),
    )
    op.create_index("ix_deliveries_webhook_id_seq", "deliveries", ["webhook_id", "seq"], unique=False)

    op.create_table(
        "entities",
        sa.Column("id", BigId, sa.Identity(always=False), nullable=False),
        sa.Column("name", sa.String(length=512), nullable=False),
        sa.Column("kind", sa.String(length=16), server_default="team", nullable=False),
        sa.Column("parent_id", BigId, nullable=True),
        sa.Column("created_at", UtcDateTime(), nullable=False),
        sa.ForeignKeyConstraint(["parent_id"], ["entities.id"], name=op.f("fk_entities_parent_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_entities")),
        sa.UniqueConstraint("name", name=op.f("uq_entities_name")),
    )
    op.create_table(
        "metric_windows",
        sa.Column("automation_id", sa.BigInteger(), nullable=False),
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("epoch", sa.BigInteger(), nullable=False),
        sa.Column("windows", sa.LargeBinary(), nullable=True),
        sa.Column("last_fired_ms", sa.BigInteger(), nullable=True),
        sa.Column("recent_firings", sa.LargeBinary(), nullable=True),
        sa.Column("updated_at", UtcDateTime(), nullable=False),
        sa.PrimaryKeyConstraint("automation_id", "key", name=op.f("pk_metric_windows")),
    )
    op.create_index("ix_metric_windows_updated_at", "metric_windows", ["updated_at"], unique=False)

    op.create_table(
        "partitions",
        sa.Column("partition", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("offset", sa.String(length=48), nullable=False),
        sa.Column("entries_read", sa.BigInteger(), nullable=False),
        sa.Column("updated_at", UtcDateTime(), nullable=False),
        sa.PrimaryKeyConstraint("partition", name=op.f("pk_partitions")),
    )
    op.create_table(
        "pending_deliveries",
        sa.Column("seq", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("webhook_id", sa.BigInteger(), nullable=False),
        sa.Column("attempts", sa.Integer(), server_default="0", nullable=False),
        sa.Column("next_attempt_at", UtcDateTime(), nullable=False),
        sa.Column("claim", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("seq", name=op.f("pk_pending_deliveries")),
    )
    op.create_index(
        "ix_pending_deliveries_due",
        "pending_deliveries",
        ["webhook_id", "next_attempt_at", "seq"],
        unique=False,
    )

    op.create_table(
        "poison_entries",
        sa.Column("partition", sa.Integer(), nullable=False),
        sa.Column("entry_id", sa.String(length=48), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("body", sa.LargeBinary(), nullable=False),
        sa.Column("created_at", UtcDateTime(), nullable=False),
        sa.PrimaryKeyConstraint("partition", "entry_id", name=op.f("pk_poison_entries")),
    )
    op.create_table(
        "revisions",
        sa.Column("id", sa.SmallInteger(), autoincrement=False, nullable=False),
        sa.Column("value", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_revisions")),
    )
    op.create_table(
        "users",
        sa.Column("id", BigId, sa.Identity(always=False), nullable=False),
        sa.Column("name", sa.String(length=255), nullable=False),
        sa.Column("email", sa.String(length=320), nullable=True),
        sa.Column("is_admin", sa.Boolean(), server_default=sa.text("false"), nullable=False),
        sa.Column("created_at", UtcDateTime(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_users")),
        sa.UniqueConstraint("name", name=op.f("uq_users_name")),
    )
    op.create_table(
        "api_keys",
        sa.Column("id", BigId, sa.Identity(always=False), nullable=False),
        sa.Column("user_id", BigId, nullable=False),
        sa.Column("name", sa.String(length=255), nullable=False),
        sa.Column("digest", sa.LargeBinary(length=32), nullable=False),
        sa.Column("hint", sa.String(length=16), nullable=False),
        sa.Column("created_at", UtcDateTime(), nullable=False),
        sa.Column("last_used_at", UtcDateTime(), nullable=True),
        sa.Column("revoked_at", UtcDateTime(), nullable=True),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], name=op.f("fk_api_keys_user_id"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_api_keys")),
        sa.UniqueConstraint("digest", name=op.f("uq_api_keys_digest")),
    )
    op.create_index(op.f("ix_api_keys_user_id"), "api_keys", ["user_id"], unique=False)

    op.create_table(
        "memberships",
        sa.Column("user_id", BigId, nullable=False),
        sa.Column("entity_id", BigId, nullable=False),
        sa.Column("role", sa.String(length=16), nullable=False),
        sa.ForeignKeyConstraint(
            ["entity_id"], ["entities.id"], name=op.f("fk_memberships_entity_id"), ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(["user_id"], ["users.id"], name=op.f("fk_memberships_user_id"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("user_id", "entity_id", name=op.f("pk_memberships")),
    )
    op.create_table(
        "projects",
        sa.Column("id", BigId, sa.Identity(always=False), nullable=False),
        sa.Column("entity_id", BigId, nullable=False),
        sa.Column("name", sa.String(length=512), nullable=False),
        sa.Column("description", sa.Text(), nullable=True),
        sa.Column("created_at", UtcDateTime(), nullable=False),
        sa.ForeignKeyConstraint(["entity_id"], ["entities.id"], name=op.f("fk_projects_entity_id"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_projects")),
        sa.UniqueConstraint("entity_id", "name", name=op.f("uq_projects_entity_id_name")),
    )
    op.create_table(
        "secrets",
        sa.Column("id", BigId, sa.Identity(always=False), nullable=False),
        sa.Column("entity_id", BigId, nullable=False),
        sa.Column("name", sa.String(length=255), nullable=False),
        sa.Column("ciphertext", sa.LargeBinary(), nullable=False),
        sa.Column("revision", sa.BigInteger(), nullable=False),
        sa.Column("created_at", UtcDateTime(), nullable=False),
        sa.Column("updated_at", UtcDateTime(), nullable=False),
        sa.ForeignKeyConstraint(["entity_id"], ["entities.id"], name=op.f("fk_secrets_entity_id"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_secrets")),
        sa.UniqueConstraint("entity_id", "name", name=op.f("uq_secrets_entity_id_name")),
    )
    op.create_table(
        "collections",
        sa.Column("id", BigId, sa.Identity(always=False), nullable=False),
        sa.Column("project_id", BigId, nullable=False),
        sa.Column("name", sa.String(length=512), nullable=False),
        sa.Column("type", sa.String(length=512), server_default="", nullable=False),
        sa.Column("created_at", UtcDateTime(), nullable=False),
        sa.ForeignKeyConstraint(
            ["project_id"], ["projects.id"], name=op.f("fk_collections_project_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_collections")),
        sa.UniqueConstraint("project_id", "name", name=op.f("uq_collections_project_id_name")),
    )
    op.create_table(
        "webhooks",
        sa.Column("id", BigId, sa.Identity(always=False), nullable=False),
        sa.Column("entity_id", BigId, nullable=False),
        sa.Column("name", sa.String(length=255), nullable=False),
        sa.Column("url", sa.Text(), nullable=False),
        sa.Column("access_token_secret_id", BigId, nullable=True),
        sa.Column("signing_secret_id", BigId, nullable=True),
        sa.Column("policy", Json, nullable=False),
        sa.Column("enabled", sa.Boolean(), server_default=sa.text("true"), nullable=False),
        sa.Column("paused", sa.Boolean(), server_default=sa.text("false"), nullable=False),
        sa.Column("disabled_reason", sa.Text(), nullable=True),
        sa.Column("failing_since", UtcDateTime(), nullable=True),
        sa.Column("revision", sa.BigInteger(), nullable=False),
        sa.Column("created_at", UtcDateTime(), nullable=False),
        sa.Column("updated_at", UtcDateTime(), nullable=False),
        sa.Column("deleted_at", UtcDateTime(), nullable=True),
        sa.ForeignKeyConstraint(
            ["access_token_secret_id"], ["secrets.id"], name=op.f("fk_webhooks_access_token_secret_id")
        ),
        sa.ForeignKeyConstraint(["entity_id"], ["entities.id"], name=op.f("fk_webhooks_entity_id"), ondelete="CASCADE"),
        sa.ForeignKeyConstraint(["signing_secret_id"], ["secrets.id"], name=op.f("fk_webhooks_signing_secret_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_webhooks")),
    )
    op.create_index(op.f("ix_webhooks_access_token_secret_id"), "webhooks", ["access_token_secret_id"], unique=False)
    op.create_index(op.f("ix_webhooks_signing_secret_id"), "webhooks", ["signing_secret_id"], unique=False)
    op.create_index(
        "uq_webhooks_live_name",
        "webhooks",
        ["entity_id", "name"],
        unique=True,
        postgresql_where=sa.text("deleted_at IS NULL"),
        sqlite_where=sa.text("deleted_at IS NULL"),
    )

    op.create_table(
        "automations",
        sa.Column("id", BigId, sa.Identity(always=False), nullable=False),
        sa.Column("entity_id", BigId, nullable=False),
        sa.Column("name", sa.String(length=255), nullable=False),
        sa.Column("enabled", sa.Boolean(), nullable=False),
        sa.Column("event_type", sa.String(length=32), nullable=False),
        sa.Column("scope_project", sa.String(length=512), nullable=True),
        sa.Column("scope_collection", sa.String(length=512), nullable=True),
        sa.Column("webhook_id", BigId, nullable=True),
        sa.Column("definition", Json, nullable=False),
        sa.Column("epoch", sa.BigInteger(), nullable=False),
        sa.Column("revision", sa.BigInteger(), nullable=False),
        sa.Column("created_at", UtcDateTime(), nullable=False),
        sa.Column("updated_at", UtcDateTime(), nullable=False),
        sa.Column("deleted_at", UtcDateTime(), nullable=True),
        sa.ForeignKeyConstraint(
            ["entity_id"], ["entities.id"], name=op.f("fk_automations_entity_id"), ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(["webhook_id"], ["webhooks.id"], name=op.f("fk_automations_webhook_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_automations")),
    )
    op.create_index(op.f("ix_automations_revision"), "automations", ["revision"], unique=False)
    op.create_index(op.f("ix_automations_webhook_id"), "automations", ["webhook_id"], unique=False)
    op.create_index(
        "uq_automations_live_name",
        "automations",
        ["entity_id", "name"],
        unique=True,
        postgresql_where=sa.text("deleted_at IS NULL"),
        sqlite_where=sa.text("deleted_at IS NULL"),
    )

    op.create_table(
        "webhook_secrets",
        sa.Column("webhook_id", BigId, nullable=False),
        sa.Column("secret_id", BigId, nullable=False),
        sa.ForeignKeyConstraint(["secret_id"], ["secrets.id"], name=op.f("fk_webhook_secrets_secret_id")),
        sa.ForeignKeyConstraint(
            ["webhook_id"], ["webhooks.id"], name=op.f("fk_webhook_secrets_webhook_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("webhook_id", "secret_id", name=op.f("pk_webhook_secrets")),
    )
    op.create_index(op.f("ix_webhook_secrets_secret_id"), "webhook_secrets", ["secret_id"], unique=False)
    op.execute("INSERT INTO revisions (id, value) VALUES (1, 0)")


def downgrade() -> None:
    """Take the step back."""
    op.drop_index(op.f("ix_webhook_secrets_secret_id"), "webhook_secrets")

    op.drop_table("webhook_secrets")
    op.drop_index(
        "uq_automations_live_name",
        "automations",
        postgresql_where=sa.text("deleted_at IS NULL"),
        sqlite_where=sa.text("deleted_at IS NULL"),
    )
    op.drop_index(op.f("ix_automations_webhook_id"), "automations")
    op.drop_index(op.f("ix_automations_revision"), "automations")

    op.drop_table("automations")
    op.drop_index(
        "uq_webhooks_live_name",
        "webhooks",
        postgresql_where=sa.text("deleted_at IS NULL"),
        sqlite_where=sa.text("deleted_at IS NULL"),
    )
    op.drop_index(op.f("ix_webhooks_signing_secret_id"), "webhooks")
    op.drop_index(op.f("ix_webhooks_access_token_secret_id"), "webhooks")

    op.drop_table("webhooks")
    op.drop_table("collections")
    op.drop_table("secrets")
    op.drop_table("projects")
    op.drop_table("memberships")
    op.drop_index(op.f("ix_api_keys_user_id"), "api_keys")

    op.drop_table("api_keys")
    op.drop_table("users")
    op.drop_table("revisions")
    op.drop_table("poison_entries")
    op.drop_index("ix_pending_deliveries_due", "pending_deliveries")

    op.drop_table("pending_deliveries")
    op.drop_table("partitions")
    op.drop_index("ix_metric_windows_updated_at", "metric_windows")

    op.drop_table("metric_windows")
    op.drop_table("entities")
    op.drop_index("ix_deliveries_webhook_id_seq", "deliveries")
    op.drop_index(
        "ix_deliveries_unfulfilled",
        "deliveries",
        postgresql_where=sa.text("status IN ('dead', 'refused', 'skipped')"),
        sqlite_where=sa.text("status IN ('dead', 'refused', 'skipped')"),
    )
    op.drop_index("ix_deliveries_event_id", "deliveries")
    op.drop_index("ix_deliveries_entity_id_seq", "deliveries")
    op.drop_index("ix_deliveries_automation_id_seq", "deliveries")

    op.drop_table("deliveries")
    op.drop_table("attempts")
