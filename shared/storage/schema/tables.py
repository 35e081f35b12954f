"""Every table, with the indexes that claims and lists need. `migrations/` brings a database to this shape.

Deliveries are written once and finished once; what a drain needs while a delivery is pending is in the narrow
`pending_deliveries`, which stays as small as the work that is left, however long the history grows.
"""

from __future__ import annotations

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Column,
    Computed,
    ForeignKey,
    Identity,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    PrimaryKeyConstraint,
    SmallInteger,
    String,
    Table,
    Text,
    UniqueConstraint,
    text,
)

from shared.storage.database.columns import BigId, Json, UtcDateTime

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s",
        "pk": "pk_%(table_name)s",
    }
)


def _id() -> Column[int]:
    return Column("id", BigId, Identity(), primary_key=True)


def _created() -> Column[object]:
    return Column("created_at", UtcDateTime, nullable=False)


entities = Table(
    "entities",
    metadata,
    _id(),
    Column("name", String(512), nullable=False, unique=True),
    Column("kind", String(16), nullable=False, server_default="team"),
    Column("parent_id", ForeignKey("entities.id"), nullable=True),
    # Quotas of its own, by name; null or left out: the instance's.
    Column("quotas", Json, nullable=True),
    _created(),
    # Whether only its administrators see what endpoints answered.
    Column("answers_hidden", Boolean, nullable=False, server_default=text("false")),
)

users = Table(
    "users",
    metadata,
    _id(),
    Column("name", String(255), nullable=False, unique=True),
    Column("email", String(320), nullable=True),
    Column("is_admin", Boolean, nullable=False, server_default=text("false")),
    _created(),
    # The user's own choice. It may name an entity in which the user has no role any more, and counts for nothing then.
    Column("default_entity_id", BigInteger, nullable=True),
)

memberships = Table(
    "memberships",
    metadata,
    Column("user_id", ForeignKey("users.id", ondelete="CASCADE"), nullable=False),
    Column("entity_id", ForeignKey("entities.id", ondelete="CASCADE"), nullable=False),
    Column("role", String(16), nullable=False),
    PrimaryKeyConstraint("user_id", "entity_id"),
)

# By name, and whether or not such a user exists: so that inviting tells nothing about who does.
invitations = Table(
    "invitations",
    metadata,
    _id(),
    Column("entity_id", ForeignKey("entities.id", ondelete="CASCADE"), nullable=False),
    Column("user_name", String(255), nullable=False, index=True),
    Column("role", String(16), nullable=False),
    Column("invited_by", String(255), nullable=False),
    _created(),
    UniqueConstraint("entity_id", "user_name"),
)

api_keys = Table(
    "api_keys",
    metadata,
    _id(),
    Column("user_id", ForeignKey("users.id", ondelete="CASCADE"), nullable=False, index=True),
    Column("name", String(255), nullable=False),
    # SHA-256: a key is 256 random bits, so a slow password hash would only slow every request down.
    Column("digest", LargeBinary(32), nullable=False, unique=True),
    Column("hint", String(16), nullable=False),
    _created(),
    Column("last_used_at", UtcDateTime, nullable=True),
    Column("revoked_at", UtcDateTime, nullable=True),
    # Null: it does not end by itself.
    Column("expires_at", UtcDateTime, nullable=True),
)

# Who is signed in to the console. What a session may do is what its key may do at that moment.
# Accounts of identity providers: by what the provider never gives to anybody else, not by an address or a name.
user_identities = Table(
    "user_identities",
    metadata,
    _id(),
    Column("user_id", ForeignKey("users.id", ondelete="CASCADE"), nullable=False),
    Column("issuer", String(512), nullable=False),
    Column("subject", String(255), nullable=False),
    _created(),
    UniqueConstraint("issuer", "subject"),
    UniqueConstraint("user_id", "issuer"),
)

# Each is bound to the key, or to the account, that it was made with, and ends with it.
sessions = Table(
    "sessions",
    metadata,
    _id(),
    # SHA-256 of the cookie's 256 random bits, as for keys.
    Column("digest", LargeBinary(32), nullable=False, unique=True),
    Column("key_id", ForeignKey("api_keys.id", ondelete="CASCADE"), nullable=True, index=True),
    Column("identity_id", ForeignKey("user_identities.id", ondelete="CASCADE"), nullable=True, index=True),
    # What the browser said it is, to tell one's own sessions apart.
    Column("browser", String(255), nullable=False, server_default=""),
    _created(),
    Column("seen_at", UtcDateTime, nullable=False),
    Column("ends_at", UtcDateTime, nullable=False, index=True),
)

