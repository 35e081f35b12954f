"""Preparing a database for its first use: the schema, the partitions' rows, the first admin key."""

from __future__ import annotations

from datetime import UTC, datetime

from sqlalchemy import Connection, insert, select

from shared.settings import Settings
from shared.storage.accounts.api_keys import create_key, hash_key, new_key
from shared.storage.database.engine import open_engine
from shared.storage.database.transactions import write_transaction
from shared.storage.evaluation.offsets import seed_partitions
from shared.storage.schema.migrate import migrate
from shared.storage.schema.tables import api_keys, users

ADMIN_NAME = "admin"


def prepare(settings: Settings) -> str | None:
    """Migrate the database to this version's schema, and make sure that an instance admin with a key exists.

    If HOOKLINE_ADMIN_API_KEY is set it becomes a key of that admin, beside others that there may be.

    Returns:
        The text of the key that was generated, to be shown once; None when none was.
    """
    engine = open_engine(settings)
    try:
        migrate(engine)
        with write_transaction(engine) as connection:
            now = datetime.now(UTC)
            seed_partitions(connection, settings.partitions, now)
            return _ensure_admin(connection, settings, now)
    finally:
        engine.dispose()


def _ensure_admin(connection: Connection, settings: Settings, now: datetime) -> str | None:
    admin_id = connection.scalar(select(users.c.id).where(users.c.name == ADMIN_NAME))
    if admin_id is None:
        admin_id = connection.execute(
            insert(users).values(name=ADMIN_NAME, is_admin=True, created_at=now).returning(users.c.id)
        ).scalar_one()
    if settings.admin_api_key is not None:
        text = settings.admin_api_key.get_secret_value()
        if connection.scalar(select(api_keys.c.id).where(api_keys.c.digest == hash_key(text))) is None:
            create_key(connection, user_id=admin_id, name="HOOKLINE_ADMIN_API_KEY", text=text, now=now)
        return None
    if connection.scalar(select(api_keys.c.id).where(api_keys.c.user_id == admin_id).limit(1)) is not None:
        return None
    text = new_key()
    create_key(connection, user_id=admin_id, name="first admin key", text=text, now=now)
    return text
