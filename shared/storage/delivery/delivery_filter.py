"""Which deliveries are meant: criteria, and the conditions that they are in SQL.

Indexes lead to an entity's deliveries, to an automation's, a webhook's or an event's, and to those that were not
delivered. Other criteria are looked at row by row (`history.search_deliveries`).
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any

from sqlalchemy import ColumnElement, Connection, Select, bindparam, func, select
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.functions import FunctionElement

from shared.storage.schema.tables import attempts, deliveries, pending_deliveries

DISORDER = timedelta(minutes=5)
"""How much later a delivery may have been created than one with a greater number.

Numbers are drawn while transactions run, and the database's clock may be set."""


class DeliveryStatus(StrEnum):
    """The status of a delivery."""

    #: Waits for an attempt, the first or a retry.
    PENDING = "pending"
    #: The endpoint took it.
    DELIVERED = "delivered"
    #: Out of retries: a dead letter.
    DEAD = "dead"
    #: Refused for good by the endpoint or by the guard: a dead letter at once.
    REFUSED = "refused"
    #: Held back by a cooldown, a rate limit or a disabled webhook.
    SKIPPED = "skipped"


@dataclass(frozen=True, slots=True, kw_only=True)
class DeliveryFilter:
    """Criteria for deliveries; None and () stand for any. They were made at `since` or later, and before `until`."""

    statuses: tuple[DeliveryStatus, ...] = ()
    automation_id: int | None = None
    webhook_id: int | None = None
    event_id: str | None = None
    since: datetime | None = None
    until: datetime | None = None
    event_types: tuple[str, ...] = ()
    project: str | None = None
    run: str | None = None
    collection: str | None = None
    response_codes: tuple[int, ...] = ()
    """An attempt was answered with one of these."""
    min_attempts: int | None = None
    max_attempts: int | None = None
    reason: str | None = None
    """A part of the reason, in any case."""

    @property
    def has_unindexed(self) -> bool:
        """Whether there are criteria that no index leads to."""
        return bool(self.event_types or self.response_codes) or any(
            criterion is not None
            for criterion in (
                self.project,
                self.run,
                self.collection,
                self.min_attempts,
                self.max_attempts,
                self.reason,
            )
        )


@dataclass(frozen=True, slots=True)
class SeqRange:
    """Numbers of deliveries: from `first` on and before `end`, each None where nothing limits them."""

    first: int | None = None
    end: int | None = None

    def limit(self, query: Select[Any], seq: ColumnElement[int]) -> Select[Any]:
        """The query, limited to these numbers."""
        if self.first is not None:
            query = query.where(seq >= self.first)
        return query if self.end is None else query.where(seq < self.end)


def matching_deliveries(
    query: Select[Any], entity_id: int | None, wanted: DeliveryFilter, within: SeqRange
) -> Select[Any]:
    """The query of deliveries, limited to those that match. Pending ones it finds by way of the queue, which is short.

    A query for pending ones alone is one of `pending_deliveries`. `within` is the `seq_range` of the criteria.
    """
    conditions = [*indexed(entity_id, wanted), *_in_time(wanted), *_unindexed(wanted)]
    if wanted.statuses == (DeliveryStatus.PENDING,):
        # OFFSET 0 keeps PostgreSQL from starting with the deliveries, of which hardly any is pending.
        mine = select(deliveries.c.seq).where(deliveries.c.seq == pending_deliveries.c.seq, *conditions)
        return within.limit(query, pending_deliveries.c.seq).where(mine.offset(0).exists())
    return within.limit(query, deliveries.c.seq).where(*of_statuses(wanted.statuses), *conditions)


def of_statuses(statuses: tuple[DeliveryStatus, ...]) -> list[ColumnElement[bool]]:
    """The condition on the status. That of what was not delivered is on the column that has indexes."""
    if not statuses:
        return []
    if {DeliveryStatus.DELIVERED, DeliveryStatus.PENDING} & set(statuses):
        return [_among(deliveries.c.status, statuses)]
    return [_among(deliveries.c.unfulfilled, statuses)]


def _among(column: ColumnElement[Any], values: tuple[Any, ...]) -> ColumnElement[bool]:
    return column == str(values[0]) if len(values) == 1 else column.in_([str(value) for value in values])