projects = Table(
    "projects",
    metadata,
    _id(),
    Column("entity_id", ForeignKey("entities.id", ondelete="CASCADE"), nullable=False),
    Column("name", String(512), nullable=False),
    Column("description", Text, nullable=True),
    _created(),
    UniqueConstraint("entity_id", "name"),
)

collections = Table(
    "collections",
    metadata,
    _id(),
    Column("project_id", ForeignKey("projects.id", ondelete="CASCADE"), nullable=False),
    Column("name", String(512), nullable=False),
    Column("type", String(512), nullable=False, server_default=""),
    _created(),
    UniqueConstraint("project_id", "name"),
)

# One row: what tells this database from others, and which keys its secrets are encrypted with.
installation = Table(
    "installation",
    metadata,
    Column("id", SmallInteger, primary_key=True, autoincrement=False),
    Column("token", String(32), nullable=False),
    # A known text, encrypted: keys that can't read it can't read the secrets either.
    Column("key_check", LargeBinary, nullable=True),
    # Where those keys were found, and the data directory whose Valkey has the streams; only to be named in refusals.
    Column("keys_in", Text, nullable=True),
    Column("data_dir", Text, nullable=True),
    _created(),
)

# One counter that every edit of an automation, webhook or secret takes a new value from. The row lock makes edits
# commit in the order of their revisions, so a reader that has seen revision n misses nothing at or below n.
revisions = Table(
    "revisions",
    metadata,
    Column("id", SmallInteger, primary_key=True, autoincrement=False),
    Column("value", BigInteger, nullable=False),
)

secrets = Table(
    "secrets",
    metadata,
    _id(),
    Column("entity_id", ForeignKey("entities.id", ondelete="CASCADE"), nullable=False),
    Column("name", String(255), nullable=False),
    Column("ciphertext", LargeBinary, nullable=False),
    Column("revision", BigInteger, nullable=False),
    _created(),
    Column("updated_at", UtcDateTime, nullable=False),
    UniqueConstraint("entity_id", "name"),
)

webhooks = Table(
    "webhooks",
    metadata,
    _id(),
    Column("entity_id", ForeignKey("entities.id", ondelete="CASCADE"), nullable=False),
    Column("name", String(255), nullable=False),
    # "slack": an incoming-webhook URL is a credential, so it is a secret. `url` is blank where there is a URL secret.
    Column("kind", String(16), nullable=False, server_default="webhook"),
    Column("url", Text, nullable=False),
    Column("url_secret_id", ForeignKey("secrets.id"), nullable=True, index=True),
    Column("slack_team", String(255), nullable=True),
    Column("slack_channel", String(255), nullable=True),
    Column("access_token_secret_id", ForeignKey("secrets.id"), nullable=True, index=True),
    Column("signing_secret_id", ForeignKey("secrets.id"), nullable=True, index=True),
    Column("policy", Json, nullable=False),
    Column("enabled", Boolean, nullable=False, server_default=text("true")),
    Column("paused", Boolean, nullable=False, server_default=text("false")),
    Column("disabled_reason", Text, nullable=True),
    Column("failing_since", UtcDateTime, nullable=True),
    Column("failed_at", UtcDateTime, nullable=True),
    Column("client_certificate_secret_id", ForeignKey("secrets.id"), nullable=True, index=True),
    # Headers of its own, by name, with `${NAME}` in place of secrets; null for none.
    Column("headers", JSON(none_as_null=True), nullable=True),
    Column("basic_user", String(255), nullable=True),
    Column("basic_password_secret_id", ForeignKey("secrets.id"), nullable=True, index=True),
    # Null: base64.
    Column("wandb_signature", String(16), nullable=True),
    # Signs beside the signing secret until a time, so that a receiver can change from one to the other.
    Column("former_signing_secret_id", ForeignKey("secrets.id"), nullable=True, index=True),
    Column("former_signing_until", UtcDateTime, nullable=True),
    # What workers keep of its recent answers (domain.delivery.circuits) and of its limit (domain.delivery.rate_limit).
    Column("failures", Integer, nullable=False, server_default="0"),
    Column("circuit_openings", Integer, nullable=False, server_default="0"),
    Column("circuit_opened_at", UtcDateTime, nullable=True),
    Column("circuit_probe_at", UtcDateTime, nullable=True),
    Column("next_slot_at", UtcDateTime, nullable=True),
    # Since when requests go out again, after it was paused, disabled or behind an open circuit.
    Column("resumed_at", UtcDateTime, nullable=True),
    Column("slow", Boolean, nullable=False, server_default=text("false")),
    Column("revision", BigInteger, nullable=False),
    _created(),
    Column("updated_at", UtcDateTime, nullable=False),
    Column("deleted_at", UtcDateTime, nullable=True),
    Index(
        "uq_webhooks_live_name",
        "entity_id",
        "name",
        unique=True,
        postgresql_where=text("deleted_at IS NULL"),
        sqlite_where=text("deleted_at IS NULL"),
    ),
)

