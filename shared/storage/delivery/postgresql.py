"""SQL of deliveries for PostgreSQL: claiming and recording, each in one statement. `sqlite.py` is its twin."""

from __future__ import annotations

from functools import lru_cache

from sqlalchemy import (
    TextClause,
    text,
)

from shared.storage.database.bulk import recordset
from shared.storage.database.transactions import ASYNC_COMMIT_SQL
from shared.storage.delivery.circuits import HAS_FAILURES_SQL
from shared.storage.schema.tables import (
    attempts,
    deliveries,
    pending_deliveries,
)

# One round trip. The array and the lateral look-up keep the planner on the keys: it can't know how few rows are taken.
# Nobody waits for the disk: a claim that a crash of the server takes back leaves deliveries due, whose requests may be
# underway, as the crash of a worker does. The setting holds for this transaction, which must make nothing else true.
CLAIM_SQL = text(
    f"""
    WITH due AS (
        SELECT seq, next_attempt_at FROM pending_deliveries WHERE webhook_id = :webhook_id AND next_attempt_at <= :now
            AND (SELECT enabled AND NOT paused AND deleted_at IS NULL FROM webhooks WHERE id = :webhook_id)
            AND {ASYNC_COMMIT_SQL}
        ORDER BY next_attempt_at, seq LIMIT :limit FOR UPDATE SKIP LOCKED
    ), taken AS (
        UPDATE pending_deliveries SET next_attempt_at = :lease_until, claim = :token
        WHERE seq = ANY(ARRAY(SELECT seq FROM due))
        RETURNING seq, attempts
    )
    SELECT taken.seq, delivery.id, coalesce(delivery.payload, '{{}}'), taken.attempts, delivery.event_received_at,
        due.next_attempt_at, delivery.automation_id,
        (SELECT name FROM entities WHERE entities.id = delivery.entity_id),
        delivery.event_id, delivery.event_source, delivery.event_type, delivery.traceparent
    FROM taken JOIN due ON due.seq = taken.seq CROSS JOIN LATERAL (
        SELECT id, payload, event_received_at, automation_id, entity_id, event_id, event_source, event_type, traceparent
        FROM deliveries WHERE deliveries.seq = taken.seq OFFSET 0
    ) AS delivery
    ORDER BY taken.seq
    """  # noqa: S608
)


# Both rows of a delivery in one round trip, each found by its key, whatever the planner takes the arrays for.
END_SQL = text(
    f"""
    WITH given AS (
        SELECT * FROM {recordset(deliveries, ("seq", "status", "reason", "attempts"))}
    ), mine AS (
        DELETE FROM pending_deliveries WHERE seq = ANY(ARRAY(SELECT seq FROM given)) AND claim = :token RETURNING seq
    )
    UPDATE deliveries SET status = given.status, reason = given.reason, attempts = given.attempts, finished_at = :now
    FROM given JOIN mine ON mine.seq = given.seq
    WHERE deliveries.seq = given.seq AND deliveries.seq = ANY(ARRAY(SELECT seq FROM given))
    RETURNING deliveries.seq
    """  # noqa: S608
)


ENDED = """
        ended AS (
            UPDATE deliveries SET status = 'delivered', reason = NULL, attempts = these.number, finished_at = :now
            FROM these JOIN mine ON mine.seq = these.delivery_seq
            WHERE deliveries.seq = these.delivery_seq
                AND deliveries.seq = ANY(ARRAY(SELECT delivery_seq FROM these))
            RETURNING deliveries.seq
        )
        """
"""SQL by which those of the attempts `these` delivered that `mine`, what left the queue, names."""


@lru_cache(maxsize=1)
def delivered_statement(names: tuple[str, ...]) -> TextClause:
    """The statement of `record_all_well`, for attempts with these columns."""
    columns = ", ".join(names)
    return text(
        f"""
        WITH webhook AS (
            SELECT NOT EXISTS (
                SELECT FROM webhooks WHERE id = :webhook_id AND {HAS_FAILURES_SQL}
            ) AS untroubled
        ), these AS MATERIALIZED (
            SELECT given.* FROM {recordset(attempts, names)} WHERE (SELECT untroubled FROM webhook)
        ), noted AS (
            INSERT INTO attempts ({columns}) SELECT {columns} FROM these ON CONFLICT DO NOTHING
        ), mine AS (
            DELETE FROM pending_deliveries WHERE seq = ANY(ARRAY(SELECT delivery_seq FROM these)) AND claim = :token
            RETURNING seq
        ), {ENDED}
        SELECT (SELECT untroubled FROM webhook), ARRAY(SELECT seq FROM ended)
        """  # noqa: S608
    )


@lru_cache(maxsize=1)
def failures_statement(names: tuple[str, ...]) -> TextClause:
    columns = ", ".join(names)
    given = recordset(attempts, names, pending_deliveries.c.next_attempt_at)
    return text(
        f"""
        WITH webhook AS (
            UPDATE webhooks SET
                failures = coalesce(CAST(:since AS integer), failures + :added),
                slow = :slow,
                failing_since = CASE
                    WHEN :succeeded THEN NULL
                    WHEN NOT :failing THEN failing_since
                    WHEN failing_since IS NULL OR failed_at < :disable_before THEN :now
                    ELSE failing_since
                END,
                failed_at = CASE WHEN :failing THEN :now ELSE failed_at END
            WHERE id = :webhook_id AND circuit_opened_at IS NULL
                AND (:circuit_failures = 0 OR failures + :added < :circuit_failures)
                AND (
                    NOT :failing OR failing_since IS NULL OR failed_at < :disable_before
                    OR failing_since > :disable_before
                )
            RETURNING failures
        ), these AS MATERIALIZED (
            SELECT given.* FROM {given} WHERE EXISTS (SELECT FROM webhook)
        ), noted AS (
            INSERT INTO attempts ({columns}) SELECT {columns} FROM these ON CONFLICT DO NOTHING
        ), again AS (
            UPDATE pending_deliveries
            SET attempts = these.number, next_attempt_at = these.next_attempt_at, claim = NULL
            FROM these WHERE pending_deliveries.seq = these.delivery_seq AND these.next_attempt_at IS NOT NULL
                AND pending_deliveries.seq = ANY(ARRAY(SELECT delivery_seq FROM these))
                AND pending_deliveries.claim = :token
        ), mine AS (
            DELETE FROM pending_deliveries WHERE claim = :token
                AND seq = ANY(ARRAY(SELECT delivery_seq FROM these WHERE next_attempt_at IS NULL))
            RETURNING seq
        ), {ENDED}
        SELECT failures, ARRAY(SELECT seq FROM ended) FROM webhook
        """  # noqa: S608
    )