def indexed(entity_id: int | None, wanted: DeliveryFilter) -> list[ColumnElement[bool]]:
    """The conditions that an index leads to; the first is the one to be led by."""
    given = [
        (column, value)
        for column, value in (
            (deliveries.c.event_id, wanted.event_id),
            (deliveries.c.automation_id, wanted.automation_id),
            (deliveries.c.webhook_id, wanted.webhook_id),
            (deliveries.c.entity_id, entity_id),
        )
        if value is not None
    ]
    return [(column if place == 0 else _Beside(column)) == value for place, (column, value) in enumerate(given)]


class _Beside(FunctionElement[Any]):
    """A column that is compared, and by which SQLite looks nothing up.

    It has no statistics, and takes the first index that brings the order of a list: that of all deliveries of an
    entity, instead of the few of an event. PostgreSQL knows better by itself.
    """

    inherit_cache = True


@compiles(_Beside)
def _plainly(element: _Beside, compiler: SQLCompiler, **more: Any) -> str:
    return compiler.process(element.clauses, **more)


@compiles(_Beside, "sqlite")
def _unindexed_column(element: _Beside, compiler: SQLCompiler, **more: Any) -> str:
    # https://www.sqlite.org/optoverview.html, "disqualifying WHERE clause terms using unary +"
    return f"+{compiler.process(element.clauses, **more)}"


def _in_time(wanted: DeliveryFilter) -> list[ColumnElement[bool]]:
    conditions: list[ColumnElement[bool]] = []
    if wanted.since is not None:
        conditions.append(deliveries.c.created_at >= wanted.since)
    if wanted.until is not None:
        conditions.append(deliveries.c.created_at < wanted.until)
    return conditions


def _unindexed(wanted: DeliveryFilter) -> list[ColumnElement[bool]]:
    conditions: list[ColumnElement[bool]] = []
    if wanted.event_types:
        conditions.append(deliveries.c.event_type.in_(wanted.event_types))
    for column, value in (
        (deliveries.c.event_project, wanted.project),
        (deliveries.c.event_run, wanted.run),
        (deliveries.c.event_collection, wanted.collection),
    ):
        if value is not None:
            conditions.append(column == value)
    if wanted.response_codes:
        of_it = (attempts.c.delivery_seq == deliveries.c.seq, attempts.c.status_code.in_(wanted.response_codes))
        # OFFSET 0 keeps PostgreSQL from starting with the attempts.
        conditions.append(select(attempts.c.number).where(*of_it).offset(0).exists())
    if wanted.min_attempts is not None or wanted.max_attempts is not None:
        waiting = select(pending_deliveries.c.attempts).where(pending_deliveries.c.seq == deliveries.c.seq)
        made = func.coalesce(waiting.scalar_subquery(), deliveries.c.attempts)
        conditions += [made >= wanted.min_attempts] if wanted.min_attempts is not None else []
        conditions += [made <= wanted.max_attempts] if wanted.max_attempts is not None else []
    if wanted.reason is not None:
        conditions.append(deliveries.c.reason.icontains(wanted.reason, autoescape=True))
    return conditions


def seq_range(connection: Connection, wanted: DeliveryFilter) -> SeqRange:
    """The numbers of deliveries of the time that is meant, so that no others are walked through."""
    return SeqRange(
        first=None if wanted.since is None else _first_seq(connection, wanted.since, -DISORDER),
        end=None if wanted.until is None else _first_seq(connection, wanted.until, DISORDER),
    )


_AT_OR_AFTER = (
    select(deliveries.c.seq, deliveries.c.created_at)
    .where(deliveries.c.seq >= bindparam("seq", type_=deliveries.c.seq.type))
    .order_by(deliveries.c.seq)
    .limit(1)
)


# Each by itself: of two in one query SQLite would read the whole index.
_ENDS = select(
    select(func.min(deliveries.c.seq)).scalar_subquery(), select(func.max(deliveries.c.seq)).scalar_subquery()
)


def _first_seq(connection: Connection, moment: datetime, tolerance: timedelta) -> int | None:
    """About where deliveries of a time and later begin, by bisection; None if that limits nothing."""
    try:
        moment += tolerance
    except OverflowError:
        return None
    low, high = connection.execute(_ENDS).one()
    if low is None:
        return None
    high += 1
    while low < high:
        middle = (low + high) // 2
        found = connection.execute(_AT_OR_AFTER, {"seq": middle}).one()
        if found.created_at < moment:
            low = int(found.seq) + 1
        else:
            high = middle
    return int(low)
