"""What events make is bounded: a batch ends where it would take too much, and what is too much for one is told.

However a batch is cut, the same deliveries are made. What kills its worker or fails again and again is set aside.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from sqlalchemy import select
from sqlalchemy.exc import OperationalError

from shared.domain.events.decoding import check_event
from shared.domain.events.limits import MAX_EVENT_BYTES
from shared.domain.events.partitioning import partition_of
from shared.domain.matching import firing_rules
from shared.messaging.keys import key_tag
from shared.messaging.streams import FIELD, stream_key
from shared.storage.database.transactions import read_transaction
from shared.storage.schema.tables import poison_entries
from tests.integration.scene import Scene, alias_event, metric_event
from worker.coordination import partition_lease
from worker.coordination.partition_lease import acquire_lease
from worker.evaluation import batch as batches
from worker.evaluation import evaluator
from worker.evaluation.drain import SET_ASIDE_AFTER


def with_metadata(event_id: str, chars: int, *, collection: str = "llm") -> Any:
    artifact = {"id": "a", "version": "v3", "metadata": {"large": "x" * chars, "small": event_id}}
    return alias_event(collection=collection, event_id=event_id, artifact=artifact)


def poison(scene: Scene) -> list[Any]:
    with read_transaction(scene.process.engine) as connection:
        return list(connection.execute(select(poison_entries).order_by(poison_entries.c.entry_id)))


def counted_batches(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many entries each batch has that is committed from now on."""
    counts: list[int] = []
    commit = scene.process.committer.commit

    def counted(partition: int, since: Any, batch: Any) -> Any:
        counts.append(batch.count)
        return commit(partition, since, batch)

    monkeypatch.setattr(scene.process.evaluator, "_committer", _Committer(counted))
    return counts


class _Committer:
    def __init__(self, commit: Callable[..., Any]) -> None:
        self.commit = commit


@pytest.mark.parametrize(
    ("limit", "value"),
    [(None, None), ("MAX_MATCHES", 20), ("LARGE_EVENT_BYTES", 1_500), ("EFFECT_BYTES", 9_000), ("MATCH_SECONDS", -1.0)],
)
def test_however_a_batch_is_cut_the_same_deliveries_are_made(
    scene: Scene, monkeypatch: pytest.MonkeyPatch, limit: str | None, value: float | None
) -> None:
    if limit is not None:
        monkeypatch.setattr(evaluator if limit == "LARGE_EVENT_BYTES" else batches, limit, value)
    hook = scene.webhook(paused=True)
    for number in range(3):
        scene.automation(hook, payload={"n": number, "large": "${artifact_metadata.large}"})
    scene.automation(None, cooldown={"per": "automation", "period": "1h"})
    conditions = [{"metric": "loss", "aggregate": "AVERAGE", "window": 3, "op": "$gt", "threshold": 1}]
    scene.automation(hook, event="RUN_METRIC", conditions=conditions, payload={"event": "$event_id"})
    happened = [with_metadata(f"e{n}", 2_000 if n % 5 == 0 else 10) for n in range(40)]
    measured = [metric_event(step, event_id=f"m{step}", loss=step) for step in range(12)]
    partitions = {partition_of(check_event(one), scene.settings.partitions) for one in (*happened, *measured)}
    # Not the first batch of a partition, which takes a transaction in any case.
    scene.publish(with_metadata("first", 10), metric_event(0, run="first", event_id="first-metric", loss=0))
    scene.evaluate()
    scene.publish(*happened[:20], *measured, *happened[20:])
    for body in (b"no event", b"x" * (MAX_EVENT_BYTES + 10)):
        scene.redis.xadd(stream_key(min(partitions)), {FIELD: body})
    counts = counted_batches(scene, monkeypatch)
    for partition in range(scene.settings.partitions):
        while scene.process.partitions.drain(partition):
            pass  # its time slice may be over before all is read
    expected = Counter({f"e{n}": 4 for n in range(40)}) + Counter({"m3": 1, "first": 4})
    assert Counter(row.event_id for row in scene.rows()) == expected
    assert Counter(row.reason for row in scene.rows() if row.status == "skipped") == {"cooldown": 40}
    assert [len(row.body) for row in poison(scene)] == [8, 64 << 10]
    assert sum(counts) == 54
    assert (len(counts) > 4) is (limit is not None)
    ordered = [row.event_id for row in scene.rows() if row.automation_id == 1]
    assert ordered == ["first", *(f"e{n}" for n in range(40))]


