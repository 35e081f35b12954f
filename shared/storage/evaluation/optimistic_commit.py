"""Optimistic commit: a batch of evaluated entries, committed by one statement if the stored state is as expected.

That is the usual case: nobody edited a definition since the webhooks were last read, their health is the same, and none
of the events was evaluated before. Otherwise nothing is done, and the caller reads what is stored, in a transaction. On
SQLite it takes a few statements in a transaction of their own, in which the one writer waits for nothing.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection

from shared.domain.events.partitioning import Offset
from shared.storage.database.bulk import as_recordset, is_postgresql
from shared.storage.delivery.webhook_snapshots import WebhookSnapshot
from shared.storage.evaluation.new_deliveries import NewClaims, NewDelivery
from shared.storage.evaluation.offsets import ADVANCE
from shared.storage.evaluation.postgresql import ADVANCE_SQL, commit_statement
from shared.storage.evaluation.sqlite import insert_pending, preconditions_hold


@dataclass(frozen=True, slots=True)
class Committed:
    """The result of an optimistic commit."""

    preconditions_held: bool
    """Whether the stored state was as expected; if not, nothing was done."""
    offset_advanced: bool
    """Whether the offset was where the batch begins; if not, another worker was faster, and nothing was done."""
    claimed: dict[str, int]
    """The `seq` of those deliveries that were stored under the claim, by their ids."""


def commit_optimistically(
    connection: Connection,
    partition: int,
    rows: Sequence[NewDelivery],
    expected: Collection[WebhookSnapshot],
    claim: NewClaims,
    *,
    since: Offset,
    entry_id: str,
    count: int,
    now: datetime,
) -> Committed:
    """Advance a partition's offset and store new deliveries, all or nothing.

    The commit is asynchronous on PostgreSQL. A crash of the server takes offset and deliveries back together, and the
    entries are evaluated again from the stream, to deliveries with the same ids. A request is sent twice only if its
    attempt was not recorded yet: that commit waits for the disk, and brings all earlier ones there.

    Args:
        connection: on PostgreSQL for one statement, on SQLite for a transaction.
        partition: the partition whose entries were evaluated.
        rows: the new deliveries, all with the same columns. None of them may exist.
        expected: the webhooks that they go to, all enabled and read at one revision, which must still be the newest.
        claim: which deliveries are stored as claimed; the others are due now.
        since: the offset at which the partition must be.
        entry_id: the last entry that was evaluated.
        count: how many entries were evaluated.
        now: the database's time.
    """
    given: dict[str, Any] = {
        "of": partition,
        "since": since.entry_id,
        "offset": entry_id,
        "entries_read": since.entries_read + count,
        "updated_at": now,
    }
    if not rows:
        advance = ADVANCE_SQL if is_postgresql(connection) else ADVANCE
        return Committed(True, connection.execute(advance, given).rowcount == 1, {})
    health = as_recordset([_health_of(one) for one in expected])
    revision = max((one.revision for one in expected), default=None)
    if not is_postgresql(connection):
        preconditions_held = preconditions_hold(
            connection, [row["id"] for row in rows], health=health, revision=revision
        )
        offset_advanced = preconditions_held and connection.execute(ADVANCE, given).rowcount == 1
        return Committed(
            preconditions_held,
            offset_advanced,
            insert_pending(connection, rows, **asdict(claim)) if offset_advanced else {},
        )
    given |= {
        "rows": as_recordset(rows),
        "expected": health,
        "revision": revision,
        "webhook_ids": list(claim.webhook_ids),
        "token": claim.token,
        "lease_until": claim.lease_until,
    }
    row = connection.execute(commit_statement(tuple(rows[0])), given).one()
    return Committed(row.preconditions_held, row.offset_advanced, dict(zip(row.ids, row.seqs, strict=True)))


def _health_of(webhook: WebhookSnapshot) -> dict[str, Any]:
    return {
        "id": webhook.id,
        "paused": webhook.paused,
        "slow": webhook.slow,
        "circuit_opened_at": webhook.circuit.opened_at,
    }
