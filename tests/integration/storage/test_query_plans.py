"""The queries of drains, sweeps and lists reach their rows through indexes, on SQLite and PostgreSQL."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from cryptography.fernet import Fernet
from redis import Redis
from sqlalchemy import Connection, Engine, event, text

from shared.settings import load_settings
from shared.storage.accounts import audit_log
from shared.storage.accounts.audit_log import ChangeFilter
from shared.storage.database.transactions import write_transaction
from shared.storage.delivery import backlog, claims, delivery_stats, replay
from shared.storage.delivery import history as history
from shared.storage.delivery.abandon import abandon_deliveries
from shared.storage.delivery.history import DeliveryFilter, DeliveryStatus
from shared.storage.delivery.recording import AttemptRecord, Successes, record, record_successes
from shared.storage.evaluation import new_deliveries, windows
from shared.storage.maintenance import retention
from shared.storage.maintenance.orphaned_deliveries import dead_letter_orphans
from shared.storage.schema.tables import DEAD
from tests.integration.conftest import migrated_database
from tests.integration.receiver import Receiver
from tests.integration.scene import Scene, opened_scene

NOW = datetime(2026, 11, 23, tzinfo=UTC)
ROWS = {"sqlite": 60_000, "postgresql": 80_000}
BEFORE = NOW + timedelta(days=1)
"""All of them are older."""
LARGE = ("deliveries", "pending_deliveries", "attempts", "metric_windows", "audit_log")


NUMBERS = "WITH RECURSIVE numbers(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM numbers WHERE n < :rows) "
SERIES = "WITH numbers(n) AS (SELECT generate_series(1, :rows)) "
DELIVERIES = (
    "INSERT INTO deliveries (seq, id, entity_id, automation_id, webhook_id, status, payload, event_id, event_source,"
    " event_type, event_received_at, created_at) "
    + NUMBERS
    + "SELECT n, 'dlv_' || n, n % 50, n % 100, n % 20 + 1, CASE WHEN n % 10 = 0 THEN 'pending'"
    " WHEN n % 97 = 0 THEN 'dead' ELSE 'delivered' END, '{}', 'event-' || n, '/test', 'ADD_ARTIFACT_ALIAS',"
    " '2026-11-23 00:00:00.000000', '2026-11-23 00:00:00.000000' FROM numbers"
)
# The last webhook, which is deleted, has few of them: of many PostgreSQL would rather read the whole table.
PENDING = (
    "INSERT INTO pending_deliveries (seq, webhook_id, attempts, next_attempt_at) "
    + NUMBERS
    + "SELECT n * 2, CASE WHEN n % 1000 = 0 THEN 20 ELSE n % 19 + 1 END, 0,"
    " CASE WHEN n % 7 = 0 THEN TIMESTAMP '2026-11-22 00:00:00.000000'"
    " ELSE TIMESTAMP '2026-11-24 00:00:00.000000' END FROM numbers WHERE n * 2 <= :rows"
)
ATTEMPTS = (
    "INSERT INTO attempts (delivery_seq, number, claim, started_at, duration_ms, outcome) "
    + NUMBERS
    + "SELECT n, 1, 1, '2026-11-23 00:00:00.000000', 1, '2xx' FROM numbers"
)
CHANGES = (
    "INSERT INTO audit_log (id, created_at, user_id, user_name, entity_id, action, target, detail, target_name) "
    + NUMBERS
    + "SELECT n, '2026-11-23 00:00:00.000000', 1, 'user-' || n % 400, n % 5, 'webhook.update', 'wh_' || n % 1000,"
    " '{}', 'hook-' || n % 1000 FROM numbers"
)
WINDOWS = (
    "INSERT INTO metric_windows (automation_id, key, epoch, updated_at) "
    + NUMBERS
    + "SELECT n % 500, 'run-' || n, 1, '2026-11-23 00:00:00.000000' FROM numbers"
)


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def grown(
    request: pytest.FixtureRequest, valkey_url: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Engine]:
    """A database with a history in which looking at every row would show; nobody may change it."""
    with migrated_database(request, tmp_path_factory.mktemp("grown"), request.param) as url:
        settings = load_settings(redis_url=valkey_url, database_url=url, secret_keys=Fernet.generate_key().decode())
        with Redis.from_url(valkey_url) as redis, opened_scene(settings, redis, Receiver()) as scene:
            _grow(scene)
            yield scene.process.engine


def _grow(scene: Scene) -> None:
    for number in range(20):
        scene.webhook(f"hook-{number}")
    dialect = scene.process.engine.dialect.name
    with write_transaction(scene.process.engine) as connection:
        for statement in (DELIVERIES, PENDING, ATTEMPTS, WINDOWS, CHANGES):
            portable = statement.replace("'2026-11-23 00:00:00.000000'", "TIMESTAMP '2026-11-23 00:00:00.000000'")
            if dialect == "postgresql":
                portable = portable.replace(NUMBERS, SERIES)
            else:
                portable = portable.replace("TIMESTAMP ", "")
            connection.execute(text(portable), {"rows": ROWS[dialect]})
    with scene.process.engine.connect() as connection:
        connection.execute(text("UPDATE webhooks SET deleted_at = created_at WHERE name = 'hook-19'"))
        if dialect == "postgresql":
            connection.execute(
                text("SELECT setval(pg_get_serial_sequence('deliveries', 'seq'), max(seq)) FROM deliveries")
            )
        connection.execute(text("ANALYZE"))
        connection.commit()


def _ended(seq: int) -> AttemptRecord:
    again = seq % 20 == 0
    return AttemptRecord(
        seq=seq,
        number=2,
        started_at=NOW,
        duration_ms=1,
        outcome="2xx",
        status_code=200,
        error=None,
        response_body="",
        response_truncated=False,
        next_attempt_at=NOW if again else None,
        final_status=None if again else "delivered",
        reason=None,
    )


def _changes(c: Connection, entity_id: int | None = 3, *, position: int | None = None, **wanted: Any) -> Any:
    return audit_log.list_changes(c, entity_id, ChangeFilter(**wanted), position=position, limit=50)


QUERIES: dict[str, Callable[[Connection], Any]] = {
    "claim": lambda c: claims.claim(c, 3, limit=50, now=NOW, lease_until=NOW + timedelta(seconds=45), token=7),
    "attempts that failed inside": lambda c: backlog.count_internal(c, NOW, within_seconds=[600, 1800]),
    "oldest that only we hold up": lambda c: backlog.oldest_prompt_seconds(c, NOW),
    "due webhooks": lambda c: backlog.due_webhooks(c, NOW),
    "bury orphans": lambda c: dead_letter_orphans(c, reason="gone", now=NOW),
    "abandon": lambda c: abandon_deliveries(c, 20, reason="gone", now=NOW),
    "record": lambda c: record(c, [_ended(seq) for seq in range(10, 1_000, 10)], token=7, now=NOW),
    "record successes": lambda c: record_successes(
        c, [Successes(seq % 20, 7, [_ended(seq)]) for seq in range(11, 1_000, 20)], now=NOW
    ),
    "webhooks with due": lambda c: claims.webhooks_with_due(c, [3, 4, 5], NOW),
    "known deliveries": lambda c: new_deliveries.find_existing(c, [f"dlv_{n}" for n in range(40)]),
    "load windows": lambda c: windows.load_windows(c, [(n, f"run-{n}") for n in range(40)], NOW),
    "list": lambda c: history.list_deliveries(c, 3, DeliveryFilter(), before=None, limit=50),
    "list, a later page": lambda c: history.list_deliveries(c, 3, DeliveryFilter(), before=40_000, limit=50),
    "list the dead": lambda c: history.list_deliveries(
        c, 3, DeliveryFilter(statuses=(DeliveryStatus.DEAD,)), before=None, limit=50
    ),
    "list anyone's dead": lambda c: history.list_deliveries(
        c, None, DeliveryFilter(statuses=(DeliveryStatus.DEAD,)), before=None, limit=50
    ),
    "list a webhook's dead": lambda c: history.list_deliveries(
        c, None, DeliveryFilter(statuses=(DeliveryStatus.DEAD,), webhook_id=3), before=None, limit=50
    ),
    "list an automation's dead": lambda c: history.list_deliveries(
        c, 3, DeliveryFilter(statuses=(DeliveryStatus.DEAD,), automation_id=3), before=None, limit=50
    ),
    "list of an automation": lambda c: history.list_deliveries(
        c, 3, DeliveryFilter(automation_id=3), before=None, limit=50
    ),
    "list of a webhook": lambda c: history.list_deliveries(c, 3, DeliveryFilter(webhook_id=3), before=None, limit=50),
    "list of an event": lambda c: history.list_deliveries(
        c, 3, DeliveryFilter(event_id="event-7"), before=None, limit=9
    ),
    "list of several statuses": lambda c: history.search_deliveries(
        c, 3, DeliveryFilter(statuses=tuple(DeliveryStatus)), limit=50
    ),
    "newer ones": lambda c: history.search_deliveries(c, 3, DeliveryFilter(), after=40_000, limit=50),
    "newer ones that are dead": lambda c: history.search_deliveries(
        c, 3, DeliveryFilter(statuses=(DeliveryStatus.DEAD,)), after=40_000, limit=50
    ),
    "list of a time": lambda c: history.search_deliveries(c, 3, DeliveryFilter(since=NOW, until=BEFORE), limit=50),
    "list of a run": lambda c: history.search_deliveries(c, 3, DeliveryFilter(run="r"), limit=50),
    "list of a run's dead": lambda c: history.search_deliveries(
        c, 3, DeliveryFilter(run="r", statuses=(DeliveryStatus.DEAD, DeliveryStatus.PENDING)), limit=50
    ),
    "list with an answer": lambda c: history.search_deliveries(
        c, 3, DeliveryFilter(response_codes=(404,), min_attempts=2, reason="x"), limit=50
    ),
    "what may be replayed": lambda c: replay.list_replayable(
        c, 3, DeliveryFilter(statuses=(DeliveryStatus.DEAD,)), limit=50, unreplayed=True
    ),
    "replay": lambda c: replay.replay(c, range(97, 9_700, 97), NOW, interval=timedelta(0)),
    "one": lambda c: history.find_delivery(c, 3, "dlv_3"),
    "changes by a user": lambda c: _changes(c, user_name="user-7"),
    "changes by an action": lambda c: _changes(c, action="session.create"),
    "changes by a target": lambda c: _changes(c, target="wh_7"),
    "their later pages": lambda c: _changes(c, position=40_000, target="wh_7"),
    "anyone's changes by a target": lambda c: _changes(c, None, target="wh_7"),
    "anyone's changes by a user": lambda c: _changes(c, None, user_name="user-7"),
    "its attempts": lambda c: history.list_attempts(c, 3),
}


@contextmanager
def _statements(connection: Connection | Engine) -> Iterator[list[tuple[str, Any]]]:
    seen: list[tuple[str, Any]] = []

    def see(_c: Any, _cursor: Any, statement: str, parameters: Any, _context: Any, many: bool) -> None:
        seen.append((statement, parameters[0] if many else parameters))

    event.listen(connection, "before_cursor_execute", see)
    yield seen
    event.remove(connection, "before_cursor_execute", see)


def _plan(connection: Connection, statement: str, parameters: Any) -> str:
    explain = "EXPLAIN " if connection.dialect.name == "postgresql" else "EXPLAIN QUERY PLAN "
    rows = connection.exec_driver_sql(explain + statement, parameters).all()
    return "\n".join(" ".join(str(part) for part in row) for row in rows)


@pytest.mark.parametrize("name", QUERIES)
def test_a_query_reaches_its_rows_through_an_index(grown: Engine, name: str) -> None:
    with grown.connect() as connection:  # and not committed
        with _statements(connection) as seen:
            QUERIES[name](connection)
        faults = _whole_scans(connection, seen)
    assert not faults, "\n\n".join(faults)


@pytest.mark.parametrize("name", ["list", "list, a later page", "list anyone's dead"])
def test_postgresql_does_not_plan_a_list_anew_each_time(grown: Engine, name: str) -> None:
    """Planning takes longer than most lists; the plan for any parameters is kept where it is no worse.

    Of other lists that depends on what ANALYZE, which looks at random rows, makes of so small a table.
    """
    if grown.dialect.name != "postgresql":
        pytest.skip("SQLite plans a statement once")
    with grown.connect() as connection:
        for _ in range(_TILL_KEPT):
            QUERIES[name](connection)
        kept = connection.execute(_KEPT_PLANS).scalar_one()
        connection.invalidate()  # with what was prepared
    assert kept > 0


@pytest.mark.parametrize(
    ("name", "index"),
    [
        ("list of an event", "ix_deliveries_event_id"),
        ("list of an automation", "ix_deliveries_automation_id_seq"),
        ("list of a webhook", "ix_deliveries_webhook_id_seq"),
    ],
)
def test_sqlite_does_not_walk_through_all_deliveries_of_an_entity(grown: Engine, name: str, index: str) -> None:
    if grown.dialect.name != "sqlite":
        pytest.skip("PostgreSQL has statistics")
    with grown.connect() as connection:
        with _statements(connection) as seen:
            QUERIES[name](connection)
        plans = [_plan(connection, *one) for one in seen]
    assert any(index in plan for plan in plans)
    assert not any("ix_deliveries_entity_id_seq" in plan for plan in plans)


_TILL_KEPT = 15
"""The driver prepares a statement at its sixth time, and PostgreSQL plans that anew for five times."""
_KEPT_PLANS = text("SELECT sum(generic_plans) FROM pg_prepared_statements WHERE statement LIKE '%FROM deliveries%'")


def test_what_waits_is_read_once_for_all_automations_of_a_page(grown: Engine) -> None:
    if grown.dialect.name != "postgresql":
        pytest.skip("SQLite looks each of an automation's newest deliveries up")
    with grown.connect() as connection:
        with _statements(connection) as seen:
            found = delivery_stats.automation_stats(connection, range(50))
        plans = [_plan(connection, *one) for one in seen if "pending_deliveries" in one[0]]
    assert found == {}
    assert len(plans) == 2
    assert plans[1].index("on pending_deliveries") < plans[1].index("SubPlan")  # which is done for each automation


@pytest.mark.parametrize("name", [name for name in QUERIES if "changes" in name or "their" in name])
def test_changes_that_are_looked_for_are_found_without_walking_through_all_of_an_entity(
    grown: Engine, name: str
) -> None:
    with grown.connect() as connection:
        with _statements(connection) as seen:
            QUERIES[name](connection)
        plans = [_plan(connection, *one) for one in seen]
    assert not any("ix_audit_log_entity_id_id" in plan for plan in plans)


@pytest.mark.parametrize("statuses", [retention.FULFILLED, DEAD])
def test_retention_reaches_its_rows_through_an_index(grown: Engine, statuses: tuple[str, ...]) -> None:
    """The last tests here: they delete a few hundred rows."""
    with _statements(grown) as seen:
        walk = retention.purge_deliveries(grown, statuses, before=BEFORE)
        assert next(walk).rows == retention.BATCH
    with grown.connect() as connection:
        faults = _whole_scans(connection, seen)
    assert not faults, "\n\n".join(faults)


def _whole_scans(connection: Connection, seen: list[tuple[str, Any]]) -> list[str]:
    """The plans in which a large table is read from end to end."""
    plans = [
        _plan(connection, *one)
        for one in seen
        if one[0].lstrip().startswith(("SELECT", "WITH", "INSERT", "UPDATE", "DELETE"))
        and not one[0].startswith("SELECT set_config")  # the driver's, when it connects
    ]
    assert plans
    return [plan for plan in plans if _WHOLE(plan)]


_WHOLE = re.compile(rf"(Seq Scan on|SCAN) ({'|'.join(LARGE)})(?! USING)").search
