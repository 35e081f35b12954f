"""What stands on top of every page of an entity while it matters: webhooks that get nothing, and evaluation that lags.

A reader may take an alert away; the next one of its kind is shown again.
"""

from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from redis.exceptions import RedisError
from sqlalchemy import Connection, Engine
from sqlalchemy.exc import SQLAlchemyError

from shared.domain.health_checks import CHECKS, OPEN_SECONDS
from shared.health.presence import open_presence_redis
from shared.messaging.streams import read_lags
from shared.settings import Settings
from shared.storage.database.clock import database_time
from shared.storage.database.transactions import read_transaction
from shared.storage.definitions.webhook_fields import WebhookKind, public_id
from shared.storage.delivery.webhook_alerts import SilentWebhook, silent_webhooks
from shared.storage.evaluation.offsets import read_all_offsets

MAX_ALERTS = 4
"""More of them would hide the page."""
KEPT_SECONDS = 10.0
"""However many pages are looked at, the lag is read no more often."""
_LAG_SECONDS = next(check.threshold for check in CHECKS if check.name == "evaluation_lag")
_KEY_CHARS = 12


@dataclass(frozen=True, slots=True)
class Alert:
    """One of them. What it is about is either a webhook or the lag."""

    key: str
    """The same for as long as it is the same trouble."""
    webhook: SilentWebhook | None = None
    lag: timedelta | None = None

    @property
    def path(self) -> str:
        """Where to look, below the entity's pages."""
        if self.webhook is None:
            return "/why"
        kind = WebhookKind(self.webhook.kind)
        section = "slack" if kind is WebhookKind.SLACK else "webhooks"
        return f"/settings/{section}/{public_id(kind, self.webhook.id)}"


class LagWatch:
    """How far evaluation is behind, by the oldest event that is not evaluated. Any thread may ask."""

    def __init__(self) -> None:
        self._looking = threading.Lock()
        self._until = 0.0
        self._lag: timedelta | None = None

    def current(self, settings: Settings, engine: Engine) -> timedelta | None:
        """The lag of a moment ago; None while it can't be read. Nobody waits for somebody else's look."""
        if time.monotonic() >= self._until and self._looking.acquire(blocking=False):
            try:
                self._lag = _read_lag(settings, engine)
                self._until = time.monotonic() + KEPT_SECONDS
            finally:
                self._looking.release()
        return self._lag


def _read_lag(settings: Settings, engine: Engine) -> timedelta | None:
    try:
        with read_transaction(engine) as connection:
            offsets, now = read_all_offsets(connection, settings.partitions), database_time(connection)
        redis = open_presence_redis(settings)
        try:
            lags = read_lags(redis, offsets, now.timestamp())
        finally:
            redis.close()
    except (SQLAlchemyError, RedisError, OSError):
        return None
    return timedelta(seconds=max((lag.seconds for lag in lags.values()), default=0.0))


def alerts_of(
    connection: Connection, entity_id: int, lag: timedelta | None, now: datetime, hidden: Collection[str]
) -> list[Alert]:
    """The alerts of an entity that the reader has not taken away."""
    opened_before = now - timedelta(seconds=OPEN_SECONDS)
    found = [
        Alert(_key("disabled" if one.disabled_reason else "open", str(one.id), one.since.isoformat()), webhook=one)
        for one in silent_webhooks(connection, entity_id, opened_before=opened_before, limit=MAX_ALERTS + len(hidden))
    ]
    if lag is not None and lag.total_seconds() > _LAG_SECONDS:
        found.insert(0, Alert(_key("lag", now.strftime("%Y-%m-%d %H")), lag=lag))
    return [alert for alert in found if alert.key not in hidden][:MAX_ALERTS]


def _key(*parts: str) -> str:
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:_KEY_CHARS]


def version_of(alerts: Sequence[Alert]) -> str:
    """Tells whether the alerts are those that a page shows already."""
    return "".join(alert.key for alert in alerts) or "none"