def test_what_one_event_makes_beyond_its_bound_becomes_dead_letters(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(firing_rules, "MAX_EVENT_PAYLOAD_BYTES", 50_000)
    hook = scene.webhook(paused=True)
    for number in range(8):
        scene.automation(hook, payload={"n": number, "large": "${artifact_metadata.large}"})
    small = scene.automation(hook, payload={"small": "${artifact_metadata.small}"})
    scene.publish(with_metadata("large", 12_000), with_metadata("next", 10))
    scene.evaluate()
    statuses = Counter((row.event_id, row.status) for row in scene.rows())
    assert statuses == {("large", "pending"): 5, ("large", "refused"): 4, ("next", "pending"): 9}
    refused = [row for row in scene.rows() if row.status == "refused"]
    assert {row.payload for row in refused} == {None}
    assert all("all payloads of one event may be 50000 bytes together" in row.reason for row in refused)
    assert small in {row.automation_id for row in scene.rows() if row.status == "pending"}


def test_an_event_that_may_take_much_is_evaluated_alone(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    hook = scene.webhook(paused=True)
    scene.automation(hook, payload={"large": "${artifact_metadata.large}"})
    scene.publish(with_metadata("first", 10))
    scene.evaluate()
    scene.publish(*(with_metadata(f"e{n}", 200_000 if n == 2 else 10) for n in range(5)))
    counts = counted_batches(scene, monkeypatch)
    scene.evaluate()
    assert counts == [2, 1, 2]
    assert [row.event_id for row in scene.rows()] == ["first", "e0", "e1", "e2", "e3", "e4"]


class Killed(BaseException):
    """Ends a drain as a killed process does: nothing is released."""


def _dying(scene: Scene, monkeypatch: pytest.MonkeyPatch, event_id: str, fault: BaseException) -> list[int]:
    """Has evaluation end in a fault whenever it comes to an event; how many entries were in each such batch."""
    seen: list[int] = []
    match = batches.match_entries

    def fatal(entries: Sequence[Any], *args: Any, **options: Any) -> Any:
        if any(event_id.encode() in entry.body for entry in entries):
            seen.append(len(entries))
            raise fault
        return match(entries, *args, **options)

    monkeypatch.setattr(evaluator, "match_entries", fatal)
    return seen


@pytest.mark.parametrize("fault", [Killed(), MemoryError(), RecursionError(), ValueError("year 31337 is out of range")])
def test_an_entry_that_ends_its_worker_again_and_again_is_set_aside(
    scene: Scene, monkeypatch: pytest.MonkeyPatch, fault: BaseException
) -> None:
    scene.automation(None)
    ids = ["a0", "a1", "fatal", "a2", "a3"]
    happened = [alias_event(event_id=event_id) for event_id in ids]
    partition = partition_of(check_event(happened[0]), scene.settings.partitions)
    scene.publish(alias_event(event_id="first"))
    scene.evaluate()
    scene.publish(*happened)
    seen = _dying(scene, monkeypatch, "fatal", fault)
    drains = 0
    while len(scene.rows()) < len(ids):
        drains += 1
        assert drains < 20
        if isinstance(fault, Killed):
            _die(scene, partition, monkeypatch)
        else:
            try:
                scene.process.partitions.drain(partition)
            except type(fault):
                continue
    assert [row.event_id for row in scene.rows()] == ["first", "a0", "a1", "a2", "a3"]
    [entry] = poison(scene)
    assert b'"fatal"' in entry.body
    assert "ended its worker or failed 3 times in a row" in entry.reason
    assert seen[-2:] == [1, 1], "the last times it was alone"
    assert len(seen) <= 2 * SET_ASIDE_AFTER


def _die(scene: Scene, partition: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """A drain whose process is killed when it comes to the fatal event: nothing is released, and its lock expires."""
    with monkeypatch.context() as patch:
        dead: list[bool] = []
        release = partition_lease.PartitionLease.release

        def released(lease: Any, *args: Any) -> bool:
            return False if dead else release(lease, *args)

        patch.setattr(partition_lease.PartitionLease, "release", released)
        keeping: Callable[..., Any] = vars(evaluator)["match_entries"]

        def killed(*args: Any, **options: Any) -> Any:
            try:
                return keeping(*args, **options)
            except Killed:
                dead.append(True)
                raise

        patch.setattr(evaluator, "match_entries", killed)
        try:
            scene.process.partitions.drain(partition)
        except Killed:
            scene.redis.delete(f"hookline:drain:partition:{key_tag(scene.redis, partition)}")


def test_what_every_entry_needs_and_misses_sets_nothing_aside(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    scene.automation(None)
    scene.publish(alias_event(event_id="first"))
    scene.evaluate()
    happened = alias_event(event_id="late")
    partition = partition_of(check_event(happened), scene.settings.partitions)
    scene.publish(happened)
    with monkeypatch.context() as patch:
        _dying(scene, patch, "late", OperationalError("SELECT 1", {}, Exception("away")))
        for _ in range(3 * SET_ASIDE_AFTER):
            with pytest.raises(OperationalError):
                scene.process.partitions.drain(partition)
    scene.evaluate()
    assert [row.event_id for row in scene.rows()] == ["first", "late"]
    assert poison(scene) == []


def test_drains_that_died_after_they_had_moved_on_blame_nothing(scene: Scene) -> None:
    """Each is killed before it releases its lease, but what it committed is committed."""
    scene.automation(None)
    scene.publish(alias_event(event_id="first"))
    scene.evaluate()
    partition = partition_of(check_event(alias_event()), scene.settings.partitions)
    for number in range(3 * SET_ASIDE_AFTER):
        scene.publish(alias_event(event_id=f"e{number}"))
        lease = acquire_lease(scene.redis, partition, 100, 1 << 20)
        assert lease is not None
        offset, read = scene.process.evaluator.read_next(partition)
        progress = scene.process.evaluator.evaluate_entries(partition, offset, read)
        assert progress.count == 1
        assert lease.renew(progress.offset)
        scene.redis.delete(f"hookline:drain:partition:{key_tag(scene.redis, partition)}")
    scene.publish(alias_event(event_id="last"))
    scene.evaluate()
    assert len(scene.rows()) == 3 * SET_ASIDE_AFTER + 2
    assert poison(scene) == []
