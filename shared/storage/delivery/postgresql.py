"""SQL of deliveries for PostgreSQL: claiming and recording, each in one statement. `sqlite.py` is its twin.

One statement is one round trip, and the locks that it takes are held for as long as it runs, not for as long as a
worker thinks. Within a statement every part sees the rows as they were at its start, whatever other parts change; what
a part changed is visible to others in its RETURNING list only. Part names are chosen in each statement, and passed to
the pieces that several of them share.

Arrays and lateral look-ups keep the planner on the keys: it can't know how few rows a part returns, and would read a
whole table beside thousands of rows that it expects. `given` is the name of a `recordset`, the rows that are passed in.
"""

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

# How many bytes of payloads come before each of the deliveries that are `due`. PostgreSQL has the length of a long text
# beside its row, and does not read the text for it.
_SIZED = """
    sized AS (
        SELECT due.seq, sum(payload.bytes) OVER (ORDER BY due.next_attempt_at, due.seq) - payload.bytes AS bytes_before
        FROM due CROSS JOIN LATERAL (
            SELECT coalesce(octet_length(payload), 0) AS bytes FROM deliveries WHERE deliveries.seq = due.seq OFFSET 0
        ) AS payload
    )"""


# Locks (docs/decisions/0012, "claim"): pending_deliveries, SKIP LOCKED. It waits for nobody, so it may run while
# `admit` holds the webhook's row.
# The commit is asynchronous: a claim that a crash of the server takes back leaves deliveries due whose requests may be
# underway, as the crash of a worker does. The setting holds for this transaction, which must write nothing else.
CLAIM_SQL = text(
    f"""
    WITH due AS (
        SELECT seq, next_attempt_at FROM pending_deliveries WHERE webhook_id = :webhook_id AND next_attempt_at <= :now
            AND (SELECT enabled AND NOT paused AND deleted_at IS NULL FROM webhooks WHERE id = :webhook_id)
            AND {ASYNC_COMMIT_SQL}
        ORDER BY next_attempt_at, seq LIMIT :limit FOR UPDATE SKIP LOCKED
    ), {_SIZED}, taken AS (
        UPDATE pending_deliveries SET next_attempt_at = :lease_until, claim = :token
        WHERE seq = ANY(ARRAY(SELECT seq FROM sized WHERE bytes_before < :max_bytes))
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


# The same for many webhooks at a time, each with how much of it is wanted and until when its lease is to last. Those
# whose circuit is not closed are left out: a claim for them has to be admitted.
CLAIM_MANY_SQL = text(
    f"""
    WITH due AS (
        SELECT one.seq, one.next_attempt_at, given.lease_until
        FROM json_to_recordset(CAST(:webhooks AS json)) AS given (id bigint, wanted integer, lease_until timestamptz)
        CROSS JOIN LATERAL (
            SELECT id FROM webhooks WHERE webhooks.id = given.id AND enabled AND NOT paused AND deleted_at IS NULL
                AND circuit_opened_at IS NULL OFFSET 0
        ) AS webhook CROSS JOIN LATERAL (
            SELECT seq, next_attempt_at FROM pending_deliveries
            WHERE webhook_id = webhook.id AND next_attempt_at <= :now
            ORDER BY next_attempt_at, seq LIMIT given.wanted FOR UPDATE SKIP LOCKED
        ) AS one WHERE {ASYNC_COMMIT_SQL}
    ), {_SIZED}, taken AS (
        UPDATE pending_deliveries SET next_attempt_at = due.lease_until, claim = :token FROM due
        WHERE pending_deliveries.seq = due.seq
            AND pending_deliveries.seq = ANY(ARRAY(SELECT seq FROM sized WHERE bytes_before < :max_bytes))
        RETURNING pending_deliveries.seq, webhook_id, attempts, due.next_attempt_at AS due_at
    )
    SELECT webhook_id, taken.seq, delivery.id, coalesce(delivery.payload, '{{}}'), taken.attempts,
        delivery.event_received_at, taken.due_at, delivery.automation_id,
        (SELECT name FROM entities WHERE entities.id = delivery.entity_id),
        delivery.event_id, delivery.event_source, delivery.event_type, delivery.traceparent
    FROM taken CROSS JOIN LATERAL (
        SELECT id, payload, event_received_at, automation_id, entity_id, event_id, event_source, event_type, traceparent
        FROM deliveries WHERE deliveries.seq = taken.seq OFFSET 0
    ) AS delivery
    ORDER BY taken.seq
    """  # noqa: S608
)


# Locks (docs/decisions/0012, "record outcomes"): pending_deliveries with the own claim → deliveries. The caller locks
# the webhook's row after it, in the same transaction.
END_SQL = text(
    f"""
    WITH ended AS (
        SELECT * FROM {recordset(deliveries, ("seq", "status", "reason", "attempts"))}
    ), dequeued AS (
        DELETE FROM pending_deliveries WHERE seq = ANY(ARRAY(SELECT seq FROM ended)) AND claim = :token RETURNING seq
    )
    UPDATE deliveries
    SET status = ended.status, reason = ended.reason, attempts = ended.attempts, finished_at = :now
    FROM ended JOIN dequeued ON dequeued.seq = ended.seq
    WHERE deliveries.seq = ended.seq AND deliveries.seq = ANY(ARRAY(SELECT seq FROM ended))
    RETURNING deliveries.seq
    """  # noqa: S608
)


def _mark_delivered(*, attempted: str, dequeued: str) -> str:
    """SQL that marks deliveries as delivered, and returns their `seq`.

    Args:
        attempted: the part of the statement with the attempts: `delivery_seq`, `number`.
        dequeued: the part with the `seq` of those that this statement took out of the queue; the others are left alone.
    """
    return f"""
            UPDATE deliveries SET status = 'delivered', reason = NULL, attempts = {attempted}.number, finished_at = :now
            FROM {attempted} JOIN {dequeued} ON {dequeued}.seq = {attempted}.delivery_seq
            WHERE deliveries.seq = {attempted}.delivery_seq
                AND deliveries.seq = ANY(ARRAY(SELECT delivery_seq FROM {attempted}))
            RETURNING deliveries.seq
        """  # noqa: S608


@lru_cache(maxsize=1)
def record_successes_statement(names: tuple[str, ...]) -> TextClause:
    """The statement of `record_successes`, for attempts with these columns and a `webhook_id`.

    Locks (docs/decisions/0012, "record outcomes"): pending_deliveries with the own claim → deliveries. The webhooks'
    rows are read without a lock. If another worker records a failure at the same moment, either the failure counts
    after this success or this success does not reset it: both are orders in which the answers may have come.
    """
    columns = ", ".join(names)
    given = recordset(attempts, names, pending_deliveries.c.webhook_id)
    return text(
        f"""
        WITH failing AS MATERIALIZED (
            SELECT id FROM webhooks WHERE id = ANY(CAST(:webhook_ids AS bigint[])) AND {HAS_FAILURES_SQL}
        ), attempted AS MATERIALIZED (
            SELECT given.* FROM {given} WHERE given.webhook_id <> ALL(ARRAY(SELECT id FROM failing))
        ), logged AS (
            INSERT INTO attempts ({columns}) SELECT {columns} FROM attempted ON CONFLICT DO NOTHING
        ), dequeued AS (
            DELETE FROM pending_deliveries USING attempted
            WHERE pending_deliveries.seq = ANY(ARRAY(SELECT delivery_seq FROM attempted))
                AND pending_deliveries.seq = attempted.delivery_seq AND pending_deliveries.claim = attempted.claim
            RETURNING pending_deliveries.seq
        ), delivered AS ({_mark_delivered(attempted="attempted", dequeued="dequeued")})
        SELECT ARRAY(SELECT id FROM failing), ARRAY(SELECT seq FROM delivered)
        """  # noqa: S608
    )


@lru_cache(maxsize=1)
def record_with_health_statement(names: tuple[str, ...]) -> TextClause:
    """The statement of `record_with_health`, for attempts with these columns and a `next_attempt_at`.

    Its first part updates the webhook's row if its circuit stays closed and it is not to be disabled; otherwise no
    other part finds an attempt to record.

    Locks (docs/decisions/0012, "record failures"): webhooks (its row) → pending_deliveries with the own claim →
    deliveries. That is the opposite of "record outcomes", but the two can't wait for each other in a circle: while a
    lease lasts only its worker writes to the pending rows of a claim.
    """
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
        ), attempted AS MATERIALIZED (
            SELECT given.* FROM {given} WHERE EXISTS (SELECT FROM webhook)
        ), logged AS (
            INSERT INTO attempts ({columns}) SELECT {columns} FROM attempted ON CONFLICT DO NOTHING
        ), rescheduled AS (
            UPDATE pending_deliveries
            SET attempts = attempted.number, next_attempt_at = attempted.next_attempt_at, claim = NULL
            FROM attempted
            WHERE pending_deliveries.seq = attempted.delivery_seq AND attempted.next_attempt_at IS NOT NULL
                AND pending_deliveries.seq = ANY(ARRAY(SELECT delivery_seq FROM attempted))
                AND pending_deliveries.claim = :token
        ), dequeued AS (
            DELETE FROM pending_deliveries WHERE claim = :token
                AND seq = ANY(ARRAY(SELECT delivery_seq FROM attempted WHERE next_attempt_at IS NULL))
            RETURNING seq
        ), delivered AS ({_mark_delivered(attempted="attempted", dequeued="dequeued")})
        SELECT failures, ARRAY(SELECT seq FROM delivered) FROM webhook
        """  # noqa: S608
    )
