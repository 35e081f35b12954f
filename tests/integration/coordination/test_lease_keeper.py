"""A lease of a partition lasts for as long as its drain is at work, and for no longer where the drain hangs."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import pytest
from redis import Redis

from shared.domain.events.partitioning import Offset
from shared.messaging.keys import key_tag
from shared.messaging.streams import FIELD, stream_key
from tests.integration.processes import wait_until
from worker.coordination import lease_keeper
from worker.coordination.lease_keeper import LeaseKeeper
from worker.coordination.partition_lease import Ending, PartitionLease, acquire_lease
from worker.coordination.webhook_slots import LOCK_SECONDS
from worker.evaluation.memory_gate import MemoryGate


def lock(redis: Redis) -> str:
    return f"hookline:drain:partition:{key_tag(redis, 3)}"


def unfinished(redis: Redis) -> str:
    return f"hookline:unfinished:{key_tag(redis, 3)}"


@pytest.fixture
def keeper(monkeypatch: pytest.MonkeyPatch) -> Iterator[LeaseKeeper]:
    monkeypatch.setattr(lease_keeper, "LOOK_SECONDS", 0.01)
    keeper = LeaseKeeper()
    yield keeper
    keeper.close()


def acquired(redis: Redis) -> PartitionLease:
    lease = acquire_lease(redis, 3, 100, 1 << 20)
    assert lease is not None
    return lease


def test_a_lease_is_renewed_while_its_drain_is_at_work_and_not_after(redis: Redis, keeper: LeaseKeeper) -> None:
    lease = acquired(redis)
    with keeper.keeping(lease):
        for _ in range(3):
            redis.pexpire(lock(redis), 2_000)
            wait_until(lambda: int(redis.pttl(lock(redis))) > 2_000, "renewal")
    assert not lease.release(None)
    assert redis.get(lock(redis)) is None
    assert redis.set(lock(redis), "another", px=2_000)
    assert not lease.renew()
    assert int(redis.pttl(lock(redis))) <= 2_000, "what is another's stays as it is"


def test_a_drain_that_hangs_loses_its_lease(redis: Redis, keeper: LeaseKeeper, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lease_keeper, "HANGING_SECONDS", 0.05)
    with keeper.keeping(acquired(redis)):
        began = time.monotonic()
        wait_until(lambda: time.monotonic() - began > 2 * lease_keeper.HANGING_SECONDS, "hanging drain")
        redis.pexpire(lock(redis), 300)
        wait_until(lambda: redis.get(lock(redis)) is None, "expiry")


def test_what_a_process_was_at_for_long_is_not_to_blame_for_its_death(
    redis: Redis, keeper: LeaseKeeper, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lease_keeper, "EXCUSED_SECONDS", 0.05)
    lease = acquired(redis)
    assert redis.get(unfinished(redis)) == b"- 1"
    with keeper.keeping(lease):
        wait_until(lambda: redis.get(unfinished(redis)) is None, "excuse")


def died(redis: Redis) -> None:
    redis.delete(lock(redis))


def test_what_was_begun_and_not_finished_is_counted(redis: Redis) -> None:
    assert acquired(redis).release(Offset("5-1", 7)) is False
    first = acquired(redis)
    assert (first.begun, first.cached_offset) == (0, Offset("5-1", 7))
    died(redis)
    second = acquired(redis)
    assert second.begun == 1
    died(redis)  # before it began anything
    third = acquired(redis)
    assert third.begun == 1
    third.begin_again()
    died(redis)
    fourth = acquired(redis)
    assert fourth.begun == 2
    fourth.release(None)
    assert acquired(redis).begun == 0


def test_moving_on_begins_a_new_count(redis: Redis) -> None:
    acquired(redis).release(Offset("5-1", 7))
    acquired(redis)
    died(redis)
    lease = acquired(redis)
    assert lease.begun == 1
    assert lease.renew(Offset("6-0", 8))
    died(redis)
    again = acquired(redis)
    assert (again.begun, again.cached_offset) == (1, Offset("6-0", 8))


@pytest.mark.parametrize(("ending", "left"), [(Ending.FINISHED, 0), (Ending.FAILED, 2), (Ending.INTERRUPTED, 1)])
def test_how_it_ended_decides_whether_it_counts(redis: Redis, ending: Ending, left: int) -> None:
    acquired(redis)
    died(redis)
    lease = acquired(redis)
    lease.begin_again()
    lease.release(None, ending)
    assert acquired(redis).begun == left


def test_a_lease_that_was_lost_neither_notes_nor_forgets_anything(redis: Redis) -> None:
    lease = acquired(redis)
    died(redis)
    taken_over = acquired(redis)
    taken_over.begin_again()
    for ending in Ending:
        lease.excuse()
        lease.begin_again()
        lease.release(None, ending)
    assert redis.get(unfinished(redis)) == b"- 2"
    assert LOCK_SECONDS * 1000 >= int(redis.pttl(lock(redis))) > 0


def test_what_is_begun_again_is_read_alone(redis: Redis) -> None:
    for entry_id in ("5-1", "5-2", "6-0"):
        redis.xadd(stream_key(3), {FIELD: b"x"}, id=entry_id)
    assert acquired(redis).release(Offset("5-1", 1))
    assert len(acquired(redis).next.entries) == 2
    died(redis)
    assert [entry.id for entry in acquired(redis).next.entries] == ["5-2"]


def test_a_gate_lets_in_what_fits_and_the_first_first() -> None:
    gate = MemoryGate(10)
    order: list[str] = []

    def work(name: str, weight: int) -> threading.Thread:
        def run() -> None:
            with gate.share(weight):
                order.append(name)

        thread = threading.Thread(target=run)
        thread.start()
        return thread

    with gate.share(4):
        work("fits", 6).join(10)
        heavy = work("heavy", 1_000)
        wait_until(lambda: len(gate._waiting) == 1, "waiting thread")
        light = work("light", 1)
        wait_until(lambda: len(gate._waiting) == 2, "second waiting thread")
        assert order == ["fits"]
    for thread in (heavy, light):
        thread.join(10)
    assert order == ["fits", "heavy", "light"]
    with gate.share(10):
        pass
