"""Wake-ups on a real broker: one message for many wakes, nothing in it but the key, and none that is lost for long."""

from __future__ import annotations

import base64
import json
import socket
import threading
import uuid
from collections.abc import Iterator
from contextlib import AbstractContextManager
from typing import Any

import pytest
from celery import Celery
from redis import Redis
from redis.lock import Lock

from shared.config.server_urls import parse_redis
from shared.messaging.celery_app import (
    DELIVER_QUEUE,
    EVALUATE_QUEUE,
    PARTITION_TASK,
    SLOW_QUEUE,
    WEBHOOK_TASK,
    celery_app,
)
from shared.messaging.cluster_clients import infos_of
from shared.messaging.keys import key_tag
from shared.messaging.redis_clients import SOCKET_TIMEOUT_SECONDS, connect
from shared.messaging.wakeups import TOKEN_SECONDS, BrokerUnavailable, Waker, token_key
from shared.settings import load_settings
from tests.servers import free_port, valkey_server
from worker.coordination.webhook_slots import LOCK_SECONDS, WebhookSlot, acquire_slot


@pytest.fixture
def redis(stream_url: str) -> Iterator[Redis]:
    """Where tokens are kept, emptied as the broker is."""
    with connect(parse_redis(stream_url)) as redis:
        yield redis


@pytest.fixture
def broker(valkey_url: str, redis: Redis) -> Iterator[Redis]:
    """The broker's database, looked at past Celery."""
    with Redis.from_url(valkey_url.removesuffix("/0") + "/1") as broker:
        yield broker


@pytest.fixture
def app(valkey_url: str) -> Celery:
    """An application; its pool of connections is the process's, and stays open for the next test."""
    return celery_app(load_settings(redis_url=valkey_url, broker_url=valkey_url.removesuffix("/0") + "/1"))


@pytest.fixture
def waker(app: Celery, redis: Redis) -> Waker:
    return Waker(app, redis)


def messages(broker: Redis, queue: str) -> list[dict[str, Any]]:
    """The messages of a queue as they are stored, first in first."""
    stored: Any = broker.lrange(queue, 0, -1)
    return [json.loads(one) for one in reversed(stored)]


def keys(broker: Redis, queue: str) -> list[int]:
    return [body(message)[0][0] for message in messages(broker, queue)]


def body(message: dict[str, Any]) -> Any:
    assert message["properties"]["body_encoding"] == "base64"
    return json.loads(base64.b64decode(message["body"]))


def test_each_kind_of_drain_has_a_queue_of_its_own(waker: Waker, broker: Redis) -> None:
    waker.wake_partitions([3, 1])
    waker.wake_webhooks([7])
    assert keys(broker, EVALUATE_QUEUE) == [3, 1]
    assert keys(broker, DELIVER_QUEUE) == [7]
    assert {message["headers"]["task"] for message in messages(broker, EVALUATE_QUEUE)} == {PARTITION_TASK}
    assert {message["headers"]["task"] for message in messages(broker, DELIVER_QUEUE)} == {WEBHOOK_TASK}


def test_many_wakes_are_one_message(waker: Waker, broker: Redis) -> None:
    for _ in range(20):
        waker.wake_partitions([5, 5, 6])
        waker.wake_webhooks(iter([5]))
    assert keys(broker, EVALUATE_QUEUE) == [5, 6]
    assert keys(broker, DELIVER_QUEUE) == [5]


