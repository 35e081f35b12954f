"""Claiming due deliveries under a lease."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from typing import NamedTuple

from sqlalchemy import Connection, Select, bindparam, exists, select

from shared.storage.database.bulk import among_given, as_recordset, is_postgresql, json_list
from shared.storage.delivery.postgresql import CLAIM_MANY_SQL, CLAIM_SQL
from shared.storage.delivery.sqlite import claim_due, closed_circuits
from shared.storage.schema.tables import pending_deliveries, webhooks

MAX_CLAIM_BYTES = 8 << 20
"""How many bytes of payloads are claimed at a time, where the caller does not say less. A payload may have megabytes;
hundreds of them would be more than a worker's memory; half of this would end claims of payloads of 16 kB early."""


@dataclass(frozen=True, slots=True)
class ClaimedDelivery:
    """A delivery that this worker may attempt until its lease ends."""

    seq: int
    id: str
    payload: str
    attempts: int
    event_received_at: datetime
    due_at: datetime
    """Since when it was due; it is due again by this time if it is released."""
    automation_id: int | None
    entity: str
    event_id: str
    event_source: str
    event_type: str
    traceparent: str | None = None


def claim(
    connection: Connection,
    webhook_id: int,
    *,
    limit: int,
    now: datetime,
    lease_until: datetime,
    token: int,
    max_bytes: int = MAX_CLAIM_BYTES,
) -> list[ClaimedDelivery]:
    """Claim up to `limit` due deliveries of a webhook, longest due first, until a lease ends.

    Rows that another worker is claiming are skipped. A paused or disabled webhook yields none, so pausing takes effect
    with its commit, for drains at work too.

    Args:
        connection: on PostgreSQL for one statement, on SQLite for a transaction that writes.
        webhook_id: whose deliveries.
        limit: the most deliveries.
        now: the database's time; what is due by it is claimed.
        lease_until: when the claim ends by itself.
        token: a random number that tells this claim from others; recording asks for it.
        max_bytes: the claim ends with the delivery whose payload reaches this, so it has one at least.

    Returns:
        The claimed deliveries in the order of their `seq`.
    """
    if is_postgresql(connection):
        given = {"webhook_id": webhook_id, "limit": limit, "now": now, "lease_until": lease_until, "token": token}
        return [ClaimedDelivery(*row) for row in connection.execute(CLAIM_SQL, given | {"max_bytes": max_bytes})]
    rows = claim_due(
        connection, webhook_id, limit=limit, now=now, lease_until=lease_until, token=token, max_bytes=max_bytes
    )
    return [ClaimedDelivery(*row) for row in rows]


class WantedClaim(NamedTuple):
    """How much is to be claimed of one webhook."""

    webhook_id: int
    limit: int
    lease_until: datetime


def claim_many(
    connection: Connection,
    wanted: Sequence[WantedClaim],
    *,
    now: datetime,
    token: int,
    max_bytes: int = MAX_CLAIM_BYTES,
) -> dict[int, list[ClaimedDelivery]]:
    """Claim due deliveries of many webhooks, of each as `claim` does.

    Those whose circuit is open or half open yield none, since a claim for them has to be admitted.

    Args:
        connection: on PostgreSQL for one statement, on SQLite for a transaction that writes.
        wanted: one for each webhook.
        now: the database's time; what is due by it is claimed.
        token: a random number that tells this claim from others.
        max_bytes: how many bytes of payloads all of it may have, as for `claim`.

    Returns:
        The claimed deliveries of each webhook of which there are any, in the order of their `seq`.
    """
    claimed: dict[int, list[ClaimedDelivery]] = {}
    if not is_postgresql(connection):
        closed = set(closed_circuits(connection, [one.webhook_id for one in wanted]))
        for one in wanted:
            if one.webhook_id not in closed or max_bytes <= 0:
                continue
            found = claim(
                connection,
                one.webhook_id,
                limit=one.limit,
                now=now,
                lease_until=one.lease_until,
                token=token,
                max_bytes=max_bytes,
            )
            if found:
                claimed[one.webhook_id] = found
                max_bytes -= sum(len(delivery.payload) for delivery in found)
        return claimed
    rows = [{"id": one.webhook_id, "wanted": one.limit, "lease_until": one.lease_until} for one in wanted]
    given = {"webhooks": as_recordset(rows), "now": now, "token": token, "max_bytes": max_bytes}
    for webhook_id, *members in connection.execute(CLAIM_MANY_SQL, given):
        claimed.setdefault(webhook_id, []).append(ClaimedDelivery(*members))
    return claimed


def webhooks_with_due(connection: Connection, webhook_ids: Collection[int], now: datetime) -> list[int]:
    """Those of these webhooks that have a due delivery. Costs one index look-up for each."""
    given = {"ids": json_list(webhook_ids), "now": now}
    return list(connection.scalars(_with_due(as_array=is_postgresql(connection)), given))


@lru_cache(maxsize=2)
def _with_due(*, as_array: bool) -> Select[tuple[int]]:
    has_due = exists().where(
        pending_deliveries.c.webhook_id == webhooks.c.id, pending_deliveries.c.next_attempt_at <= bindparam("now")
    )
    return select(webhooks.c.id).where(among_given(webhooks.c.id, "ids", as_array=as_array), has_due)
