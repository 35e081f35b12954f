"""A partition's lease: one drain at a time holds it, and its end leaves no news unseen."""

from __future__ import annotations

import pytest
from redis import Redis

from shared.domain.events.partitioning import START, Offset
from shared.messaging.celery_app import PARTITION_TASK
from shared.messaging.keys import key_tag
from shared.messaging.streams import FIELD, read_after, stream_key
from shared.messaging.wakeups import token_key
from worker.coordination.partition_lease import PartitionLease, acquire_lease
from worker.coordination.webhook_slots import LOCK_SECONDS


def lock(redis: Redis) -> str:
    return f"hookline:drain:partition:{key_tag(redis, 3)}"


def _take(redis: Redis, count: int = 100, max_bytes: int = 1 << 20) -> PartitionLease:
    turn = acquire_lease(redis, 3, count, max_bytes)
    assert turn is not None
    return turn


def _add(redis: Redis, *ids: str) -> None:
    for entry_id in ids:
        redis.xadd(stream_key(3), {FIELD: b"x" * 10}, id=entry_id)


def test_it_goes_on_after_the_mark_of_the_last(redis: Redis) -> None:
    _add(redis, "5-1", "5-2", "6-0")
    first = _take(redis)
    assert (first.cached_offset, first.next.entries) == (None, [])
    assert first.release(Offset("5-1", 7))
    second = _take(redis)
    assert second.cached_offset == Offset("5-1", 7)
    assert second.next.entries == read_after(redis, 3, "5-1", 100)
    assert not second.release(Offset("6-0", 9))
    third = _take(redis)
    assert (third.cached_offset, third.next.entries) == (Offset("6-0", 9), [])


@pytest.mark.parametrize(("count", "max_bytes", "read"), [(2, 1 << 20, 2), (100, 10, 1), (100, 11, 2)])
def test_what_it_reads_is_bounded(redis: Redis, count: int, max_bytes: int, read: int) -> None:
    _add(redis, "5-1", "5-2", "6-0")
    assert _take(redis).release(Offset(START, 0))
    assert _take(redis, count, max_bytes).next.entries == read_after(redis, 3, START, read)


def test_one_drain_has_it_until_it_ends(redis: Redis) -> None:
    turn = _take(redis)
    assert acquire_lease(redis, 3, 100, 100) is None
    assert acquire_lease(redis, 4, 100, 100) is not None
    assert not turn.release(None)
    assert acquire_lease(redis, 3, 100, 100) is not None


def test_its_token_is_given_up_at_its_end_and_not_by_who_found_it_taken(redis: Redis) -> None:
    token = token_key(redis, PARTITION_TASK, 3)
    turn = _take(redis)
    redis.set(token, "1")
    assert acquire_lease(redis, 3, 100, 100) is None
    assert redis.exists(token)
    turn.release(None)
    assert not redis.exists(token)


def test_it_expires_with_a_drain_that_died_and_can_be_kept(redis: Redis) -> None:
    turn = _take(redis)
    assert 0 < redis.pttl(lock(redis)) <= LOCK_SECONDS * 1000
    redis.pexpire(lock(redis), 3000)
    assert turn.renew()
    assert redis.pttl(lock(redis)) > 3000


def test_one_that_another_took_over_is_neither_kept_nor_ended(redis: Redis) -> None:
    turn = _take(redis)
    redis.set(lock(redis), "another")
    assert not turn.renew()
    turn.release(Offset("6-0", 9))
    assert redis.get(lock(redis)) == b"another"
