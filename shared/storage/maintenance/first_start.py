"""Preparing a database for its first use: the schema, the partitions' rows, the first admin key."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Connection, insert, select, update

from shared.domain.errors import HooklineError
from shared.domain.ids import IdKind, encode_id
from shared.observability.logs import get_logger
from shared.settings import Settings
from shared.storage.accounts.api_keys import create_key, hash_key, new_key
from shared.storage.accounts.audit_log import NewChange, insert_changes
from shared.storage.accounts.members import has_instance_admin
from shared.storage.database.engine import open_engine
from shared.storage.database.transactions import read_transaction, write_transaction
from shared.storage.evaluation.offsets import seed_partitions
from shared.storage.maintenance import installation
from shared.storage.schema.migrate import current_revision, migrate
from shared.storage.schema.tables import api_keys, users
from shared.vault import load_or_create_keys

ADMIN_NAME = "admin"
STARTER = "hookline (first start)"
"""The actor that the audit log names for the first administrator."""

log = get_logger("hookline.init")


class AdminKeyMissing(HooklineError):
    """Nobody can administer the instance yet, and a key must not be generated here."""


@dataclass(frozen=True, slots=True)
class Prepared:
    """What was done to a database."""

    key: str | None
    """The text of the admin key that was generated, to be shown once; None when none was."""
    schema_before: str | None
    schema_after: str | None

    @property
    def schema_line(self) -> str:
        """The schema's way, in a line for people."""
        if self.schema_before is None:
            return f"created: schema {self.schema_after}"
        if self.schema_before == self.schema_after:
            return f"already initialised: schema {self.schema_after}"
        return f"migrated: schema {self.schema_before} to {self.schema_after}"


def prepare(
    settings: Settings,
    *,
    embedded: bool = False,
    make_keys: bool = False,
    adopt: bool = False,
    require_admin_key: bool = False,
) -> Prepared:
    """Migrate the database to this version's schema, and make sure that an instance admin with a key exists.

    If HOOKLINE_ADMIN_API_KEY is set it becomes a key of the administrator `admin`, beside others that there may be.
    Where there are other administrators, an `admin` that was deleted is not made again.

    Args:
        settings: the process's.
        embedded: whether the streams are in the data directory's own Valkey.
        make_keys: whether to make the data directory's vault key where there is none and nothing was encrypted.
        adopt: whether to take this database, data directory and keys as belonging together, though they did not.
        require_admin_key: whether to refuse instead of generating a key.

    Raises:
        StateLost: when database, data directory and keys do not belong together.
        AdminKeyMissing: when a key would have to be generated and must not; the schema is migrated by then.
    """
    engine = open_engine(settings)
    beside = embedded or make_keys or adopt or settings.database_url is None
    try:
        if beside:
            installation.check_before_migration(engine, settings, adopt=adopt)
        if make_keys:
            installation.check_missing_keys(engine, settings)
            load_or_create_keys(settings)
        with read_transaction(engine) as connection:
            before = current_revision(connection)
        migrate(engine)
        with write_transaction(engine) as connection:
            now = datetime.now(UTC)
            token = installation.join(connection, settings, now, embedded=embedded, adopt=adopt)
            seed_partitions(connection, settings.partitions, now)
            key = _ensure_admin(connection, settings, now)
            if key is not None and require_admin_key:
                raise AdminKeyMissing(
                    "HOOKLINE_ADMIN_API_KEY: is required where nobody administers the instance yet, such as "
                    "hlk-$(openssl rand -hex 32); it becomes a key of the user admin"
                )
            after = current_revision(connection)
        if beside and settings.data_dir.is_dir():
            installation.write_marker(settings, token)
        return Prepared(key, before, after)
    finally:
        engine.dispose()


def _ensure_admin(connection: Connection, settings: Settings, now: datetime) -> str | None:
    """Make a key of `admin`: the configured one, or a new one where nobody can administer the instance."""
    row = connection.execute(select(users.c.id, users.c.is_admin).where(users.c.name == ADMIN_NAME)).first()
    administered = has_instance_admin(connection)
    configured = None if settings.admin_api_key is None else settings.admin_api_key.get_secret_value()
    if administered and (row is None or not row.is_admin):
        if configured is not None and not _is_stored(connection, configured):
            log.warning(
                "admin_key.ignored", reason=f"there is no administrator {ADMIN_NAME!r} any more, but others are"
            )
        return None
    admin_id = _administrator(connection, row, now)
    if configured is not None and not _is_stored(connection, configured):
        _store_key(connection, admin_id, "HOOKLINE_ADMIN_API_KEY", configured, now)
        return None
    if administered or has_instance_admin(connection):
        return None
    text = new_key()
    _store_key(connection, admin_id, "first admin key", text, now)
    return text


def _administrator(connection: Connection, row: Any, now: datetime) -> int:
    """The number of the user `admin`, who administers the instance from now on if that was not so."""
    if row is None:
        added = insert(users).values(name=ADMIN_NAME, is_admin=True, created_at=now).returning(users.c.id)
        number = int(connection.execute(added).scalar_one())
        _record(connection, "user.create", encode_id(IdKind.USER, number), now, name=ADMIN_NAME, is_admin=True)
        return number
    if not row.is_admin:
        connection.execute(update(users).where(users.c.id == row.id).values(is_admin=True))
        _record(connection, "user.update", encode_id(IdKind.USER, row.id), now, name=ADMIN_NAME, is_admin=True)
    return int(row.id)


def _is_stored(connection: Connection, text: str) -> bool:
    return connection.scalar(select(api_keys.c.id).where(api_keys.c.digest == hash_key(text))) is not None


def _store_key(connection: Connection, admin_id: int, name: str, text: str, now: datetime) -> None:
    number = create_key(connection, user_id=admin_id, name=name, text=text, now=now)
    _record(connection, "key.create", encode_id(IdKind.KEY, number), now, name=name, user=ADMIN_NAME)


def _record(connection: Connection, action: str, target: str, now: datetime, **detail: object) -> None:
    change = NewChange(
        user_id=0, user_name=STARTER, entity_id=None, action=action, target=target, detail=detail, now=now
    )
    insert_changes(connection, [change])
