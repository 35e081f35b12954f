"""Streams on a real Valkey: reading after an offset, lags, and trimming that never takes what is not evaluated."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from redis import Redis
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import ResponseError

from shared.domain.events.partitioning import START, Offset
from shared.messaging.redis_clients import open_redis
from shared.messaging.streams import (
    FIELD,
    MAX_COUNTED,
    Entry,
    Lag,
    read_after,
    read_lags,
    read_within,
    stream_key,
    trim,
)
from shared.settings import load_settings
from tests.brokers import configure
from tests.servers import free_port

NOW_MS = 1_700_000_000_000
NOW = NOW_MS / 1000


@pytest.fixture
def redis(stream_url: str, valkey_url: str) -> Iterator[Redis]:
    """The client that Hookline itself opens, on emptied streams."""
    with open_redis(load_settings(redis_url=stream_url, broker_url=valkey_url)) as redis:
        yield redis


@pytest.fixture
def small_nodes(redis: Redis) -> Iterator[None]:
    """Trimming drops whole nodes of a stream; this makes every entry a node."""
    before: Any = redis.config_get("stream-node-max-entries")
    configure(redis, "stream-node-max-entries", 1)
    yield
    configure(redis, "stream-node-max-entries", before["stream-node-max-entries"])


def add(redis: Redis, *ids: str, partition: int = 3) -> None:
    for entry_id in ids:
        redis.xadd(stream_key(partition), {FIELD: f"event {entry_id}"}, id=entry_id)


def lag(redis: Redis, offset: str = START, read: int = 0, *, now: float = NOW) -> Lag:
    return read_lags(redis, {3: Offset(offset, read)}, now)[3]


def left(redis: Redis) -> list[str]:
    return [entry.id for entry in read_after(redis, 3, START, 10_000)]


def test_the_key_keeps_a_partition_on_one_node_of_a_cluster() -> None:
    assert stream_key(12) == "hookline:events:{12}"


def test_entries_come_in_order_after_the_offset_and_no_more_than_asked_for(redis: Redis) -> None:
    add(redis, "5-1", "5-2", "5-10", "6-0", "40-0")
    assert [entry.id for entry in read_after(redis, 3, START, 100)] == ["5-1", "5-2", "5-10", "6-0", "40-0"]
    assert [entry.id for entry in read_after(redis, 3, "5-2", 2)] == ["5-10", "6-0"]
    assert [entry.id for entry in read_after(redis, 3, "5-5", 1)] == ["5-10"]
    assert read_after(redis, 3, "40-0", 100) == []
    assert read_after(redis, 3, "41-0", 100) == []
    assert read_after(redis, 4, START, 100) == []


def test_reading_within_bytes_is_reading_that_ends_early(redis: Redis) -> None:
    for number, size in enumerate((10, 10, 100, 10, 1000, 5, 5)):
        redis.xadd(stream_key(3), {"other": "-", FIELD: b"\x00" * size}, id=f"{number + 1}-0")
    redis.xadd(stream_key(3), {"other": "no body"}, id="8-0")

    def sizes(offset: str, count: int, max_bytes: int) -> list[int | None]:
        entries = read_within(redis, 3, offset, count, max_bytes).entries
        assert entries == read_after(redis, 3, offset, len(entries) or 1)[: len(entries)]
        return [None if entry.body is None else len(entry.body) for entry in entries]

    assert sizes(START, 100, 10_000) == [10, 10, 100, 10, 1000, 5, 5, None]
    assert sizes(START, 3, 10_000) == [10, 10, 100]
    assert sizes(START, 100, 20) == [10, 10]
    assert sizes(START, 100, 21) == [10, 10, 100]
    assert sizes("4-0", 100, 1) == [1000]
    assert sizes("5-0", 100, 1000) == [5, 5, None]
    assert sizes("8-0", 100, 1000) == []
    assert read_within(redis, 9, START, 100, 1000) == (None, [])


def test_reading_within_bytes_takes_many_entries_at_once(redis: Redis) -> None:
    add(redis, *(f"{number}-0" for number in range(1, 701)))
    assert read_within(redis, 3, "100-0", 500, 1 << 20).entries == read_after(redis, 3, "100-0", 500)


def test_an_entry_has_the_body_and_the_time_at_which_it_came(redis: Redis) -> None:
    add(redis, "1700000000123-7")
    redis.xadd(stream_key(3), {"other": "field"})
    first, second = read_after(redis, 3, START, 2)
    assert first == Entry("1700000000123-7", b"event 1700000000123-7")
    assert first.received_ms == 1_700_000_000_123
    assert second.body is None


def test_bodies_are_bytes_as_they_came(redis: Redis) -> None:
    redis.xadd(stream_key(3), {FIELD: b"\xff\x00{", b"more": b"x"})
    assert [entry.body for entry in read_after(redis, 3, START, 1)] == [b"\xff\x00{"]


def test_what_is_no_stream_is_an_error_and_not_an_empty_partition(redis: Redis) -> None:
    redis.set(stream_key(3), "text")
    with pytest.raises(ResponseError, match="WRONGTYPE"):
        read_after(redis, 3, START, 1)
    with pytest.raises(ResponseError, match="WRONGTYPE"):
        lag(redis)


def test_the_lag_is_what_is_not_evaluated_yet_and_how_old_it_is(redis: Redis) -> None:
    add(redis, *(f"{NOW_MS - 9000 + 1000 * number}-0" for number in range(10)))
    assert lag(redis) == Lag(10, 9.0)
    assert lag(redis, f"{NOW_MS - 9000}-0", 1) == Lag(9, 8.0)
    assert lag(redis, f"{NOW_MS - 1000}-0", 9) == Lag(1, 0.0)
    assert lag(redis, f"{NOW_MS}-0", 10) == Lag(0, 0.0)


def test_a_clock_that_is_behind_the_servers_makes_no_negative_age(redis: Redis) -> None:
    add(redis, f"{NOW_MS + 5000}-0")
    assert lag(redis) == Lag(1, 0.0)


def test_partitions_without_a_stream_do_not_lag(redis: Redis) -> None:
    add(redis, f"{NOW_MS}-0", partition=1)
    add(redis, f"{NOW_MS}-0", partition=2)
    redis.xtrim(stream_key(2), maxlen=0)
    found = read_lags(redis, dict.fromkeys(range(3), Offset(START, 0)), NOW)
    assert found == {0: Lag(0, 0.0), 1: Lag(1, 0.0), 2: Lag(0, 0.0)}
    assert read_lags(redis, {}, NOW) == {}


def test_trimmed_entries_still_count_as_read(redis: Redis, small_nodes: None) -> None:
    add(redis, *(f"{NOW_MS + number}-0" for number in range(10)))
    assert trim(redis, 3, f"{NOW_MS + 5}-0", NOW_MS + 100) == 5
    assert lag(redis, f"{NOW_MS + 5}-0", 6) == Lag(4, 0.0)
    assert lag(redis, f"{NOW_MS + 9}-0", 10) == Lag(0, 0.0)


def test_a_stream_that_was_deleted_is_counted_anew(redis: Redis) -> None:
    add(redis, f"{NOW_MS - 5000}-0")
    redis.delete(stream_key(3))
    assert lag(redis, f"{NOW_MS - 5000}-0", 1) == Lag(0, 0.0)
    add(redis, *(f"{NOW_MS - 3000 + 1000 * number}-0" for number in range(3)))
    assert lag(redis, f"{NOW_MS - 5000}-0", 7000) == Lag(3, 3.0)
    assert lag(redis, f"{NOW_MS - 3000}-0", 7001) == Lag(2, 2.0)


def test_counting_entries_one_by_one_has_a_bound(redis: Redis) -> None:
    pipeline = redis.pipeline()
    for number in range(MAX_COUNTED + 5):
        pipeline.xadd(stream_key(3), {FIELD: "x"}, id=f"{NOW_MS}-{number}")
    pipeline.execute()
    assert lag(redis, START, 10**9) == Lag(MAX_COUNTED, 0.0)
    assert lag(redis, START, 0) == Lag(MAX_COUNTED + 5, 0.0)


@pytest.mark.parametrize(
    ("offset", "keep_since", "kept"),
    [
        (START, 100, ["1-0", "1-1", "2-0", "3-0"]),
        ("1-0", 100, ["1-0", "1-1", "2-0", "3-0"]),
        ("1-1", 100, ["1-1", "2-0", "3-0"]),
        ("3-0", 100, ["3-0"]),
        ("9-9", 100, []),
        ("3-0", 0, ["1-0", "1-1", "2-0", "3-0"]),
        ("3-0", 2, ["2-0", "3-0"]),
        ("1-1", 2, ["1-1", "2-0", "3-0"]),
        ("1-1", 1, ["1-0", "1-1", "2-0", "3-0"]),
        ("0-5", 100, ["1-0", "1-1", "2-0", "3-0"]),
    ],
)
def test_what_is_evaluated_and_old_is_dropped(
    redis: Redis, small_nodes: None, offset: str, keep_since: int, kept: list[str]
) -> None:
    add(redis, "1-0", "1-1", "2-0", "3-0")
    assert trim(redis, 3, offset, keep_since) == 4 - len(kept)
    assert left(redis) == kept
    assert trim(redis, 3, offset, keep_since) == 0


def test_trimming_a_stream_that_is_not_there_does_nothing(redis: Redis) -> None:
    assert trim(redis, 3, "5-0", 100) == 0
    assert redis.exists(stream_key(3)) == 0


ids = st.builds("{}-{}".format, st.integers(1, 8), st.integers(0, 3))


def order(entry_id: str) -> tuple[int, int]:
    milliseconds, _, number = entry_id.partition("-")
    return int(milliseconds), int(number)


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.sets(ids, max_size=15), ids | st.just(START), st.integers(0, 9))
def test_trimming_never_takes_what_is_not_evaluated_nor_what_is_to_be_kept(
    redis: Redis, small_nodes: None, entries: set[str], offset: str, keep_since: int
) -> None:
    redis.delete(stream_key(3))
    add(redis, *sorted(entries, key=order))
    dropped = trim(redis, 3, offset, keep_since)
    kept = left(redis)
    gone = entries - set(kept)
    assert len(gone) == dropped
    assert all(order(one) <= order(offset) and order(one)[0] < keep_since for one in gone)
    assert all(order(one) >= order(offset) or order(one)[0] >= keep_since for one in kept)
    assert [entry.id for entry in read_after(redis, 3, offset, 100)] == sorted(
        (one for one in entries if order(one) > order(offset)), key=order
    )


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.sets(ids, max_size=15), st.integers(0, 15), st.integers(1, 5))
def test_reading_on_and_on_sees_every_entry_once(redis: Redis, entries: set[str], read: int, count: int) -> None:
    redis.delete(stream_key(3))
    ordered = sorted(entries, key=order)
    add(redis, *ordered)
    offset, seen = START, list[str]()
    while batch := read_after(redis, 3, offset, count):
        assert len(batch) <= count
        seen += [entry.id for entry in batch]
        offset = seen[-1]
        assert lag(redis, offset, len(seen)).entries == len(ordered) - len(seen)
    assert seen == ordered


def test_a_server_that_is_not_there_is_an_error(valkey_url: str) -> None:
    with (
        open_redis(load_settings(redis_url=f"redis://127.0.0.1:{free_port()}/0")) as nobody,
        pytest.raises(RedisConnectionError),
    ):
        read_lags(nobody, {0: Offset(START, 0)}, NOW)


def test_a_lost_connection_is_made_again(redis: Redis, valkey_url: str) -> None:
    add(redis, "1-0")
    assert left(redis) == ["1-0"]
    with Redis.from_url(valkey_url) as other:
        other.client_kill_filter(_type="normal", skipme=True)
    assert left(redis) == ["1-0"]