webhook_secrets = Table(
    "webhook_secrets",
    metadata,
    Column("webhook_id", ForeignKey("webhooks.id", ondelete="CASCADE"), nullable=False),
    Column("secret_id", ForeignKey("secrets.id"), nullable=False, index=True),
    PrimaryKeyConstraint("webhook_id", "secret_id"),
)

# Webhooks in: services whose requests become events of the entity.
sources = Table(
    "sources",
    metadata,
    _id(),
    Column("entity_id", ForeignKey("entities.id", ondelete="CASCADE"), nullable=False),
    Column("name", String(64), nullable=False),
    Column("kind", String(16), nullable=False),
    # The last part of the URL that the service sends to: it can't be guessed, but it proves nothing.
    Column("token", String(32), nullable=False, unique=True),
    # Project, proof, rules and the names of secrets, as they are defined.
    Column("definition", Json, nullable=False),
    Column("enabled", Boolean, nullable=False, server_default=text("true")),
    Column("revision", BigInteger, nullable=False),
    _created(),
    Column("updated_at", UtcDateTime, nullable=False),
    UniqueConstraint("entity_id", "name"),
    # The number is in the `source` of its events, so no other may ever get it.
    sqlite_autoincrement=True,
)

source_secrets = Table(
    "source_secrets",
    metadata,
    Column("source_id", ForeignKey("sources.id", ondelete="CASCADE"), nullable=False),
    Column("secret_id", ForeignKey("secrets.id"), nullable=False, index=True),
    PrimaryKeyConstraint("source_id", "secret_id"),
)

# The last requests of each source, masked, with what became of them.
source_requests = Table(
    "source_requests",
    metadata,
    _id(),
    Column("source_id", ForeignKey("sources.id", ondelete="CASCADE"), nullable=False),
    Column("outcome", String(16), nullable=False),
    Column("reason", Text, nullable=True),
    # The events that it became, each with its type and id; null for none.
    Column("events", JSON(none_as_null=True), nullable=True),
    Column("sender", String(64), nullable=False, server_default=""),
    Column("headers", Json, nullable=False),
    Column("body_bytes", Integer, nullable=False),
    # Masked, and no more than its beginning; null where the sender proved nothing.
    Column("body", Text, nullable=True),
    _created(),
    Index("ix_source_requests_source_id_id", "source_id", "id"),
)

automations = Table(
    "automations",
    metadata,
    _id(),
    Column("entity_id", ForeignKey("entities.id", ondelete="CASCADE"), nullable=False),
    Column("name", String(255), nullable=False),
    Column("enabled", Boolean, nullable=False),
    Column("event_type", String(32), nullable=False),
    Column("scope_project", String(512), nullable=True),
    Column("scope_collection", String(512), nullable=True),
    Column("webhook_id", ForeignKey("webhooks.id"), nullable=True, index=True),
    Column("definition", Json, nullable=False),
    # Metric windows and cooldowns of an older epoch are void: the statement they were about has changed.
    Column("epoch", BigInteger, nullable=False),
    Column("revision", BigInteger, nullable=False, index=True),
    _created(),
    Column("updated_at", UtcDateTime, nullable=False),
    Column("deleted_at", UtcDateTime, nullable=True),
    # When it could not be matched last, and why: its filter cost too much, or its definition cannot be read.
    Column("unmatched_at", UtcDateTime, nullable=True),
    Column("unmatched_reason", Text, nullable=True),
    # A sample of a run that it ignored last, because it was not after its metric's last step, and when.
    Column("ignored_at", UtcDateTime, nullable=True),
    Column("ignored_sample", Json, nullable=True),
    # For how long a run is silent that it fires on; null where it does not.
    Column("silent_ms", BigInteger, nullable=True),
    # What its definition counts for among its entity's (domain.quotas); null: stored by an older version.
    Column("weight_bytes", Integer, nullable=True),
    Index("ix_automations_event_type", "event_type"),
    Index(
        "ix_automations_silent_ms",
        "silent_ms",
        postgresql_where=text("silent_ms IS NOT NULL"),
        sqlite_where=text("silent_ms IS NOT NULL"),
    ),
    Index(
        "uq_automations_live_name",
        "entity_id",
        "name",
        unique=True,
        postgresql_where=text("deleted_at IS NULL"),
        sqlite_where=text("deleted_at IS NULL"),
    ),
)

