"""What is old is forgotten in small batches; what is pending, young or still needed stays."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from redis import Redis
from sqlalchemy import Connection, event, func, insert, select, text, update

from dispatcher.pump import maintenance
from dispatcher.pump.maintenance import LOCK, Maintenance
from shared.settings import Settings
from shared.storage.database.engine import open_engine
from shared.storage.database.transactions import read_transaction, write_transaction
from shared.storage.definitions.automations import delete_automation, find_automation
from shared.storage.definitions.revisions import next_revision
from shared.storage.evaluation.poison import PoisonEntry, quarantine
from shared.storage.evaluation.windows import save_windows
from shared.storage.maintenance import retention
from shared.storage.schema.tables import (
    attempts,
    audit_log,
    deliveries,
    kept_revisions,
    metric_windows,
    poison_entries,
)
from tests.integration.scene import Scene, alias_event, metric_event

NOW = datetime(2026, 11, 24, tzinfo=UTC)
KEEP: dict[str, Any] = {"delivery_retention": "30d", "dead_letter_retention": "90d", "window_retention": "30d"}


def _days(count: float) -> datetime:
    return NOW - timedelta(days=count)


def _delivery(number: int, status: str, age_days: float) -> dict[str, Any]:
    return {
        "id": f"dlv_{number}",
        "entity_id": 1,
        "automation_id": 1,
        "webhook_id": 1,
        "status": status,
        "payload": "{}",
        "event_id": f"event-{number}",
        "event_source": "/test",
        "event_type": "ADD_ARTIFACT_ALIAS",
        "event_received_at": _days(age_days),
        "created_at": _days(age_days),
    }


def _store(scene: Scene, rows: list[dict[str, Any]]) -> None:
    with write_transaction(scene.process.engine) as connection:
        connection.execute(insert(deliveries), rows)
        connection.execute(
            text(
                "INSERT INTO attempts (delivery_seq, number, claim, started_at, duration_ms, outcome)"
                " SELECT seq, 1, 1, created_at, 5, '2xx' FROM deliveries"
            )
        )


def _left(scene: Scene) -> Counter[str]:
    return Counter(row.status for row in scene.rows())


@pytest.fixture
def work(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> Iterator[Maintenance]:
    """Chores on the scene's servers, without rests."""
    monkeypatch.setattr(maintenance, "REST_SECONDS", 0.0)
    yield Maintenance(_with(scene.settings, **KEEP), scene.process.engine, scene.redis, threading.Event())


def _with(settings: Settings, **changes: Any) -> Settings:
    return Settings(**{**settings.model_dump(), **changes})


def test_each_status_has_its_time(scene: Scene, work: Maintenance) -> None:
    ages = (89.9, 90.1, 30.1, 29.9, 0)
    statuses = ("delivered", "skipped", "dead", "refused", "pending")
    rows = [(age, status) for age in sorted(ages, reverse=True) for status in statuses]
    _store(scene, [_delivery(number, status, age) for number, (age, status) in enumerate(rows)])
    gone = work.purge(NOW)
    assert gone == {"deliveries": 2 * 3 + 2 * 1}
    assert _left(scene) == {"pending": 5, "delivered": 2, "skipped": 2, "dead": 4, "refused": 4}
    with read_transaction(scene.process.engine) as connection:
        orphans = select(func.count()).where(attempts.c.delivery_seq.not_in(select(deliveries.c.seq)))
        assert connection.scalar(orphans) == 0
        assert connection.scalar(select(func.count()).select_from(attempts)) == 17
    assert work.purge(NOW) == {}


