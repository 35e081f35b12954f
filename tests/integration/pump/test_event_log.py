"""The event log: what is evaluated is copied before it is trimmed, read with the streams as one, and dropped later."""

from __future__ import annotations

import itertools
import threading
from datetime import UTC, datetime, timedelta
from typing import Any

import orjson
from hypothesis import given
from hypothesis import strategies as st
from redis import Redis
from sqlalchemy import func, select

from dispatcher.pump.event_logging import log_events
from dispatcher.pump.maintenance import Maintenance
from shared.dry_runs.event_history import EventHistoryReader
from shared.dry_runs.kept_entries import KeptEntries, Position
from shared.dry_runs.time_range import TimeRange
from shared.messaging.streams import stream_key
from shared.settings import Settings
from shared.storage.database.transactions import read_transaction
from shared.storage.evaluation.event_log import EventLog, LoggedEntry, pack_entries, unpack_entries
from shared.storage.evaluation.offsets import read_offsets
from shared.storage.schema.tables import event_log
from tests.integration.scene import Scene, alias_event


def at_work(scene: Scene, **changes: Any) -> Maintenance:
    settings = Settings(**{**scene.settings.model_dump(), "event_log": "7d", **changes})
    return Maintenance(settings, scene.process.engine, scene.redis, threading.Event())


def published(scene: Scene, count: int, prefix: str) -> list[str]:
    names = [f"{prefix}-{place}" for place in range(count)]
    scene.publish(*(alias_event(event_id=name, collection=f"c{place % 7}") for place, name in enumerate(names)))
    scene.evaluate()
    return names


def kept(scene: Scene) -> KeptEntries:
    return KeptEntries(scene.redis, scene.settings.partitions, EventLog(scene.process.engine))


def names_of(entries: Any) -> list[str]:
    return [orjson.loads(entry.body)["id"] for entry in entries]


def in_streams(redis: Redis, partitions: int) -> int:
    return sum(redis.xlen(stream_key(partition)) for partition in range(partitions))


def test_what_is_trimmed_is_logged_and_read_with_the_streams_as_one(scene: Scene) -> None:
    old = published(scene, 900, "old")
    at_work(scene, event_retention="0s").trim(datetime.now(UTC))
    new = published(scene, 30, "new")
    assert in_streams(scene.redis, scene.settings.partitions) < 930

    forwards = list(kept(scene).forwards(None))
    assert sorted(names_of(forwards)) == sorted(old + new)
    order = [entry.position for entry in forwards]
    assert order == sorted(set(order))
    backwards = list(kept(scene).backwards(None, 0))
    assert backwards == forwards[::-1]

    for place in (0, 1, 400, 899, 929):
        middle = order[place]
        assert list(kept(scene).forwards(middle)) == forwards[place + 1 :]
        assert list(kept(scene).backwards(middle, 0)) == forwards[:place][::-1]
        assert kept(scene).find(middle) == forwards[place]
    since_ms, until_ms = order[300].received_ms, order[700].received_ms
    span = [entry for entry in forwards if since_ms <= entry.position.received_ms < until_ms]
    end = Position(until_ms, -1, -1)
    assert list(kept(scene).backwards(end, since_ms)) == span[::-1]
    assert list(kept(scene).forwards(Position(since_ms, -1, -1), until_ms)) == span
    log = EventLog(scene.process.engine)
    time_range = TimeRange(since_ms, until_ms)
    reading = EventHistoryReader(scene.redis, scene.settings.partitions, time_range, {"acme"}, log=log)
    assert [one.event.id for one in reading.arrivals()] == names_of(span)


def test_what_is_not_logged_is_not_trimmed_and_few_wait_for_others(scene: Scene) -> None:
    published(scene, 600, "e")
    work = at_work(scene)
    now = datetime.now(UTC)
    work.trim(now)
    assert rows(scene) == 0
    work.trim(now + timedelta(minutes=6))
    written = rows(scene)
    assert 0 < written <= scene.settings.partitions
    work.trim(now + timedelta(minutes=7))
    assert rows(scene) == written
    work.trim(now + timedelta(days=2))
    assert len(list(kept(scene).forwards(None))) == 600


def test_two_dispatchers_log_each_entry_once(scene: Scene) -> None:
    published(scene, 50, "e")
    with read_transaction(scene.process.engine) as connection:
        ends = {partition: offset.entry_id for partition, offset in read_offsets(connection).items()}
    now = datetime.now(UTC)
    barrier = threading.Barrier(2)

    def log() -> None:
        barrier.wait(30)
        log_events(scene.process.engine, scene.redis, ends, now, at_once=True)

    threads = [threading.Thread(target=log) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    logged = [
        entry.order
        for partition in range(scene.settings.partitions)
        for entry in EventLog(scene.process.engine).forwards(partition, (0, 0), None)
    ]
    assert len(logged) == 50
    with read_transaction(scene.process.engine) as connection:
        assert connection.scalar(select(func.sum(event_log.c.entries))) == 50


def test_old_rows_are_dropped(scene: Scene) -> None:
    published(scene, 20, "e")
    work, now = at_work(scene, event_retention="0s"), datetime.now(UTC)
    work.trim(now)
    written = rows(scene)
    assert "event_log" not in work.purge(now + timedelta(days=6))
    assert work.purge(now + timedelta(days=8))["event_log"] == written
    assert rows(scene) == 0


def test_without_the_setting_nothing_is_logged(scene: Scene) -> None:
    published(scene, 20, "e")
    at_work(scene, event_log="0s", event_retention="0s").trim(datetime.now(UTC))
    assert rows(scene) == 0


def rows(scene: Scene) -> int:
    with read_transaction(scene.process.engine) as connection:
        return connection.scalar(select(func.count()).select_from(event_log)) or 0


@given(st.lists(st.tuples(st.integers(0, 2**63), st.one_of(st.none(), st.binary(max_size=50))), max_size=20))
def test_rows_read_back_what_was_packed(raw: list[tuple[int, bytes | None]]) -> None:
    numbers = itertools.count()
    entries = [LoggedEntry((ms, next(numbers)), body) for ms, body in raw]
    assert unpack_entries(pack_entries(entries)) == entries
