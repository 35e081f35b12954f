"""Quotas of entities: no change may pass them; instance administrators set them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from pydantic import Field
from sqlalchemy import Connection

from dispatcher.control.bodies import Body, View
from dispatcher.control.errors import QuotaExceeded
from shared.domain.errors import FieldError
from shared.domain.quotas import DEFAULT_LIMITS, EVENTS_PER_SECOND, MAX_LIMIT, Quota, exceeded, limits_of
from shared.storage.definitions.entities import StoredEntity
from shared.storage.definitions.quotas import read_own_limits, read_uses

_UNITS = {
    Quota.AUTOMATIONS: "automations",
    Quota.WEBHOOKS: "webhooks and Slack integrations",
    Quota.SECRETS: "secrets",
    Quota.SOURCES: "sources",
    Quota.DEFINITION_BYTES: "bytes of automations' definitions",
}


class QuotaView(View):
    """One quota of an entity."""

    limit: int
    """The most that the entity may have."""
    used: int


def _limit(quota: Quota) -> Any:
    return Field(default=None, ge=0, le=MAX_LIMIT, description=f"{DEFAULT_LIMITS[quota]} by default.")


class QuotasBody(Body):
    """Limits of an entity; null sets the default."""

    automations: int | None = _limit(Quota.AUTOMATIONS)
    webhooks: int | None = _limit(Quota.WEBHOOKS)
    secrets: int | None = _limit(Quota.SECRETS)
    sources: int | None = _limit(Quota.SOURCES)
    definition_bytes: int | None = _limit(Quota.DEFINITION_BYTES)
    events_per_second: int | None = Field(
        default=None, ge=1, le=MAX_LIMIT, description="Events that it publishes over HTTP; no limit by default."
    )


@contextmanager
def within_quotas(connection: Connection, entity: StoredEntity) -> Iterator[None]:
    """Let the block add to an entity what its quotas permit. The caller holds `lock_edits`.

    Raises:
        QuotaExceeded: after the block; the transaction must not be committed then.
    """
    before = read_uses(connection, entity.id)
    yield
    after = read_uses(connection, entity.id)
    limits = limits_of(read_own_limits(connection, entity.id))
    if passed := exceeded(limits, before, after):
        raise QuotaExceeded(
            f"{entity.name!r} would pass its quotas, which an instance administrator can change",
            *(
                FieldError((quota.value,), f"at most {limits[quota]} {_UNITS[quota]}; it has {before[quota]} of them")
                for quota in passed
            ),
        )


def event_rate(connection: Connection, entity: StoredEntity) -> int | None:
    """The most events that the entity may publish in a second; None: no limit."""
    return read_own_limits(connection, entity.id).get(EVENTS_PER_SECOND)


def quota_views(connection: Connection, entity: StoredEntity) -> dict[str, QuotaView]:
    """The entity's quotas, by name."""
    limits, uses = limits_of(read_own_limits(connection, entity.id)), read_uses(connection, entity.id)
    return {quota.value: QuotaView(limit=limits[quota], used=uses[quota]) for quota in Quota}
