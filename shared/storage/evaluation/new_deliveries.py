"""New deliveries of an evaluated batch: which of them exist, and storing the others.

All of a batch's writes belong in one transaction that begins with `advance_offset`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from functools import lru_cache
from typing import Any, NotRequired, TypedDict

from sqlalchemy import (
    Connection,
    Select,
    select,
)

from shared.storage.database.bulk import among_given, as_recordset, is_postgresql, json_list
from shared.storage.evaluation import postgresql, sqlite
from shared.storage.schema.tables import (
    deliveries,
)


def find_existing(connection: Connection, ids: Sequence[str]) -> set[str]:
    """Those of the ids that deliveries have already, since their events were evaluated before."""
    if not ids:
        return set()
    return set(connection.scalars(_existing(as_array=is_postgresql(connection)), {"ids": json_list(ids)}))


@lru_cache(maxsize=2)
def _existing(*, as_array: bool) -> Select[tuple[str]]:
    return select(deliveries.c.id).where(among_given(deliveries.c.id, "ids", as_array=as_array))


class NewDelivery(TypedDict):
    """A delivery as it is stored when an automation fires. All rows of a batch have the same keys in the same order."""

    id: str
    entity_id: int
    automation_id: int
    webhook_id: int | None
    """None for an action without a webhook."""
    status: str
    """`pending` where a request is to be made; else how it ended at once: `delivered`, `skipped` or `refused`."""
    reason: str | None
    payload: str | None
    """Sealed: secrets are references. None for an action without a webhook, and where it would be too large."""
    event_id: str
    event_source: str
    event_type: str
    event_project: str | None
    event_run: str | None
    event_collection: str | None
    event_received_at: datetime
    created_at: datetime
    finished_at: datetime | None
    traceparent: NotRequired[str]
    """The span of the firing, in workers that trace."""


@dataclass(frozen=True, slots=True)
class NewClaims:
    """The webhooks whose deliveries are claimed as they are stored, with the claim's token and the end of its lease."""

    webhook_ids: tuple[int, ...]
    token: int
    lease_until: datetime


def insert_deliveries(
    connection: Connection, rows: Sequence[NewDelivery], claim: NewClaims | None = None
) -> dict[str, int]:
    """Store new deliveries, the pending ones claimed, or due now. A delivery that exists is left as it is.

    Args:
        connection: of a transaction that writes, after `advance_offset`.
        rows: the columns of each delivery, the same for all of them.
        claim: which of them are claimed; None for none.

    Returns:
        The `seq` of those that were stored and are claimed, by their ids.
    """
    if not rows:
        return {}
    claimed: dict[str, Any] = (
        {"webhook_ids": [], "token": None, "lease_until": None} if claim is None else asdict(claim)
    )
    if not is_postgresql(connection):
        return sqlite.insert_pending(connection, rows, **claimed)
    given = {"rows": as_recordset(rows), **claimed, "webhook_ids": list(claimed["webhook_ids"])}
    return {row.id: row.seq for row in connection.execute(postgresql.insert_pending_statement(tuple(rows[0])), given)}
