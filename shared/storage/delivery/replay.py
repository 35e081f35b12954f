"""Replaying deliveries: each becomes a new delivery that names the old one."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import (
    Connection,
    Select,
    String,
    column,
    exists,
    insert,
    literal,
    select,
    values,
)

from shared.storage.database.columns import BigId
from shared.storage.delivery.delivery_filter import DeliveryFilter, DeliveryStatus, matching_deliveries, seq_range
from shared.storage.delivery.history import new_delivery_id
from shared.storage.schema.tables import deliveries, pending_deliveries, webhooks

_CHUNK = 1000
"""Replays inserted by one statement, with two variables each; SQLite allows 32,766."""


def list_replayable(
    connection: Connection, entity_id: int | None, wanted: DeliveryFilter, *, limit: int, unreplayed: bool = False
) -> list[int]:
    """The `seq` of matching deliveries that can be replayed, oldest first.

    They are finished, and still have a payload and a webhook. With `unreplayed` those that were replayed before are
    left out.
    """
    if wanted.statuses == (DeliveryStatus.PENDING,):
        return []
    within = seq_range(connection, wanted)
    query = matching_deliveries(_replayable(), entity_id, wanted, within).order_by(deliveries.c.seq).limit(limit)
    if unreplayed:
        replays = deliveries.alias("replays")
        query = query.where(~exists().where(replays.c.replay_of == deliveries.c.id))
    return list(connection.scalars(query))


def is_replayable(connection: Connection, seq: int) -> bool:
    """Whether a delivery is finished and still has a payload and a webhook."""
    return connection.execute(_replayable().where(deliveries.c.seq == seq)).first() is not None


def _replayable() -> Select[Any]:
    return (
        select(deliveries.c.seq)
        .join(webhooks, webhooks.c.id == deliveries.c.webhook_id)
        .where(
            webhooks.c.deleted_at.is_(None),
            deliveries.c.payload.is_not(None),
            deliveries.c.status != DeliveryStatus.PENDING,
        )
    )


def list_replays(connection: Connection, entity_id: int, id_: str) -> list[str]:
    """The ids of the entity's deliveries that replay a delivery, oldest first."""
    of = (deliveries.c.entity_id == entity_id, deliveries.c.replay_of == id_)
    return list(connection.scalars(select(deliveries.c.id).where(*of).order_by(deliveries.c.seq)))


def replay(connection: Connection, seqs: Sequence[int], now: datetime, *, interval: timedelta) -> dict[str, int]:
    """Queue deliveries again, each as a new one that names the old.

    The first is due now, each other one an `interval` after the one before. Payloads are copied inside the database.

    Returns:
        The webhook of each new delivery, by the new delivery's id, in the order of their numbers.
    """
    made: dict[str, int] = {}
    for start in range(0, len(seqs), _CHUNK):
        first_due_at = now + interval * start
        made |= _replay_chunk(connection, seqs[start : start + _CHUNK], now, first_due_at, interval)
    return made


_COPIED = (
    "entity_id",
    "automation_id",
    "webhook_id",
    "payload",
    "event_id",
    "event_source",
    "event_type",
    "event_project",
    "event_run",
    "event_collection",
    "event_received_at",
)


def _replay_chunk(
    connection: Connection, seqs: Sequence[int], now: datetime, first_due_at: datetime, interval: timedelta
) -> dict[str, int]:
    renewed = (
        values(column("seq", BigId), column("id", String), name="renewed")
        .data([(seq, new_delivery_id()) for seq in seqs])
        .cte()
    )
    copies = (
        select(
            renewed.c.id,
            literal(DeliveryStatus.PENDING.value),
            deliveries.c.id,
            literal(now, deliveries.c.created_at.type),
            *(deliveries.c[name] for name in _COPIED),
        )
        .join(renewed, renewed.c.seq == deliveries.c.seq)
        .order_by(deliveries.c.seq)
    )
    statement = insert(deliveries).from_select(["id", "status", "replay_of", "created_at", *_COPIED], copies)
    answered = connection.execute(statement.returning(deliveries.c.seq, deliveries.c.id, deliveries.c.webhook_id))
    # RETURNING promises no order, but the new numbers are in the order of the originals.
    rows = sorted(answered, key=lambda row: row.seq)
    pending = [
        {"seq": row.seq, "webhook_id": row.webhook_id, "next_attempt_at": first_due_at + interval * number}
        for number, row in enumerate(rows)
    ]
    connection.execute(insert(pending_deliveries), pending)
    return {row.id: row.webhook_id for row in rows}
