"""The transport for Redis on a real Valkey: what it takes over from kombu, and what kombu does as before.

A release of kombu that moves what `shared.messaging.broker_transport` builds upon fails here.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from celery import Celery
from celery.contrib.testing.worker import start_worker
from kombu import Connection, Consumer
from kombu.asynchronous import Hub, set_event_loop
from kombu.transport.pyamqp import Transport as RabbitTransport
from redis import Redis

from shared.messaging.broker_transport import SentinelTransport, Transport
from shared.messaging.celery_app import DELIVER_QUEUE, EVALUATE_QUEUE, WEBHOOK_TASK, celery_app
from shared.settings import load_settings
from tests.integration.processes import wait_until
from worker.tasks import DrainRequest

PREFETCH = 2


@pytest.fixture
def broker(valkey_url: str) -> Iterator[Redis]:
    """The broker's database, emptied, looked at past Celery."""
    with Redis.from_url(_broker_url(valkey_url)) as broker:
        broker.flushdb()
        yield broker


@pytest.fixture
def app(valkey_url: str, broker: Redis) -> Celery:
    return celery_app(load_settings(redis_url=valkey_url, broker_url=_broker_url(valkey_url)))


def _broker_url(valkey_url: str) -> str:
    return valkey_url.removesuffix("/0") + "/1"


class Taker:
    """A worker's end of a connection, in a loop like Celery's: it takes messages and acknowledges when told to."""

    def __init__(self, app: Celery, connection: Connection, hub: Any) -> None:
        self.taken: list[Any] = []
        self.channel: Any = connection.default_channel
        self.prefetch(PREFETCH)
        self.hub = hub
        queues = [app.amqp.queues[name] for name in (EVALUATE_QUEUE, DELIVER_QUEUE)]
        consumer = Consumer(self.channel, queues=queues, on_message=self.taken.append)
        connection.transport.register_with_event_loop(connection.connection, hub)
        consumer.consume()

    def prefetch(self, count: int) -> None:
        self.channel.basic_qos(0, count, False)

    def keys(self) -> list[int]:
        return [message.payload[0][0] for message in self.taken]

    def go_round(self, until: Callable[[], bool] | None = None) -> None:
        """Let the loop go round until something is so, or as often as it takes to take all that it may."""
        for _ in range(20):
            if until is not None and until():
                return
            self.hub.timer.call_after(0.02, lambda: None)  # what a round without news waits at most
            self.hub.run_once()
        assert until is None, self.keys()


@contextmanager
def taking(app: Celery) -> Iterator[Taker]:
    hub = Hub()
    set_event_loop(hub)
    try:
        with app.connection_for_read() as connection:
            yield Taker(app, connection, hub)
    finally:
        hub.close()
        set_event_loop(None)


def send(app: Celery, *keys: int) -> None:
    for key in keys:
        app.send_task(WEBHOOK_TASK, args=(key,), queue=DELIVER_QUEUE)


@pytest.mark.parametrize(
    ("url", "transport"),
    [
        ("redis://127.0.0.1:1/0", Transport),
        ("rediss://127.0.0.1:1/0", Transport),
        ("redis+socket:///run/valkey.sock?virtual_host=1", Transport),
        ("redis+sentinel://127.0.0.1:1,127.0.0.1:2/hookline", SentinelTransport),
        ("amqp://127.0.0.1:1//", RabbitTransport),
    ],
)
def test_a_broker_behind_a_port_or_a_socket_is_spoken_to_in_this_way(
    valkey_url: str, url: str, transport: type[Any]
) -> None:
    app = celery_app(load_settings(redis_url=valkey_url, broker_url=url))
    assert app.connection_for_read().get_transport_cls() is transport


def test_a_second_url_is_spoken_to_in_the_same_way(app: Celery, valkey_url: str) -> None:
    with Connection(f"{_broker_url(valkey_url)};redis://127.0.0.1:1/1") as connection:
        connection.maybe_switch_next()
        assert connection.get_transport_cls() is Transport