partitions = Table(
    "partitions",
    metadata,
    Column("partition", Integer, primary_key=True, autoincrement=False),
    Column("offset", String(48), nullable=False),
    Column("entries_read", BigInteger, nullable=False),
    Column("updated_at", UtcDateTime, nullable=False),
)

poison_entries = Table(
    "poison_entries",
    metadata,
    Column("partition", Integer, nullable=False),
    Column("entry_id", String(48), nullable=False),
    Column("reason", Text, nullable=False),
    Column("body", LargeBinary, nullable=False),
    _created(),
    PrimaryKeyConstraint("partition", "entry_id"),
    Index("ix_poison_entries_created_at", "created_at"),
)

# `key` is the run, the collection, or blank for the automation as a whole.
metric_windows = Table(
    "metric_windows",
    metadata,
    Column("automation_id", BigInteger, nullable=False),
    Column("key", Text, nullable=False),
    Column("epoch", BigInteger, nullable=False),
    Column("windows", LargeBinary, nullable=True),
    Column("last_fired_ms", BigInteger, nullable=True),
    Column("recent_firings", LargeBinary, nullable=True),
    Column("updated_at", UtcDateTime, nullable=False),
    PrimaryKeyConstraint("automation_id", "key"),
    Index("ix_metric_windows_updated_at", "updated_at"),
)


DEAD = ("dead", "refused")
"""The statuses of dead letters."""

# It stays null when a delivery is delivered: PostgreSQL then writes no new entries for its indexes (HOT).
_UNFULFILLED = Computed("CASE WHEN status IN ('dead', 'refused', 'skipped') THEN status END", persisted=True)


def _unfulfilled(name: str, *leading: str) -> Index:
    """An index of what was not delivered, which is little: lists of dead letters begin with one of these."""
    some = text("unfulfilled IS NOT NULL")
    return Index(name, *leading, "unfulfilled", "seq", postgresql_where=some, sqlite_where=some)


deliveries = Table(
    "deliveries",
    metadata,
    Column("seq", BigId, Identity(), primary_key=True),
    Column("id", String(32), nullable=False, unique=True),
    Column("entity_id", BigInteger, nullable=False),
    Column("automation_id", BigInteger, nullable=True),
    Column("webhook_id", BigInteger, nullable=True),
    Column("status", String(16), nullable=False),
    # The status where it is dead, refused or skipped.
    Column("unfulfilled", String(16), _UNFULFILLED),
    Column("reason", Text, nullable=True),
    Column("payload", Text, nullable=True),
    Column("event_id", String(512), nullable=False),
    Column("event_source", String(512), nullable=False),
    Column("event_type", String(32), nullable=False),
    # What it was about, as far as it has that; null in rows from before these were stored.
    Column("event_project", String(512), nullable=True),
    Column("event_run", String(512), nullable=True),
    Column("event_collection", String(512), nullable=True),
    Column("event_received_at", UtcDateTime, nullable=False),
    Column("attempts", Integer, nullable=False, server_default="0"),
    Column("replay_of", String(32), nullable=True),
    # The span that fired it, where HOOKLINE_OTEL is on (W3C Trace Context).
    Column("traceparent", String(55), nullable=True),
    _created(),
    Column("finished_at", UtcDateTime, nullable=True),
    Index("ix_deliveries_entity_id_seq", "entity_id", "seq"),
    Index("ix_deliveries_automation_id_seq", "automation_id", "seq"),
    Index("ix_deliveries_webhook_id_seq", "webhook_id", "seq"),
    Index("ix_deliveries_event_id", "event_id"),
    Index(
        "ix_deliveries_replay_of",
        "replay_of",
        postgresql_where=text("replay_of IS NOT NULL"),
        sqlite_where=text("replay_of IS NOT NULL"),
    ),
    _unfulfilled("ix_deliveries_unfulfilled", "entity_id"),
    _unfulfilled("ix_deliveries_unfulfilled_anyone"),
    _unfulfilled("ix_deliveries_unfulfilled_automation", "automation_id"),
    _unfulfilled("ix_deliveries_unfulfilled_webhook", "webhook_id"),
    # Room on each page for the ends of its rows: the new version of a row is to stay beside the old one.
    postgresql_with={"fillfactor": 50},
    sqlite_autoincrement=True,
)

