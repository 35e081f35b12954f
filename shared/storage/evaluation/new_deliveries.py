"""What evaluating a partition reads and commits: its offset, poison entries and new deliveries.

All of a batch's writes belong in one transaction that begins with `advance_offset`.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from functools import lru_cache
from typing import Any

from sqlalchemy import (
    Connection,
    Engine,
    Select,
    Text,
    TextClause,
    bindparam,
    cast,
    select,
    text,
    update,
)

from shared.messaging.streams import START, Offset
from shared.storage.database.bulk import among, among_given, as_recordset, is_postgresql, listed, recordset
from shared.storage.database.engine import at_once, reading
from shared.storage.database.upserts import insert_ignore
from shared.storage.delivery.sqlite import insert_pending
from shared.storage.schema.tables import (
    automations,
    deliveries,
    entities,
    partitions,
    poison_entries,
    webhook_secrets,
    webhooks,
)
from shared.storage.schema.tables import secrets as secrets_table

KEPT_POISON_BYTES = 64 << 10
_ROWS_READ = 500
_CHUNK = 500  # SQLite takes 32,766 variables in a statement


@dataclass(frozen=True, slots=True)
class PoisonEntry:
    """A stream entry that is not an event."""

    entry_id: str
    reason: str
    body: bytes


@dataclass(frozen=True, slots=True)
class AutomationRow:
    """An automation as it is compiled: its definition as JSON, what its webhook grants; not live means forget it."""

    id: int
    entity_id: int
    entity: str
    live: bool
    event_type: str
    scope_project: str | None
    scope_collection: str | None
    definition: str
    epoch: int
    webhook_id: int | None
    grants: frozenset[str]
    has_access_token: bool


def chunks(values: Sequence[Any]) -> Iterable[Sequence[Any]]:
    """The values in pieces that fit into one statement."""
    return (values[start : start + _CHUNK] for start in range(0, len(values), _CHUNK))


# Statements of every batch are made once: to make one costs more than to send it.
_OFFSET = select(partitions.c.offset, partitions.c.entries_read).where(partitions.c.partition == bindparam("of"))
ADVANCE = (
    update(partitions)
    .where(partitions.c.partition == bindparam("of"), partitions.c.offset == bindparam("since"))
    .values(offset=bindparam("offset"), entries_read=bindparam("entries_read"), updated_at=bindparam("updated_at"))
)


def read_offset(connection: Connection, partition: int) -> Offset:
    """A partition's committed offset; the start of the stream when nothing was committed yet."""
    row = connection.execute(_OFFSET, {"of": partition}).one_or_none()
    return Offset(START, 0) if row is None else Offset(row.offset, row.entries_read)


def read_offsets(connection: Connection) -> dict[int, Offset]:
    """The committed offsets of all partitions that have one."""
    rows = connection.execute(select(partitions.c.partition, partitions.c.offset, partitions.c.entries_read))
    return {row.partition: Offset(row.offset, row.entries_read) for row in rows}


def read_offsets_on_disk(engine: Engine) -> dict[int, Offset]:
    """The same, once they are on the disk: a crash of the server may take back what others were shown already.

    For who deletes what is evaluated.
    """
    with reading(engine) as connection:
        offsets = read_offsets(connection)
    # What is written after it, and waited for, is on the disk after it.
    with at_once(engine) as connection:
        connection.execute(
            update(partitions).where(partitions.c.partition == 0).values(updated_at=partitions.c.updated_at)
        )
    return offsets


def advance_offset(
    connection: Connection, partition: int, *, since: Offset, entry_id: str, count: int, now: datetime
) -> bool:
    """Commit to having evaluated `count` entries up to `entry_id`, unless another worker moved the offset first.

    The row stays locked until the transaction ends, so of two workers with the same entries one waits here and then
    finds that the offset it started from is gone.

    Returns:
        False when the offset was moved: the caller must roll back.
    """
    values = {"offset": entry_id, "entries_read": since.entries_read + count, "updated_at": now}
    if since.entry_id == START:
        inserted = connection.execute(
            insert_ignore(connection, partitions)
            .values(partition=partition, **values)
            .returning(partitions.c.partition)
        ).one_or_none()
        if inserted is not None:
            return True
    return connection.execute(ADVANCE, {"of": partition, "since": since.entry_id, **values}).rowcount == 1


def set_aside(connection: Connection, partition: int, entries: Sequence[PoisonEntry], now: datetime) -> None:
    """Keep entries that are not events, with the reason, out of the way of those that are."""
    if entries:
        connection.execute(
            insert_ignore(connection, poison_entries),
            [
                {
                    "partition": partition,
                    "entry_id": entry.entry_id,
                    "reason": entry.reason.replace("\0", "�"),
                    "body": entry.body[:KEPT_POISON_BYTES],
                    "created_at": now,
                }
                for entry in entries
            ],
        )


def known_deliveries(connection: Connection, ids: Sequence[str]) -> set[str]:
    """Which of these deliveries exist: their events were evaluated before."""
    if not ids:
        return set()
    return set(connection.scalars(_known(as_array=is_postgresql(connection)), {"ids": listed(ids)}))


@lru_cache(maxsize=2)
def _known(*, as_array: bool) -> Select[tuple[str]]:
    return select(deliveries.c.id).where(among_given(deliveries.c.id, "ids", as_array=as_array))


