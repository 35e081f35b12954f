"""The callers of an API process by their keys: looked up in the database, and remembered for a few seconds."""

from __future__ import annotations

from collections.abc import Collection
from concurrent import futures
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from time import monotonic

from sqlalchemy import Engine
from sqlalchemy.exc import SQLAlchemyError

from dispatcher.control.access import publishable
from shared.domain.errors import HooklineError
from shared.observability.logs import get_logger
from shared.storage.accounts.api_keys import find_expiry, touch_key
from shared.storage.accounts.users import Principal, find_principal
from shared.storage.database.transactions import read_transaction, write_transaction

REMEMBERED_SECONDS = 5.0
"""How long a caller is taken as known: as long a revoked key still works in other processes. Twice as long halves the
look-ups of a busy publisher, which are rare already."""
TOLD_BEFORE = timedelta(days=14)
"""How long before a key ends its user is told so, with each answer."""
KEY_EXPIRES_AT = "key_expires_at"
"""Where the state of a request has that time, once it is near."""
TOUCH_SECONDS = 600.0
"""How often the time of a key's last use is stored: it is for people, and a write for each request would be dear."""
TOUCH_WAIT_SECONDS = 1.0
MAX_REMEMBERED = 10_000
"""The number of keys at which all are dropped: callers are then looked up again, once each."""

log = get_logger("hookline.api")


class KeyExpired(HooklineError):
    """The key was valid until a time that has passed."""

    def __init__(self, expired_at: datetime) -> None:
        super().__init__(f"this API key expired at {expired_at:%Y-%m-%dT%H:%M:%SZ}: make another one")


@dataclass(slots=True)
class Caller:
    """A principal, until when it is taken as known, and the entities that it was found to be able to publish to."""

    principal: Principal
    until: float
    touched: float
    expires_at: datetime | None = None
    """When the key ends by itself; None: never."""
    publishes: set[str] = field(default_factory=set)


class CallerCache:
    """The callers of one process. A revoked key works for `REMEMBERED_SECONDS` at most.

    The event loop calls `known`, and threads of the pool call the other methods. They share `_known` without a lock,
    since each step on a dictionary is atomic: two threads that look up the same key store equal callers.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._touching = futures.ThreadPoolExecutor(1, thread_name_prefix="touch-keys")
        self._last_touch: futures.Future[None] | None = None
        self._known: dict[bytes, Caller] = {}

    def known(self, digest: bytes) -> Caller | None:
        """The caller of a key's digest if it was looked up a moment ago."""
        caller = self._known.get(digest)
        return caller if caller is not None and monotonic() < caller.until else None

    def look_up(self, digest: bytes) -> Caller | None:
        """The caller of a key's digest, from the database; None when there is no such key.

        Raises:
            KeyExpired: when the key has ended by itself.
        """
        with read_transaction(self._engine) as connection:
            at = datetime.now(UTC)
            principal, expires_at = find_principal(connection, digest, now=at), find_expiry(connection, digest)
        if principal is None:
            self._known.pop(digest, None)
            if expires_at is not None:
                raise KeyExpired(expires_at)
            return None
        now, before = monotonic(), self._known.get(digest)
        remembered = REMEMBERED_SECONDS
        if expires_at is not None:
            remembered = min(remembered, (expires_at - at).total_seconds())
            if expires_at - at < TOLD_BEFORE and (before is None or before.expires_at is None):
                # Once for each process and key, until nobody has used it for a while.
                log.warning("key.expires_soon", user=principal.user_name, expires_at=expires_at)
        caller = Caller(principal, now + remembered, before.touched if before else float("-inf"), expires_at)
        if now - caller.touched >= TOUCH_SECONDS:
            caller.touched = now
            self._touch_soon(digest)
        if len(self._known) >= MAX_REMEMBERED:
            self._known.clear()
        self._known[digest] = caller
        return caller

    def refused_entities(self, caller: Caller, names: Collection[str]) -> frozenset[str]:
        """The entities that the caller may not publish to; the permitted ones are remembered with the caller."""
        unknown = [name for name in names if name not in caller.publishes]
        if not unknown:
            return frozenset()
        with read_transaction(self._engine) as connection:
            allowed = publishable(connection, caller.principal, unknown)
        caller.publishes |= allowed
        return frozenset(unknown) - allowed

    def _touch_soon(self, digest: bytes) -> None:
        """Store that a key is in use. No request waits long for that: an edit may hold SQLite's only write lock."""
        waits = self._last_touch is not None and not self._last_touch.done()
        self._last_touch = touch = self._touching.submit(self._touch, digest)
        if not waits:
            futures.wait([touch], timeout=TOUCH_WAIT_SECONDS)

    def _touch(self, digest: bytes) -> None:
        try:
            with write_transaction(self._engine) as connection:
                touch_key(connection, digest, datetime.now(UTC))
        except SQLAlchemyError as exc:
            log.warning("key.not_touched", error=type(exc).__name__)

    def close(self) -> None:
        """Store no more."""
        self._touching.shutdown(cancel_futures=True)

    def clear(self) -> None:
        """Drop all callers, since keys or roles have changed."""
        self._known.clear()
