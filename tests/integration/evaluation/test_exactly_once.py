"""Replaying, doubling and interleaving drains never changes the set of deliveries."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from sqlalchemy import delete, update

from shared.domain.events.decoding import check_event
from shared.domain.events.partitioning import START, partition_of
from shared.messaging.celery_app import celery_app
from shared.messaging.keys import key_tag
from shared.messaging.streams import read_after
from shared.storage.database.transactions import read_transaction, write_transaction
from shared.storage.definitions.revisions import next_revision
from shared.storage.evaluation.offsets import advance_offset, read_offset
from shared.storage.schema.tables import automations, deliveries, metric_windows, partitions, pending_deliveries
from tests.integration.scene import Scene, alias_event, metric_event
from worker.bootstrap import WorkerProcess, build_process
from worker.evaluation.batch import match_entries
from worker.evaluation.commit import NotCommitted
from worker.evaluation.stored_state import StaleAutomation
from worker.evaluation.work_shares import WorkShares


@dataclass(frozen=True)
class Publish:
    """Append events: (kind, number); the same number is the same event again."""

    events: tuple[tuple[str, int], ...]


@dataclass(frozen=True)
class Evaluate:
    """One batch of a partition."""

    partition: int


@dataclass(frozen=True)
class Race:
    """Two workers read the same batch; the second commits after the first."""

    partition: int


@dataclass(frozen=True)
class Forget:
    """A worker reads and matches a batch, then dies before it commits."""

    partition: int


@dataclass(frozen=True)
class Mislead:
    """The mark beside the stream says where the partition stands, and is wrong: behind, ahead, or gone."""

    partition: int
    mark: str | None


PARTITIONS = st.integers(0, 3)
MARKS = st.sampled_from([None, "0-0", "1-0", "9999999999999-0"])
EVENTS = st.lists(st.tuples(st.sampled_from(["prod", "staging", "metric"]), st.integers(0, 12)), max_size=12)
STEPS = st.lists(
    st.one_of(
        st.builds(lambda events: Publish(tuple(events)), EVENTS),
        st.builds(Evaluate, PARTITIONS),
        st.builds(Race, PARTITIONS),
        st.builds(Forget, PARTITIONS),
        st.builds(Mislead, PARTITIONS, MARKS),
    ),
    max_size=14,
)


def _event(kind: str, number: int) -> Any:
    if kind == "metric":
        return metric_event(number, run=f"r{number % 2}", event_id=f"metric-{number}", loss=float(number % 3))
    return alias_event(kind, collection=f"c{number % 3}", event_id=f"{kind}-{number}")


def _clear(scene: Scene) -> None:
    scene.redis.flushall()
    with write_transaction(scene.process.engine) as connection:
        for table in (deliveries, pending_deliveries, metric_windows):
            connection.execute(delete(table))
        connection.execute(update(partitions).values(offset=START, entries_read=0))


def _expected(published: Sequence[tuple[str, int]]) -> set[tuple[str, str]]:
    """What must fire, worked out naively: each prod event once, and the first rise over 1.5 of each run."""
    expected = {("alias", f"prod-{number}") for kind, number in published if kind == "prod"}
    last: dict[int, int] = {}
    armed: dict[int, bool] = {}
    fired: set[str] = set()
    for kind, number in published:
        if kind != "metric" or number <= last.get(number % 2, -1):
            continue
        run = number % 2
        last[run] = number
        high = number % 3 > 1.5
        if high and armed.get(run, True):
            fired.add(f"metric-{number}")
        armed[run] = not high
    return expected | {("metric", event_id) for event_id in fired}


def _mark(scene: Scene, partition: int, at: str | None) -> None:
    key = f"hookline:offset:{key_tag(scene.redis, partition)}"
    scene.redis.delete(key)
    if at is not None:
        scene.redis.set(key, f"{at} 3")


def _overtaken(scene: Scene, partition: int, *, dies: bool) -> None:
    """Read and match a batch, let another worker commit it first (or die), then try to commit."""
    with read_transaction(scene.process.engine) as connection:
        offset = read_offset(connection, partition)
    entries = read_after(scene.redis, partition, offset.entry_id, 5)
    if not entries:
        return
    batch = match_entries(entries, scene.process.automations.current(), WorkShares())
    if dies:
        return
    assert scene.process.evaluator.evaluate_after(partition, offset).count > 0
    assert scene.process.committer.commit(partition, offset, batch) is NotCommitted.OFFSET_CONFLICT


@pytest.fixture
def defined(scene: Scene) -> Scene:
    """The scene with one automation on aliases and one on a metric."""
    hook = scene.webhook()
    scene.automation(hook, filter={"alias": {"$regex": "^prod"}})
    conditions = [{"metric": "loss", "op": "$gt", "threshold": 1.5}]
    scene.automation(hook, event="RUN_METRIC", conditions=conditions, cooldown=None)
    return scene


@hypothesis_settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
@given(steps=STEPS)
def test_no_interleaving_changes_what_fires(defined: Scene, steps: list[Any]) -> None:
    scene = defined
    _clear(scene)
    published: list[tuple[str, int]] = []
    for step in steps:
        if isinstance(step, Publish):
            scene.publish(*(_event(*one) for one in step.events))
            published += step.events
        elif isinstance(step, Evaluate):
            scene.process.partitions.drain(step.partition)
        elif isinstance(step, Mislead):
            _mark(scene, step.partition, step.mark)
        else:
            _overtaken(scene, step.partition, dies=isinstance(step, Forget))
    scene.evaluate()
    kinds = {"ADD_ARTIFACT_ALIAS": "alias", "RUN_METRIC": "metric"}
    fired = [(kinds[row.event_type], row.event_id) for row in scene.rows()]
    assert len(fired) == len(set(fired))
    assert set(fired) == _expected(published)
    assert len(scene.pending()) == len(fired)


def test_workers_that_race_for_a_partition_commit_each_entry_once(scene: Scene) -> None:
    scene.automation(scene.webhook())
    events = [alias_event(collection=f"c{number % 5}", event_id=f"e{number}") for number in range(300)]
    scene.publish(*events, *events)
    others = [build_process(scene.settings, celery_app(scene.settings)) for _ in range(2)]
    counted: list[int] = []

    def work(process: WorkerProcess) -> None:
        for partition in range(scene.settings.partitions):
            while True:
                count = process.evaluator.evaluate_next(partition).count
                counted.append(count)
                with read_transaction(process.engine) as connection:
                    offset = read_offset(connection, partition)
                if not read_after(scene.redis, partition, offset.entry_id, 1):
                    break

    threads = [threading.Thread(target=work, args=(process,)) for process in (scene.process, *others)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    for process in others:
        process.close()
    assert sum(counted) == 600
    assert sorted(row.event_id for row in scene.rows()) == sorted(event["id"] for event in events)


def test_an_offset_moves_only_from_where_it_was_read(scene: Scene) -> None:
    event = alias_event()
    scene.publish(event)
    partition = partition_of(check_event(event), scene.settings.partitions)
    with read_transaction(scene.process.engine) as connection:
        offset = read_offset(connection, partition)
    now = datetime.now(UTC)
    for expected in (True, False):
        with write_transaction(scene.process.engine) as connection:
            moved = advance_offset(connection, partition, since=offset, entry_id="5-0", count=1, now=now)
            assert moved is expected


def test_a_worker_with_an_older_edition_does_not_void_newer_state(scene: Scene) -> None:
    automation = scene.automation(
        scene.webhook(), event="RUN_METRIC", conditions=[{"metric": "loss", "op": "$gt", "threshold": 1}]
    )
    slow = scene.settings.model_copy(update={"reload_interval": timedelta(hours=1)})
    stale = build_process(slow, celery_app(slow))
    stale.automations.current()
    with write_transaction(scene.process.engine) as connection:
        revision = next_revision(connection)
        edited = {"epoch": revision, "revision": revision}
        connection.execute(update(automations).where(automations.c.id == automation).values(**edited))
    for step, process in enumerate((scene.process, stale, scene.process, stale)):
        scene.publish(metric_event(2 * step, loss=0), metric_event(2 * step + 1, loss=2))
        for partition in range(scene.settings.partitions):
            process.partitions.drain(partition)
    stale.close()
    assert [(row.status, row.reason) for row in scene.rows()] == [("pending", None)] + [("skipped", "cooldown")] * 3


def test_state_that_is_ahead_of_every_edition_ends_the_drain_with_an_error(scene: Scene) -> None:
    scene.automation(scene.webhook(), event="RUN_METRIC", conditions=[{"metric": "loss", "op": "$gt", "threshold": 1}])
    scene.publish(metric_event(0, loss=0))
    scene.evaluate()
    with write_transaction(scene.process.engine) as connection:
        connection.execute(update(metric_windows).values(epoch=metric_windows.c.epoch + 1000))
    scene.publish(metric_event(1, loss=2))
    with pytest.raises(StaleAutomation, match="newer automations than can be read"):
        scene.evaluate()
    assert scene.rows() == []
    with write_transaction(scene.process.engine) as connection:
        connection.execute(update(metric_windows).values(epoch=metric_windows.c.epoch - 1000))
    scene.evaluate()
    assert [row.event_id for row in scene.rows()] != []
