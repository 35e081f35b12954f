"""SQL of an evaluation's commit for PostgreSQL, in one statement. `sqlite.py` is its twin.

As in `shared.storage.delivery.postgresql`: parts of a statement see the rows as they were at its start, and part names
are passed to the pieces that several statements share.
"""

from __future__ import annotations

from functools import lru_cache

from sqlalchemy import (
    TextClause,
    text,
)

from shared.storage.database.bulk import recordset
from shared.storage.database.transactions import ASYNC_COMMIT_SQL
from shared.storage.schema.tables import (
    deliveries,
    webhooks,
)


def _insert_deliveries(names: tuple[str, ...], *, source: str) -> str:
    """SQL that inserts deliveries with these columns from a source, and returns those that did not exist.

    Those whose webhook is among `:webhook_ids` come back as `claimed`.
    """
    columns = ", ".join(names)
    return f"""
            INSERT INTO deliveries ({columns}) SELECT {columns} FROM {source} ON CONFLICT DO NOTHING
            RETURNING seq, id, webhook_id, attempts, created_at, status,
                webhook_id = ANY(CAST(:webhook_ids AS bigint[])) AS claimed
        """  # noqa: S608


def _queue_pending(*, inserted: str) -> str:
    """SQL that queues the pending ones of `inserted`, which is a part made by `_insert_deliveries`.

    Claimed ones get the claim `:token` and the lease `:lease_until`; others are due now.
    """
    return f"""
            INSERT INTO pending_deliveries (seq, webhook_id, attempts, next_attempt_at, claim)
            SELECT seq, webhook_id, attempts,
                CASE WHEN claimed THEN CAST(:lease_until AS timestamptz) ELSE created_at END,
                CASE WHEN claimed THEN CAST(:token AS bigint) END
            FROM {inserted} WHERE status = 'pending'
        """  # noqa: S608


@lru_cache(maxsize=4)
def insert_pending_statement(names: tuple[str, ...]) -> TextClause:
    """Both rows of each new delivery, in one round trip; returns `id` and `seq` of those that are claimed.

    Locks (docs/decisions/0012, "evaluate a batch"): inserts into deliveries → pending_deliveries; the caller's
    transaction holds the partition's row, and the windows that it changes.
    """
    return text(
        f"""
        WITH made AS ({_insert_deliveries(names, source=recordset(deliveries, names))}),
        queued AS ({_queue_pending(inserted="made")})
        SELECT id, seq FROM made WHERE claimed AND status = 'pending'
        """  # noqa: S608
    )


# Moves a partition's offset by compare-and-set; the row stays locked until the transaction ends.
_ADVANCE = """
    UPDATE partitions SET "offset" = :offset, entries_read = :entries_read, updated_at = :updated_at
    WHERE partition = :of AND "offset" = :since
    """


# Locks (docs/decisions/0012, "evaluate a batch"): partitions (its row). The commit is asynchronous, since entries whose
# offset a crash takes back are evaluated again and fire nothing, as they did before.
ADVANCE_SQL = text(f"{_ADVANCE} AND {ASYNC_COMMIT_SQL}")


@lru_cache(maxsize=4)
def commit_statement(names: tuple[str, ...]) -> TextClause:
    """The statement of `commit_optimistically`, for deliveries with these columns.

    `checked` looks at what the batch relies on: the newest revision, the webhooks as they were read, and that none of
    the deliveries exists. Only if all of it holds does `moved` advance the offset, and only then do `made` and `queued`
    store anything. An edit that commits while the statement runs is not seen, as if the batch had been evaluated before
    it.

    Locks (docs/decisions/0012, "evaluate a batch"): partitions (its row) → inserts into deliveries →
    pending_deliveries. What `checked` reads is not locked.
    """
    state = recordset(webhooks, ("id", "paused", "slow", "circuit_opened_at"), parameter="expected")
    return text(
        f"""
        WITH fired AS MATERIALIZED (
            SELECT given.* FROM {recordset(deliveries, names)}
        ), checked AS MATERIALIZED (
            SELECT {ASYNC_COMMIT_SQL} AND NOT EXISTS (
                SELECT FROM revisions WHERE id = 1 AND value <> CAST(:revision AS bigint)
            ) AND NOT EXISTS (
                SELECT FROM deliveries WHERE id = ANY(ARRAY(SELECT id FROM fired))
            ) AND NOT EXISTS (
                SELECT FROM {state} LEFT JOIN webhooks ON webhooks.id = given.id
                WHERE (webhooks.enabled AND webhooks.deleted_at IS NULL) IS NOT TRUE
                    OR webhooks.paused <> given.paused OR webhooks.slow <> given.slow
                    OR (webhooks.circuit_opened_at IS NULL) <> (given.circuit_opened_at IS NULL)
            ) AS preconditions_held
        ), moved AS (
            {_ADVANCE} AND (SELECT preconditions_held FROM checked)
            RETURNING partition
        ), made AS ({_insert_deliveries(names, source="fired WHERE EXISTS (SELECT FROM moved)")}),
        queued AS ({_queue_pending(inserted="made")}),
        claimed_rows AS MATERIALIZED (
            SELECT id, seq FROM made WHERE claimed AND status = 'pending'
        )
        SELECT (SELECT preconditions_held FROM checked) AS preconditions_held,
            EXISTS (SELECT FROM moved) AS offset_advanced,
            ARRAY(SELECT id FROM claimed_rows) AS ids, ARRAY(SELECT seq FROM claimed_rows) AS seqs
        """  # noqa: S608
    )
