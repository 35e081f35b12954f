"""Hurts that concern one webhook, one secret, one entry or one key."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta

from cryptography.fernet import Fernet

from shared.domain.health_checks import RECENT_SECONDS
from shared.messaging.streams import FIELD, stream_key
from tests.day.installation import Installation
from tests.day.traffic import SECRET, SECRET_VALUE
from tests.monitoring.traffic import BASE


@contextmanager
def refusing(day: Installation) -> Iterator[None]:
    """An endpoint refuses every delivery for good."""
    with day.traffic.failing("refusing"):
        yield
    day.pass_time("deliveries", "finished_at", RECENT_SECONDS)


@contextmanager
def gone(day: Installation) -> Iterator[None]:
    """An endpoint says that it is gone; the webhook is enabled again when it is back."""
    with day.traffic.failing("gone"):
        yield
    with day.api() as api:
        api.patch(f"{BASE}/webhooks/by-name/gone", json={"enabled": True}).raise_for_status()
    day.pass_time("deliveries", "finished_at", RECENT_SECONDS)


@contextmanager
def broken(day: Installation) -> Iterator[None]:
    """An endpoint fails for a while."""
    with day.traffic.failing("broken"):
        yield


@contextmanager
def unusable(day: Installation) -> Iterator[None]:
    """Somebody changed a URL in the database."""
    url = f"{day.receiver.url}/lost"
    day.sql("UPDATE webhooks SET url = 'no url', revision = revision + 1 WHERE name = 'lost'")
    with day.traffic.at(lost=1):
        yield
    with day.api() as api:
        api.patch(f"{BASE}/webhooks/by-name/lost", json={"url": url}).raise_for_status()


@contextmanager
def sealed(day: Installation) -> Iterator[None]:
    """A secret is put anew by an API that has a key which the workers lack: keys were rotated in the wrong order."""
    old = day.settings.secret_keys
    assert old is not None
    keys = f"{Fernet.generate_key().decode()},{old.get_secret_value()}"
    with day.another_api(secret_keys=keys) as api:
        api.put(f"{BASE}/secrets/{SECRET}", json={"value": SECRET_VALUE}).raise_for_status()
    with day.traffic.at(sealed=1):
        yield
    with day.api() as mended:
        mended.put(f"{BASE}/secrets/{SECRET}", json={"value": SECRET_VALUE}).raise_for_status()


@contextmanager
def poison(day: Installation) -> Iterator[None]:
    """A backend appends what is no event."""
    with day.redis() as redis:
        redis.xadd(stream_key(0), {FIELD: b"no event"})
    yield
    day.pass_time("poison_entries", "created_at", RECENT_SECONDS)


@contextmanager
def ending_key(day: Installation) -> Iterator[None]:
    """A key made long ago ends soon."""
    ends = (datetime.now(UTC) + timedelta(days=3)).isoformat()
    with day.api() as api:
        made = api.post("/v1/keys", json={"name": "ends soon", "expires_at": ends}).raise_for_status().json()
        day.sql("UPDATE api_keys SET created_at = created_at - interval '30 days' WHERE name = 'ends soon'")
        yield
        api.delete(f"/v1/keys/{made['id']}").raise_for_status()
