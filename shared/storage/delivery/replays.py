"""Replays of many deliveries, as a whole: how far one has come, and ending what waits of it.

The deliveries of one replay were stored in one transaction: their numbers lie in a range, and were created at the
same moment. Others may have drawn numbers in between.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import ColumnElement, Connection, and_, func, select

from shared.storage.delivery.abandon import end_pending
from shared.storage.delivery.delivery_filter import DeliveryStatus
from shared.storage.schema.tables import deliveries, pending_deliveries

MAX_RANGE = 1_000_000
"""Numbers between the first and the last delivery of a replay: more than any transaction draws beside one."""


@dataclass(frozen=True, slots=True)
class StoredReplay:
    """The deliveries of one replay."""

    entity_id: int
    first: int
    last: int
    """The numbers of the first and the last delivery."""
    created_at: datetime

    @property
    def members(self) -> ColumnElement[bool]:
        """A condition on deliveries: those of this replay."""
        return and_(
            deliveries.c.entity_id == self.entity_id,
            deliveries.c.seq.between(self.first, self.last),
            deliveries.c.replay_of.is_not(None),
            deliveries.c.created_at == self.created_at,
        )


@dataclass(frozen=True, slots=True)
class ReplayProgress:
    """How many of its deliveries have each status, and when the last that waits is due."""

    statuses: dict[str, int]
    last_due_at: datetime | None


def delivery_numbers(connection: Connection, ids: Sequence[str]) -> list[int]:
    """The numbers of deliveries, sorted."""
    query = select(deliveries.c.seq).where(deliveries.c.id.in_(ids)).order_by(deliveries.c.seq)
    return list(connection.scalars(query))


def find_replay(connection: Connection, entity_id: int, first: int, last: int) -> StoredReplay | None:
    """The entity's replay whose first and last delivery have these numbers."""
    if not first <= last <= first + MAX_RANGE:
        return None
    query = select(deliveries.c.created_at).where(
        deliveries.c.seq.in_({first, last}), deliveries.c.entity_id == entity_id, deliveries.c.replay_of.is_not(None)
    )
    found = list(connection.scalars(query))
    if len(found) != len({first, last}) or len(set(found)) != 1:
        return None
    return StoredReplay(entity_id, first, last, found[0])


def read_progress(connection: Connection, replay: StoredReplay) -> ReplayProgress:
    """How far a replay has come."""
    counts = (
        select(deliveries.c.status, func.count().label("amount")).where(replay.members).group_by(deliveries.c.status)
    )
    due = (
        select(func.max(pending_deliveries.c.next_attempt_at))
        .join(deliveries, deliveries.c.seq == pending_deliveries.c.seq)
        .where(replay.members)
    )
    statuses = {row.status: row.amount for row in connection.execute(counts)}
    return ReplayProgress(statuses, connection.scalar(due))


def stop_replay(connection: Connection, replay: StoredReplay, *, reason: str, now: datetime) -> int:
    """Hold back what waits of a replay, except attempts underway; returns how many deliveries."""
    which = pending_deliveries.c.seq.in_(select(deliveries.c.seq).where(replay.members))
    return end_pending(connection, which, DeliveryStatus.SKIPPED, reason, now)