def test_what_is_taken_is_noted_nowhere_and_no_more_is_taken_than_allowed(app: Celery, broker: Redis) -> None:
    send(app, 1, 2, 3, 4)
    with taking(app) as taker:
        taker.go_round()
        assert taker.keys() == [1, 2]
        assert [key for key in broker.scan_iter() if b"unacked" in key] == []
        taker.taken[0].ack()
        taker.go_round()
        assert taker.keys() == [1, 2, 3]
        for message in taker.taken[1:]:
            message.ack()
        taker.go_round(until=lambda: taker.keys() == [1, 2, 3, 4])
        taker.taken[3].ack()
    assert broker.llen(DELIVER_QUEUE) == 0


def test_a_message_that_begins_wakes_the_loop_only_where_it_waits_for_that(app: Celery) -> None:
    send(app, 1, 2, 3)
    with taking(app) as taker:
        taker.go_round(until=lambda: taker.keys() == [1])
        woken: list[Any] = []
        call_soon = taker.hub.call_soon

        def count(*called: Any) -> None:
            woken.append(called)
            call_soon(*called)

        taker.hub.call_soon = count
        taker.taken[0].ack()
        assert woken == []
        taker.go_round()
        assert taker.keys() == [1, 2, 3]
        thread = threading.Thread(target=lambda: [message.ack() for message in taker.taken[1:]])
        thread.start()
        thread.join()
        assert len(woken) == 1


def test_what_was_not_begun_goes_to_the_next_worker_first(app: Celery, broker: Redis) -> None:
    send(app, 1, 2, 3)
    with taking(app) as taker:
        taker.go_round()
        taker.taken[0].ack()
        taker.prefetch(1)  # so that the third stays where it is
    with taking(app) as taker:
        taker.go_round()
        assert taker.keys() == [2, 3]
        assert taker.taken[0].headers["redelivered"]


def test_closing_without_the_broker_is_quiet(app: Celery, broker: Redis, capfd: pytest.CaptureFixture[str]) -> None:
    send(app, 1)
    with taking(app) as taker:
        taker.go_round(until=lambda: taker.keys() == [1])
        connection = taker.channel.connection.client
        connection.port = 1  # where nobody listens
        taker.channel._disconnect_pools()
    assert capfd.readouterr() == ("", "")


def test_one_client_serves_all_commands_of_a_channel(app: Celery) -> None:
    with app.connection_for_write() as connection:
        channel: Any = connection.default_channel
        with channel.conn_or_acquire() as first, channel.conn_or_acquire() as second:
            assert first is second
            with channel.conn_or_acquire(first) as given:
                assert given is first
        channel._after_fork()
        with channel.conn_or_acquire() as of_child:
            assert of_child is not first
            assert of_child.ping()


def test_the_loop_is_told_of_a_socket_once(app: Celery, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[int] = []
    add = Hub.add_reader

    def count(hub: Any, fd: int, *rest: Any) -> None:
        told.append(fd)
        add(hub, fd, *rest)

    monkeypatch.setattr(Hub, "add_reader", count)
    with taking(app) as taker:
        send(app, 1, 2)
        taker.go_round(until=lambda: taker.keys() == [1, 2])
        for message in taker.taken:
            message.ack()
        assert len(told) == 1


def test_a_lost_connection_is_made_again(app: Celery, broker: Redis) -> None:
    with taking(app) as taker:
        send(app, 1)
        taker.go_round(until=lambda: taker.keys() == [1])
        taker.taken[0].ack()
        taker.channel.client.connection.disconnect()
        send(app, 2)
        taker.go_round(until=lambda: taker.keys() == [1, 2])
        taker.taken[1].ack()


def test_a_worker_takes_many_times_what_it_prefetches(app: Celery, broker: Redis) -> None:
    """Celery asks the requests of our tasks to acknowledge, and takes more for it."""
    ran: list[int] = []

    @app.task(name=WEBHOOK_TASK, Request=DrainRequest, shared=False)
    def drain(webhook_id: int) -> None:
        ran.append(webhook_id)

    app.conf.update(worker_prefetch_multiplier=1, task_queues={DELIVER_QUEUE: {}})
    send(app, *range(50))
    with start_worker(app, pool="threads", concurrency=2, perform_ping_check=False, shutdown_timeout=30):
        wait_until(lambda: len(ran) == 50, "runs of all messages")
    assert sorted(ran) == list(range(50))
    assert list(broker.scan_iter("*unacked*")) == []
