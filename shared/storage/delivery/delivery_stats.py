"""How the deliveries of automations or webhooks went lately, for lists of them: one query for a whole page.

Each number is read through an index up to a bound, so that a page takes the same time however long the history is.
"""

from __future__ import annotations

import json
from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import (
    Column,
    ColumnElement,
    Connection,
    FromClause,
    Integer,
    ScalarSelect,
    Select,
    String,
    Subquery,
    cast,
    exists,
    func,
    select,
    true,
)

from shared.storage.database.bulk import among, is_postgresql
from shared.storage.database.columns import UtcDateTime
from shared.storage.schema.tables import DEAD, automations, deliveries, pending_deliveries, webhooks

MAX_COUNTED = 1_000
"""Counts end here: a page of 50 then reads 100,000 index entries at most."""
FEW_PENDING = 2_000
"""Up to so many pending deliveries of all entities are read to count those of each automation."""
OUTCOMES = 50
SKIPPED = "skipped"


@dataclass(frozen=True, slots=True)
class DeliveryStats:
    """How deliveries went; counts end at `MAX_COUNTED`."""

    last_fired_at: datetime | None
    """When the newest delivery was created that is neither skipped nor a replay, of the newest `MAX_COUNTED`."""
    waiting: int
    """Pending deliveries; of an automation those among its newest `MAX_COUNTED`, where many are pending in all."""
    failed: int
    """Dead letters."""
    outcomes: tuple[str, ...]
    """The statuses of the newest `OUTCOMES` deliveries, newest first."""


def automation_stats(connection: Connection, ids: Collection[int]) -> dict[int, DeliveryStats]:
    """The statistics of these automations, by their ids."""
    some = select(pending_deliveries.c.seq).limit(FEW_PENDING + 1)
    if (connection.scalar(select(func.count()).select_from(some.subquery())) or 0) <= FEW_PENDING:
        queued = _queued(some)
    elif is_postgresql(connection):
        queued = _queued_among_newest(connection, ids)
    else:
        newest = _newest_rows(deliveries.c.automation_id, automations.c.id, MAX_COUNTED, deliveries.c.seq).subquery()
        waiting = select(newest.c.seq).where(exists().where(pending_deliveries.c.seq == newest.c.seq))
        return _read(connection, automations.c.id, deliveries.c.automation_id, ids, _count(waiting))
    counted = func.least if is_postgresql(connection) else func.min
    return _read(
        connection,
        automations.c.id,
        deliveries.c.automation_id,
        ids,
        counted(func.coalesce(queued.c.waiting, 0), MAX_COUNTED),
        automations.outerjoin(queued, queued.c.number == automations.c.id),
    )


def webhook_stats(connection: Connection, ids: Collection[int]) -> dict[int, DeliveryStats]:
    """The statistics of these webhooks and Slack integrations, by their ids."""
    queued = select(pending_deliveries.c.seq).where(pending_deliveries.c.webhook_id == webhooks.c.id)
    return _read(connection, webhooks.c.id, deliveries.c.webhook_id, ids, _count(queued))


def last_fired_seq(of: Column[int], owner: Column[int]) -> ScalarSelect[int]:
    """The number of the newest delivery that `last_fired_at` means, for each row of `owner`; null if there is none."""
    rows = _newest(of, owner, MAX_COUNTED, deliveries.c.seq, deliveries.c.status, deliveries.c.replay_of)
    fired = select(rows.c.seq).where(rows.c.status != SKIPPED, rows.c.replay_of.is_(None))
    # Rows come in the order of the part: to ask for it again would make SQLite read and sort all of them.
    return fired.limit(1).scalar_subquery()


def _read(
    connection: Connection,
    owner: Column[int],
    of: Column[int],
    ids: Collection[int],
    waiting: ColumnElement[int],
    rows_of: FromClause | None = None,
) -> dict[int, DeliveryStats]:
    """The statistics of owners; `rows_of` is their table, joined with what `waiting` needs."""
    failed = select(deliveries.c.seq).where(of == owner, deliveries.c.unfulfilled.in_(DEAD))
    fired = select(deliveries.c.created_at).where(deliveries.c.seq == last_fired_seq(of, owner)).scalar_subquery()
    rows = _newest(of, owner, OUTCOMES, deliveries.c.seq, deliveries.c.status)
    gather = func.json_agg if is_postgresql(connection) else func.json_group_array
    pairs: ColumnElement[Any] = gather(cast(rows.c.seq, String) + " " + rows.c.status)
    query = select(
        owner,
        cast(fired, UtcDateTime) if is_postgresql(connection) else fired,
        waiting,
        _count(failed),
        cast(select(pairs).scalar_subquery(), String),
    ).where(among(connection, owner, ids))
    if rows_of is not None:
        query = query.select_from(rows_of)
    return {row[0]: DeliveryStats(row[1], row[2], row[3], _statuses(row[4])) for row in connection.execute(query).all()}


def _queued(pending: Select[tuple[int]]) -> Subquery:
    """How many of these pending deliveries each automation has."""
    return (
        select(deliveries.c.automation_id.label("number"), func.count().label("waiting"))
        .where(deliveries.c.seq.in_(pending))
        .group_by(deliveries.c.automation_id)
        .subquery("queued")
    )


def _queued_among_newest(connection: Connection, ids: Collection[int]) -> Subquery:
    """How many of the newest `MAX_COUNTED` deliveries of each automation are pending, on PostgreSQL.

    All are looked for together: for each automation by itself PostgreSQL would read all that are pending.
    """
    owner = automations.alias("owner")
    seqs = _newest_rows(deliveries.c.automation_id, owner.c.id, MAX_COUNTED, deliveries.c.seq).lateral("newest")
    return (
        select(owner.c.id.label("number"), func.count().label("waiting"))
        .select_from(owner.join(seqs, true()))
        .where(among(connection, owner.c.id, ids), exists().where(pending_deliveries.c.seq == seqs.c.seq))
        .group_by(owner.c.id)
        .subquery("queued")
    )


def _newest(of: Column[int], owner: Column[int], limit: int, *columns: Column[Any]) -> Any:
    return _newest_rows(of, owner, limit, *columns).subquery()


def _newest_rows(of: Column[int], owner: Column[int], limit: int, *columns: Column[Any]) -> Select[Any]:
    query = select(*columns).where(of == owner).order_by(deliveries.c.seq.desc()).limit(limit)
    return query.correlate(owner.table)


def _count(query: Any) -> ScalarSelect[int]:
    some = query.limit(MAX_COUNTED).correlate(automations, webhooks).subquery()
    return select(cast(func.count(), Integer)).select_from(some).scalar_subquery()


def _statuses(pairs: str | None) -> tuple[str, ...]:
    numbered = (pair.split(" ") for pair in json.loads(pairs or "[]") or ())
    return tuple(status for _, status in sorted(((int(seq), status) for seq, status in numbered), reverse=True))