@dataclass(frozen=True, slots=True)
class Claim:
    """Whose deliveries are claimed as they are stored: by which token, and until when."""

    webhook_ids: tuple[int, ...]
    token: int
    lease_until: datetime


def insert_deliveries(
    connection: Connection, rows: Sequence[dict[str, Any]], claim: Claim | None = None
) -> dict[str, int]:
    """Store new deliveries; the pending ones are due at once, or claimed. A delivery that exists is left as it is.

    Returns:
        The `seq` of those that were stored and are claimed, by their ids.
    """
    if not rows:
        return {}
    claimed: dict[str, Any] = (
        {"webhook_ids": [], "token": None, "lease_until": None} if claim is None else asdict(claim)
    )
    if not is_postgresql(connection):
        return insert_pending(connection, rows, **claimed)
    given = {"rows": as_recordset(rows), **claimed, "webhook_ids": list(claimed["webhook_ids"])}
    return {row.id: row.seq for row in connection.execute(_insert_pending(tuple(rows[0])), given)}


@lru_cache(maxsize=4)
def _insert_pending(names: tuple[str, ...]) -> TextClause:
    """Both rows of each delivery in one round trip."""
    return text(
        f"""
        WITH {made_and_queued(names, recordset(deliveries, names))}
        SELECT id, seq FROM made WHERE claimed AND status = 'pending'
        """  # noqa: S608
    )


def made_and_queued(names: Sequence[str], source: str) -> str:
    """PostgreSQL's SQL that stores new deliveries out of a source, as `made`, and queues the pending ones.

    Its parameters are `webhook_ids`, `token` and `lease_until`, as `Claim` has them.
    """
    columns = ", ".join(names)
    return f"""
        made AS (
            INSERT INTO deliveries ({columns}) SELECT {columns} FROM {source} ON CONFLICT DO NOTHING
            RETURNING seq, id, webhook_id, attempts, created_at, status,
                webhook_id = ANY(CAST(:webhook_ids AS bigint[])) AS claimed
        ), queued AS (
            INSERT INTO pending_deliveries (seq, webhook_id, attempts, next_attempt_at, claim)
            SELECT seq, webhook_id, attempts,
                CASE WHEN claimed THEN CAST(:lease_until AS timestamptz) ELSE created_at END,
                CASE WHEN claimed THEN CAST(:token AS bigint) END
            FROM made WHERE status = 'pending'
        )
        """  # noqa: S608


def automations_since(connection: Connection, revision: int) -> Iterator[AutomationRow]:
    """The automations edited after a revision, and those whose webhook or its secrets were, as they are read.

    A negative revision stands for none: then those that are not live are left out, since nobody has them to forget.
    """
    concerned = automations.c.revision > revision
    if revision < 0:
        concerned = automations.c.enabled & automations.c.deleted_at.is_(None)
    elif edited := connection.scalars(select(webhooks.c.id).where(webhooks.c.revision > revision)).all():
        concerned |= among(connection, automations.c.webhook_id, edited)
    query = (
        select(
            automations.c.id,
            automations.c.entity_id,
            entities.c.name.label("entity"),
            (automations.c.enabled & automations.c.deleted_at.is_(None)).label("live"),
            automations.c.event_type,
            automations.c.scope_project,
            automations.c.scope_collection,
            cast(automations.c.definition, Text).label("definition"),
            automations.c.epoch,
            automations.c.webhook_id,
            webhooks.c.access_token_secret_id,
        )
        .join(entities, entities.c.id == automations.c.entity_id)
        .outerjoin(webhooks, webhooks.c.id == automations.c.webhook_id)
        .where(concerned)
    )
    # All of them at once could be more than the index that is made of them; of a few, one answer is quicker.
    options = {"yield_per": _ROWS_READ} if revision < 0 else {}
    for rows in connection.execute(query, execution_options=options).partitions(_ROWS_READ):
        grants = _grants(connection, {row.webhook_id for row in rows if row.webhook_id is not None})
        for row in rows:
            yield AutomationRow(
                id=row.id,
                entity_id=row.entity_id,
                entity=row.entity,
                live=bool(row.live),
                event_type=row.event_type,
                scope_project=row.scope_project,
                scope_collection=row.scope_collection,
                definition=row.definition,
                epoch=row.epoch,
                webhook_id=row.webhook_id,
                grants=frozenset(grants.get(row.webhook_id, ())),
                has_access_token=row.access_token_secret_id is not None,
            )


def _grants(connection: Connection, webhook_ids: Collection[int]) -> dict[int, list[str]]:
    grants: dict[int, list[str]] = {}
    for chunk in chunks(list(webhook_ids)):
        for row in connection.execute(
            select(webhook_secrets.c.webhook_id, secrets_table.c.name)
            .join(secrets_table, secrets_table.c.id == webhook_secrets.c.secret_id)
            .where(webhook_secrets.c.webhook_id.in_(chunk))
        ):
            grants.setdefault(row.webhook_id, []).append(row.name)
    return grants


def seed_partitions(connection: Connection, count: int, now: datetime) -> None:
    """Make the rows of all partitions, so that offsets exist before the first event."""
    connection.execute(
        insert_ignore(connection, partitions),
        [{"partition": p, "offset": START, "entries_read": 0, "updated_at": now} for p in range(count)],
    )