def test_more_than_a_batch_goes_and_kept_ones_between_do_not_stop_it(scene: Scene, work: Maintenance) -> None:
    count = 3 * retention.BATCH
    _store(scene, [_delivery(n, "dead" if n % 3 == 0 else "delivered", 40 - n / count) for n in range(count)])
    assert work.purge(NOW)["deliveries"] == count * 2 // 3
    assert _left(scene) == {"dead": count // 3}


def test_batches_grow_while_they_are_quick_and_shrink_when_they_are_not() -> None:
    sizes = [retention.BATCH]
    for took_seconds in (0.01, 0.04, 0.1, 0.01, 0.01, 0.19, 0.21, 5, 5, 5, 5):
        sizes.append(retention.next_size(sizes[-1], took_seconds))
    assert sizes == [500, 1000, 2000, 2000, 4000, 4000, 4000, 2000, 1000, 500, 500, 500]


def test_nothing_of_nothing(work: Maintenance) -> None:
    assert work.purge(NOW) == {}


def test_0_keeps_for_ever(scene: Scene, work: Maintenance) -> None:
    never = dict.fromkeys((*KEEP, "audit_retention"), "0s")
    _store(scene, [_delivery(1, "delivered", 3000), _delivery(2, "dead", 3000)])
    forever = Maintenance(_with(scene.settings, **never), scene.process.engine, scene.redis, threading.Event())
    assert forever.purge(NOW) == {}
    assert work.purge(NOW) == {"deliveries": 2}


def test_deliveries_outlive_what_streams_hold_so_that_repeats_are_known(scene: Scene) -> None:
    short = _with(scene.settings, delivery_retention="1h", event_retention="24h")
    _store(scene, [_delivery(1, "delivered", 1.1), _delivery(2, "delivered", 0.9)])
    assert Maintenance(short, scene.process.engine, scene.redis, threading.Event()).purge(NOW) == {"deliveries": 1}


def test_deliveries_that_somebody_holds_are_passed_over_and_go_next_time(scene: Scene) -> None:
    if scene.settings.sqlalchemy_url.startswith("sqlite"):
        pytest.skip("SQLite has one writer at a time")
    _store(scene, [_delivery(n, "delivered", 40) for n in range(3)])

    def forget() -> int:
        walk = retention.purge_deliveries(scene.process.engine, retention.FULFILLED, before=_days(30))
        return sum(batch.rows for batch in walk)

    with ThreadPoolExecutor() as pool, write_transaction(scene.process.engine) as connection:
        connection.execute(select(deliveries.c.seq).where(deliveries.c.id == "dlv_1").with_for_update())
        assert pool.submit(forget).result(timeout=60) == 2
    assert forget() == 1


def test_forgetting_windows_waits_for_no_evaluation_that_comes_back_to_them(scene: Scene) -> None:
    if scene.settings.sqlalchemy_url.startswith("sqlite"):
        pytest.skip("SQLite has one writer at a time")

    def saved(connection: Connection, key: str, at: datetime) -> None:
        empty = {"epoch": 0, "windows": b"", "last_fired_ms": None, "recent_firings": b""}
        save_windows(connection, [{"automation_id": 1, "key": key, "updated_at": at, **empty}])

    def forget() -> int:
        return sum(one.rows for one in retention.purge_windows(scene.process.engine, before=_days(30), now=NOW))

    for age, key in enumerate(("younger", "middle", "older")):
        with write_transaction(scene.process.engine) as connection:
            saved(connection, key, _days(40 + age))
    with ThreadPoolExecutor() as pool, write_transaction(scene.process.engine) as connection:
        saved(connection, "middle", NOW)
        # Were it to wait for this one while it holds the older one, neither could go on.
        assert pool.submit(forget).result(timeout=60) == 2
        saved(connection, "older", NOW)
    with read_transaction(scene.process.engine) as connection:
        assert set(connection.scalars(select(metric_windows.c.key))) == {"middle", "older"}


def test_windows_go_unless_a_cooldown_looks_back_further(scene: Scene, work: Maintenance) -> None:
    condition = [{"metric": "loss", "op": "$lt", "threshold": 1}]
    for period in ("1h", "60d"):
        scene.automation(
            None, event="RUN_METRIC", conditions=condition, cooldown={"per": "run", "period": period}, name=period
        )
    scene.publish(metric_event(1, loss=0.5), metric_event(1, run="r2", loss=0.5))
    scene.evaluate()
    with write_transaction(scene.process.engine) as connection:
        connection.execute(update(metric_windows).values(updated_at=_days(31)))
        connection.execute(update(metric_windows).where(metric_windows.c.key.like("%r2")).values(updated_at=_days(29)))
    assert work.purge(NOW)["metric_windows"] == 1
    with write_transaction(scene.process.engine) as connection:
        assert connection.scalar(select(func.count()).select_from(metric_windows)) == 3
        connection.execute(update(metric_windows).values(updated_at=_days(61)))
    assert work.purge(NOW)["metric_windows"] == 3


def test_what_all_partitions_share_stays_with_its_automation(scene: Scene, work: Maintenance) -> None:
    automation = scene.automation(None, rate_limit="1/h")
    scene.publish(alias_event())
    scene.evaluate()
    with write_transaction(scene.process.engine) as connection:
        assert connection.scalars(select(metric_windows.c.key)).all() == [""]
        connection.execute(update(metric_windows).values(updated_at=_days(400)))
    assert work.purge(NOW) == {}
    with write_transaction(scene.process.engine) as connection:
        stored = find_automation(connection, scene.entity_id, automation_id=automation)
        assert stored is not None
        delete_automation(connection, stored, revision=next_revision(connection), now=NOW)
    assert work.purge(NOW) == {"metric_windows": 1}


def test_poison_and_audit_records(scene: Scene, work: Maintenance) -> None:
    with write_transaction(scene.process.engine) as connection:
        for number, age in enumerate((89, 91, 100)):
            quarantine(connection, 0, [PoisonEntry(f"{number}-0", "no event", b"x")], _days(age))
            row = {"user_id": 1, "user_name": "root", "entity_id": None, "action": "a", "target": "t"}
            connection.execute(insert(audit_log).values(created_at=_days(age), **row))
    assert work.purge(NOW) == {"poison_entries": 2}
    short = _with(scene.settings, audit_retention="90d")
    assert Maintenance(short, scene.process.engine, scene.redis, threading.Event()).purge(NOW)["audit_log"] == 2
    with read_transaction(scene.process.engine) as connection:
        for table in (poison_entries, audit_log):
            assert connection.scalar(select(func.count()).select_from(table)) == 1


def test_revisions_stay_until_they_were_out_of_force_for_as_long(scene: Scene, work: Maintenance) -> None:
    rows = [
        # Of each target: numbers, what was done, and days ago.
        (1, "create", 300),
        (1, "update", 200),
        (1, "update", 95),  # in force when the retention begins
        (1, "update", 10),
        (2, "create", 300),
        (3, "create", 300),
        (3, "delete", 91),
        (4, "create", 300),
        (4, "delete", 89),
    ]
    with write_transaction(scene.process.engine) as connection:
        connection.execute(
            insert(kept_revisions),
            [
                {
                    "created_at": _days(age),
                    "kind": "automation",
                    "target_id": target,
                    "entity_id": 1,
                    "revision": 1,
                    "change": change,
                    "changed": [],
                    "content": b"x",
                }
                for target, change, age in rows
            ],
        )
    assert work.purge(NOW) == {"kept_revisions": 4}
    with read_transaction(scene.process.engine) as connection:
        query = select(kept_revisions.c.target_id, kept_revisions.c.change).order_by(kept_revisions.c.id)
        left = [tuple(row) for row in connection.execute(query)]
    assert left == [(1, "update"), (1, "update"), (2, "create"), (4, "create"), (4, "delete")]
    forever = _with(scene.settings, revision_retention="0s")
    again = Maintenance(forever, scene.process.engine, scene.redis, threading.Event())
    assert again.purge(NOW + timedelta(days=1000)) == {}


def test_only_one_pump_forgets_at_a_time_and_a_dead_one_is_not_waited_for_long(scene: Scene, work: Maintenance) -> None:
    _store(scene, [_delivery(1, "delivered", 40)])
    taken = scene.redis.lock(LOCK, timeout=60, blocking=False, thread_local=False)
    assert taken.acquire()
    assert work.purge(NOW) == {}
    assert 0 < scene.redis.ttl(LOCK) <= 60
    taken.release()
    assert work.purge(NOW) == {"deliveries": 1}


def test_two_that_forget_at_once_lose_nothing_and_count_each_row_once(scene: Scene) -> None:
    count = 2 * retention.BATCH
    _store(scene, [_delivery(n, "delivered", 40) for n in range(count)] + [_delivery(count, "pending", 40)])

    def forget(_number: int) -> int:
        walk = retention.purge_deliveries(scene.process.engine, retention.FULFILLED, before=_days(30))
        return sum(batch.rows for batch in walk)

    with ThreadPoolExecutor() as pool:
        assert sum(pool.map(forget, range(2))) <= count
    forget(0)
    assert _left(scene) == {"pending": 1}


def test_workers_go_on_meanwhile(scene: Scene, work: Maintenance) -> None:
    _store(scene, [_delivery(n, "delivered", 40) for n in range(4 * retention.BATCH)])
    hook = scene.webhook()
    scene.automation(hook)
    with ThreadPoolExecutor() as pool:
        forgetting = pool.submit(work.purge, NOW)
        for _ in range(10):
            scene.publish(*(alias_event() for _ in range(20)))
            scene.evaluate()
            scene.deliver()
        assert forgetting.result(timeout=60)["deliveries"] == 4 * retention.BATCH
    assert _left(scene) == {"delivered": 200}


def test_claims_wait_for_no_batch_that_is_being_deleted(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retention, "LARGE_BATCH", retention.BATCH)
    _store(scene, [_delivery(n, "delivered", 40) for n in range(3 * retention.BATCH)])
    scene.automation(scene.webhook())
    own = open_engine(scene.settings)
    deleted, go_on = threading.Event(), threading.Event()

    def pause(_connection: object, _cursor: object, statement: str, *_rest: object) -> None:
        if statement.startswith("DELETE FROM deliveries"):
            deleted.set()
            go_on.wait(30)

    halfway = own.dialect.name == "postgresql"  # SQLite has one writer: there claims go on between the batches
    if halfway:
        event.listen(own, "after_cursor_execute", pause)
    walk = retention.purge_deliveries(own, retention.FULFILLED, before=_days(30))
    with ThreadPoolExecutor() as pool:
        for number in range(1, 4):
            batch = pool.submit(next, walk)
            assert not halfway or deleted.wait(30)
            scene.publish(*(alias_event() for _ in range(5)))
            scene.evaluate()
            scene.deliver()
            assert len(scene.receiver.requests) == 5 * number
            assert not (halfway and batch.done()), "it was waited for"
            go_on.set()
            assert batch.result(timeout=30).rows == retention.BATCH
            deleted.clear()
            go_on.clear()
    own.dispose()
    assert _left(scene) == {"delivered": 15}


def test_a_repeat_of_an_event_is_known_as_long_as_its_delivery_is_kept(
    scene: Scene, work: Maintenance, redis: Redis
) -> None:
    scene.automation(scene.webhook())
    repeated = alias_event(event_id="once")
    scene.publish(repeated, repeated)
    scene.evaluate()
    assert len(scene.rows()) == 1
    assert work.purge(datetime.now(UTC)) == {}
    scene.publish(repeated)
    scene.evaluate()
    assert len(scene.rows()) == 1