def test_wakes_at_the_same_time_are_one_message(waker: Waker, broker: Redis) -> None:
    barrier = threading.Barrier(8)

    def wake() -> None:
        barrier.wait()
        waker.wake_webhooks(range(4))

    threads = [threading.Thread(target=wake) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(keys(broker, DELIVER_QUEUE)) == [0, 1, 2, 3]


def test_many_webhooks_share_messages_and_slow_ones_do_not(waker: Waker, broker: Redis) -> None:
    waker.wake_webhooks(range(450), slow=range(440, 450))
    sets = [[body(one)[0][0], *one["headers"]["also"]] for one in messages(broker, DELIVER_QUEUE)]
    assert sets == [[*range(200)], [*range(200, 400)], [*range(400, 440)]]
    assert keys(broker, SLOW_QUEUE) == [*range(440, 450)]
    assert {tuple(one["headers"]["also"]) for one in messages(broker, SLOW_QUEUE)} == {()}


def test_who_is_not_to_be_drained_together_gets_a_message_each(waker: Waker, broker: Redis) -> None:
    waker.wake_webhooks(range(20), together=False)
    assert keys(broker, DELIVER_QUEUE) == [*range(20)]
    assert {tuple(one["headers"]["also"]) for one in messages(broker, DELIVER_QUEUE)} == {()}


def test_news_after_a_drain_has_begun_need_a_message_of_their_own(waker: Waker, broker: Redis) -> None:
    waker.wake_partitions([5])
    waker.clear_token(PARTITION_TASK, 5)
    waker.wake_partitions([5])
    waker.wake_partitions([5])
    assert keys(broker, EVALUATE_QUEUE) == [5, 5]


def test_a_drain_that_begins_frees_its_own_key_only(waker: Waker, broker: Redis) -> None:
    waker.wake_partitions([5, 6])
    waker.wake_webhooks([5])
    waker.clear_token(WEBHOOK_TASK, 5)
    waker.clear_token(WEBHOOK_TASK, 99)
    waker.wake_partitions([5, 6])
    waker.wake_webhooks([5])
    assert keys(broker, EVALUATE_QUEUE) == [5, 6]
    assert keys(broker, DELIVER_QUEUE) == [5, 5]


def test_waking_nobody_sends_nothing(waker: Waker, broker: Redis, redis: Redis) -> None:
    waker.wake_partitions([])
    waker.wake_webhooks(iter(()))
    assert broker.keys() == []
    assert redis.keys() == []


def test_a_token_expires_so_that_a_lost_message_delays_and_does_not_silence(
    waker: Waker, broker: Redis, redis: Redis
) -> None:
    waker.wake_partitions([5])
    token = token_key(redis, PARTITION_TASK, 5)
    left: Any = redis.pttl(token)
    assert 0 < left <= TOKEN_SECONDS * 1000
    broker.flushdb()  # the message is lost
    redis.pexpire(token, 0)
    waker.wake_partitions([5])
    assert keys(broker, EVALUATE_QUEUE) == [5]
    # A wake that sends nothing does not prolong the silence.
    redis.pexpire(token, 50_000)
    waker.wake_partitions([5])
    prolonged: Any = redis.pttl(token)
    assert prolonged > TOKEN_SECONDS * 1000


@pytest.mark.parametrize("also", [[], [5, 6, 7, 8]])
def test_a_wake_is_the_message_that_celery_would_send(
    app: Celery, waker: Waker, broker: Redis, also: list[int]
) -> None:
    waker.wake_webhooks([1234, *also])
    headers = {"also": also}
    app.send_task(WEBHOOK_TASK, args=(1234,), argsrepr="(webhook_id=1234)", queue=DELIVER_QUEUE, headers=headers)
    ours, celerys = messages(broker, DELIVER_QUEUE)
    for message in (ours, celerys):
        headers, properties = message["headers"], message["properties"]
        assert headers["id"] == headers["root_id"] == properties["correlation_id"]
        assert uuid.UUID(headers["id"]).version == uuid.UUID(properties.pop("delivery_tag")).version == 4
        for named in (headers, properties):
            named.update(dict.fromkeys({"id", "root_id", "correlation_id"} & set(named)))
    # Where answers would go, and a copy that Celery leaves behind.
    assert celerys["properties"].pop("argsrepr") == ours["headers"]["argsrepr"]
    assert celerys["properties"].pop("reply_to")
    assert ours["properties"].pop("reply_to") == ""
    assert ours == celerys


def test_a_broker_of_another_kind_gets_the_message_from_celery(valkey_url: str, redis: Redis) -> None:
    app = celery_app(load_settings(redis_url=valkey_url, broker_url="memory://"))
    Waker(app, redis).wake_webhooks([7, 8])
    Waker(app, redis).wake_webhooks(range(20, 25))
    with app.connection_for_read() as connection, connection.SimpleQueue(DELIVER_QUEUE) as queue:
        for key in (7, 8):
            message = queue.get(timeout=30)
            assert message.payload[0] == [key]
            assert message.headers["argsrepr"] == f"(webhook_id={key})"
            message.ack()
        joint = queue.get(timeout=30)
        also: Any = joint.headers["also"]
        assert joint.payload[0] == [20]
        assert also == [21, 22, 23, 24]
        joint.ack()


def test_each_message_has_an_id_of_its_own(waker: Waker, broker: Redis) -> None:
    waker.wake_partitions(range(20))
    waker.wake_webhooks(range(20), together=False)
    ids = {one["headers"]["id"] for queue in (EVALUATE_QUEUE, DELIVER_QUEUE) for one in messages(broker, queue)}
    assert len(ids) == 40


def test_a_broker_that_goes_away_between_two_wakes_is_an_error(valkey_url: str, redis: Redis) -> None:
    with valkey_server() as url:
        waker = Waker(celery_app(load_settings(redis_url=valkey_url, broker_url=url)), redis)
        waker.wake_partitions([1])
    with pytest.raises(BrokerUnavailable):
        waker.wake_partitions([2])
    assert redis.exists(token_key(redis, PARTITION_TASK, 2)) == 0


def test_a_message_holds_the_key_and_nothing_else(waker: Waker, broker: Redis) -> None:
    waker.wake_webhooks([1234])
    (message,) = messages(broker, DELIVER_QUEUE)
    args, kwargs, embedded = body(message)
    assert (args, kwargs) == ([1234], {})
    assert not any(embedded.values())
    assert message["content-type"] == "application/json"
    headers = message["headers"]
    assert (headers["argsrepr"], headers["kwargsrepr"]) == ("(webhook_id=1234)", "{}")
    assert not any(headers[name] for name in ("eta", "expires", "retries", "group"))
    assert set(headers) <= {
        *("lang", "task", "id", "shadow", "eta", "expires", "group", "group_index", "retries", "timelimit"),
        *("root_id", "parent_id", "argsrepr", "kwargsrepr", "origin", "ignore_result", "replaced_task_nesting"),
        *("stamped_headers", "stamps", "delivery_info", "also"),
    }


@pytest.mark.parametrize("scheme", ["redis", "amqp"])
def test_a_broker_that_is_away_is_an_error_and_leaves_the_keys_free(
    valkey_url: str, redis: Redis, broker: Redis, waker: Waker, scheme: str
) -> None:
    away = celery_app(load_settings(redis_url=valkey_url, broker_url=f"{scheme}://127.0.0.1:{free_port()}//"))
    with pytest.raises(BrokerUnavailable) as caught:
        Waker(away, redis).wake_partitions([5, 6])
    assert isinstance(caught.value, OSError)
    waker.wake_partitions([5, 6])
    assert keys(broker, EVALUATE_QUEUE) == [5, 6]


def test_the_application_takes_json_only_and_keeps_no_results(app: Celery) -> None:
    assert list(app.conf.accept_content) == ["json"]
    assert app.conf.task_serializer == "json"
    assert app.conf.task_ignore_result
    assert app.conf.result_backend is None


def token(redis: Redis) -> str:
    return f"token:{key_tag(redis, 1)}"


def places(redis: Redis, webhook: int, slots: int) -> AbstractContextManager[WebhookSlot | None]:
    tag = key_tag(redis, webhook)
    return acquire_slot(redis, f"webhook:{tag}", slots, token=f"token:{tag}")


def place_name(redis: Redis, place: int) -> str:
    return f"hookline:drain:webhook:{key_tag(redis, 1)}:{place}"


def test_a_key_has_as_many_places_as_it_is_given(redis: Redis) -> None:
    with (
        places(redis, 1, 2) as first,
        places(redis, 1, 2) as second,
    ):
        assert first is not None
        assert second is not None
        with places(redis, 1, 2) as third:
            assert third is None
        with places(redis, 2, 2) as elsewhere:
            assert elsewhere is not None
    with places(redis, 1, 1) as free_again:
        assert free_again is not None


def test_a_place_is_found_in_one_step_however_many_are_taken(redis: Redis) -> None:
    def steps() -> int:
        return sum(info.get("cmdstat_evalsha", {"calls": 0})["calls"] for info in infos_of(redis, "commandstats"))

    with places(redis, 1, 1):
        pass  # the server knows the script from now on
    for place in range(31):
        redis.set(place_name(redis, place), "another", px=60_000)
    before = steps()
    with places(redis, 1, 32) as last:
        assert last is not None
        assert last.name == place_name(redis, 31)
        assert steps() == before + 1
        with places(redis, 1, 32) as none:
            assert none is None
        assert steps() == before + 2


def test_workers_of_earlier_versions_share_the_places(redis: Redis) -> None:
    """They hold a place by redis-py's lock of the same name."""

    def earlier(place: int) -> Lock:
        name = place_name(redis, place)
        return Lock(redis, name, timeout=LOCK_SECONDS, blocking=False, thread_local=False)

    first = earlier(0)
    assert first.acquire()
    with places(redis, 1, 2) as second:
        assert second is not None
        assert second.name == place_name(redis, 1)
        assert not earlier(1).acquire()
        assert first.reacquire()
        first.release()
        assert second.renew()
        with places(redis, 1, 2) as again:
            assert again is not None
            assert again.name == first.name
            assert not earlier(0).acquire()


def test_a_token_is_given_up_with_the_place_and_not_by_who_found_none(redis: Redis) -> None:
    with places(redis, 1, 1) as place:
        assert place is not None
        redis.set(token(redis), "1")
        with places(redis, 1, 1) as second:
            assert second is None
        assert redis.exists(token(redis))
    assert not redis.exists(token(redis), place.name)


def test_a_place_is_given_back_when_its_holder_fails(redis: Redis) -> None:
    with pytest.raises(ZeroDivisionError), places(redis, 1, 1):
        raise ZeroDivisionError
    with places(redis, 1, 1) as place:
        assert place is not None


def test_a_place_expires_with_a_holder_that_died_and_can_be_kept(redis: Redis) -> None:
    with places(redis, 1, 1) as place:
        assert place is not None
        left: Any = redis.pttl(place_name(redis, 0))
        assert 0 < left <= LOCK_SECONDS * 1000
        redis.pexpire(place_name(redis, 0), 3000)
        assert place.renew()
        left = redis.pttl(place_name(redis, 0))
        assert left > 3000


def test_a_place_that_another_took_over_is_neither_kept_nor_given_back(redis: Redis) -> None:
    with places(redis, 1, 1) as place:
        assert place is not None
        redis.delete(place_name(redis, 0))
        assert not place.renew()
        with places(redis, 1, 1) as other:
            assert other is not None
            assert not place.renew()
    assert redis.keys() == []


def test_a_broker_that_is_cut_off_is_given_up(app: Celery) -> None:
    """The options reach the sockets: kombu drops those that it does not know without a word."""
    with app.connection_for_read() as connection:
        channel: Any = connection.default_channel
        lent = channel.client.connection_pool.get_connection()
        lent.connect()
        sock = lent._sock
        seconds = [sock.getsockopt(socket.IPPROTO_TCP, one) for one in (socket.TCP_KEEPIDLE, socket.TCP_USER_TIMEOUT)]
        assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
        assert seconds == [10, 20_000]
        assert sock.gettimeout() == SOCKET_TIMEOUT_SECONDS