# `next_attempt_at` is when the row may be claimed: a retry's time, or the end of the lease of who claimed it last.
pending_deliveries = Table(
    "pending_deliveries",
    metadata,
    Column("seq", BigInteger, primary_key=True, autoincrement=False),
    Column("webhook_id", BigInteger, nullable=False),
    Column("attempts", Integer, nullable=False, server_default="0"),
    Column("next_attempt_at", UtcDateTime, nullable=False),
    Column("claim", BigInteger, nullable=True),
    Index("ix_pending_deliveries_due", "webhook_id", "next_attempt_at", "seq"),
)

attempts = Table(
    "attempts",
    metadata,
    Column("delivery_seq", BigInteger, nullable=False),
    Column("number", Integer, nullable=False),
    # Two workers may both make attempt n when a lease ran out: both requests were sent, so both are kept.
    Column("claim", BigInteger, nullable=False),
    Column("started_at", UtcDateTime, nullable=False),
    Column("duration_ms", Integer, nullable=False),
    Column("outcome", String(16), nullable=False),
    Column("status_code", Integer, nullable=True),
    Column("error", Text, nullable=True),
    Column("response_body", Text, nullable=True),
    Column("response_truncated", Boolean, nullable=False, server_default=text("false")),
    # These two are null where no request could be made, and in rows from before they were kept.
    Column("request_url", Text, nullable=True),
    # JSON of headers, sizes, addresses and timings (domain.delivery.exchange).
    Column("exchange", Text, nullable=True),
    PrimaryKeyConstraint("delivery_seq", "number", "claim"),
    Index(
        "ix_attempts_internal",
        "started_at",
        postgresql_where=text("outcome = 'internal'"),
        sqlite_where=text("outcome = 'internal'"),
    ),
)

# Events of Hookline's own, such as a webhook's disabling: written in the transaction that makes them true, appended to
# their stream right after it, and only then deleted.
notices = Table(
    "notices",
    metadata,
    _id(),
    Column("event", Text, nullable=False),
    _created(),
)

audit_log = Table(
    "audit_log",
    metadata,
    _id(),
    _created(),
    # By name as well as by number: who did it stays readable when the user is gone.
    Column("user_id", BigInteger, nullable=False),
    Column("user_name", String(255), nullable=False),
    Column("entity_id", BigInteger, nullable=True),
    Column("action", String(64), nullable=False),
    Column("target", String(600), nullable=False),
    Column("detail", Json, nullable=True),
    # The name in `detail`; null in rows of older versions.
    Column("target_name", String(600), nullable=True),
    Index("ix_audit_log_entity_id_id", "entity_id", "id"),
    Index("ix_audit_log_created_at", "created_at"),
    # The last two members keep the order of a list, for one entity's page; the operator class serves kinds of actions.
    Index("ix_audit_log_user_name", "user_name", "entity_id", "id"),
    Index("ix_audit_log_target", "target", "entity_id", "id"),
    Index("ix_audit_log_target_name", "target_name", "entity_id", "id"),
    Index("ix_audit_log_action", "action", "entity_id", "id", postgresql_ops={"action": "varchar_pattern_ops"}),
)

# What automations and webhooks were: one row for each edit, written in the transaction of the edit.
kept_revisions = Table(
    "kept_revisions",
    metadata,
    _id(),
    _created(),
    Column("kind", String(16), nullable=False),
    Column("target_id", BigInteger, nullable=False),
    Column("entity_id", BigInteger, nullable=False),
    Column("revision", BigInteger, nullable=False),
    Column("change", String(16), nullable=False),
    Column("changed", Json, nullable=False),
    # Null where Hookline made the change itself.
    Column("user_name", String(255), nullable=True),
    Column("reason", Text, nullable=True),
    # Compressed JSON of what it was after the edit. It names secrets and never holds one.
    Column("content", LargeBinary, nullable=False),
    Index("ix_kept_revisions_target", "kind", "target_id", "id"),
    Index("ix_kept_revisions_created_at", "created_at"),
)

