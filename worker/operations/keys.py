"""What `celery -A worker keys …` reads from the storage: API keys without their texts, and when they end."""

from __future__ import annotations

from datetime import timedelta

from sqlalchemy import Engine

from shared.domain.ids import IdKind, encode_id
from shared.storage.accounts.api_keys import StoredKey
from shared.storage.accounts.api_keys import list_keys as stored_keys
from shared.storage.database.clock import database_time
from shared.storage.database.transactions import read_transaction
from shared.storage.schema.tables import api_keys
from worker.operations.audit import Row

AT_ONCE = 1_000


def list_keys(engine: Engine, ends_within: timedelta | None) -> list[Row]:
    """List the keys that are not revoked; or those of them that end within a time, or have ended."""
    found: list[StoredKey] = []
    with read_transaction(engine) as connection:
        now = database_time(connection)
        of = None if ends_within is None else api_keys.c.expires_at <= now + ends_within
        while page := stored_keys(connection, of=of, after=found[-1].id if found else 0, limit=AT_ONCE):
            found += page
    if ends_within is not None:
        found.sort(key=lambda key: (key.expires_at is None, key.expires_at))
    return [
        {
            "id": encode_id(IdKind.KEY, key.id),
            "name": key.name,
            "user": key.user_name,
            "hint": key.hint,
            "state": "expired" if key.expires_at is not None and key.expires_at <= now else "active",
            "created_at": key.created_at,
            "last_used_at": key.last_used_at,
            "expires_at": key.expires_at,
        }
        for key in found
    ]
