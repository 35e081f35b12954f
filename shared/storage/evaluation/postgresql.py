"""SQL of an evaluation's commit for PostgreSQL, in one statement. `sqlite.py` is its twin."""

from __future__ import annotations

from collections.abc import Sequence
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


@lru_cache(maxsize=4)
def insert_pending_statement(names: tuple[str, ...]) -> TextClause:
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


_MOVE = """
    UPDATE partitions SET "offset" = :offset, entries_read = :entries_read, updated_at = :updated_at
    WHERE partition = :of AND "offset" = :since
    """


ADVANCE_SQL = text(f"{_MOVE} AND {ASYNC_COMMIT_SQL}")


@lru_cache(maxsize=4)
def commit_statement(names: tuple[str, ...]) -> TextClause:
    faring = recordset(webhooks, ("id", "paused", "slow", "circuit_opened_at"), parameter="expected")
    return text(
        f"""
        WITH fired AS MATERIALIZED (
            SELECT given.* FROM {recordset(deliveries, names)}
        ), look AS MATERIALIZED (
            SELECT {ASYNC_COMMIT_SQL} AND NOT EXISTS (
                SELECT FROM revisions WHERE id = 1 AND value <> CAST(:revision AS bigint)
            ) AND NOT EXISTS (
                SELECT FROM deliveries WHERE id = ANY(ARRAY(SELECT id FROM fired))
            ) AND NOT EXISTS (
                SELECT FROM {faring} LEFT JOIN webhooks ON webhooks.id = given.id
                WHERE (webhooks.enabled AND webhooks.deleted_at IS NULL) IS NOT TRUE
                    OR webhooks.paused <> given.paused OR webhooks.slow <> given.slow
                    OR (webhooks.circuit_opened_at IS NULL) <> (given.circuit_opened_at IS NULL)
            ) AS preconditions_held
        ), moved AS (
            {_MOVE} AND (SELECT preconditions_held FROM look)
            RETURNING partition
        ), {made_and_queued(names, "fired WHERE EXISTS (SELECT FROM moved)")}, mine AS MATERIALIZED (
            SELECT id, seq FROM made WHERE claimed AND status = 'pending'
        )
        SELECT (SELECT preconditions_held FROM look) AS preconditions_held,
            EXISTS (SELECT FROM moved) AS offset_advanced,
            ARRAY(SELECT id FROM mine) AS ids, ARRAY(SELECT seq FROM mine) AS seqs
        """  # noqa: S608
    )