# Runs that Hookline watches for silence, by a digest of their subject: names may be longer than what an index takes.
# Times are those of Redis, which numbers the entries.
run_watches = Table(
    "run_watches",
    metadata,
    Column("key", String(32), primary_key=True),
    Column("partition", Integer, nullable=False),
    Column("entity", String(512), nullable=False),
    Column("project", String(512), nullable=False),
    # The event's `run`, as it was sent, or the least of it.
    Column("run", Text, nullable=False),
    Column("heartbeat_ms", BigInteger, nullable=True),
    # Of the newest state that counted: its entry, and a token of its event.
    Column("state_order", BigInteger, nullable=False),
    Column("start_token", BigInteger, nullable=False),
    # 0: it runs; 1: a state of a publisher ended it; 2: Hookline says that it crashed.
    Column("ended", SmallInteger, nullable=False),
    Column("seen_ms", BigInteger, nullable=False),
    Column("check_ms", BigInteger, nullable=True),
    # The longest silence that was published, and of which `seen_ms`.
    Column("told_ms", BigInteger, nullable=False, server_default="0"),
    Column("told_seen_ms", BigInteger, nullable=False, server_default="0"),
    Column("changed_at", UtcDateTime, nullable=False),
    Index("ix_run_watches_check_ms", "check_ms"),
    Index("ix_run_watches_changed_at", "changed_at"),
)

# Runs of the `wandb` client, by a digest of their subject: what has to be known between its requests.
wandb_runs = Table(
    "wandb_runs",
    metadata,
    Column("key", String(32), primary_key=True),
    Column("entity_id", ForeignKey("entities.id", ondelete="CASCADE"), nullable=False),
    Column("project", String(512), nullable=False),
    Column("run", String(512), nullable=False),
    # Of this row alone: the ids of the run's events begin with it, so that a run that was forgotten may come back.
    Column("token", String(16), nullable=False),
    # What the client said of the run, and the last summary, within bounds; both as JSON.
    Column("about", Text, nullable=False),
    Column("summary", Text, nullable=False, server_default="{}"),
    Column("state", String(16), nullable=False),
    Column("preempting", Boolean, nullable=False, server_default=text("false")),
    # How often it was started, and whether anything came since.
    Column("starts", Integer, nullable=False),
    Column("streamed", Boolean, nullable=False, server_default=text("false")),
    # The lines of its history, and the step of the last.
    Column("history_lines", BigInteger, nullable=False, server_default="0"),
    Column("last_step", BigInteger, nullable=True),
    # When `running` was published last.
    Column("told_at", UtcDateTime, nullable=False),
    Column("seen_at", UtcDateTime, nullable=False),
    _created(),
    Index("ix_wandb_runs_entity_id_seen_at", "entity_id", "seen_at"),
    Index("ix_wandb_runs_seen_at", "seen_at"),
)

# Evaluated events, many in a row, for as long as HOOKLINE_EVENT_LOG says. The streams hold the newest as well.
event_log = Table(
    "event_log",
    metadata,
    _id(),
    Column("partition", Integer, nullable=False),
    # The ids of the first and the last entry, as milliseconds and number.
    Column("first_ms", BigInteger, nullable=False),
    Column("first_number", BigInteger, nullable=False),
    Column("last_ms", BigInteger, nullable=False),
    Column("last_number", BigInteger, nullable=False),
    Column("entries", Integer, nullable=False),
    Column("content", LargeBinary, nullable=False),
    UniqueConstraint("partition", "first_ms", "first_number"),
    Index("ix_event_log_partition_last_ms", "partition", "last_ms"),
)

idempotency_keys = Table(
    "idempotency_keys",
    metadata,
    Column("user_id", ForeignKey("users.id", ondelete="CASCADE"), nullable=False),
    Column("key", String(255), nullable=False),
    Column("request_digest", LargeBinary(32), nullable=False),
    # Null while the first request with the key is underway.
    Column("status_code", Integer, nullable=True),
    Column("body", LargeBinary, nullable=True),
    _created(),
    PrimaryKeyConstraint("user_id", "key"),
    Index("ix_idempotency_keys_created_at", "created_at"),
)
