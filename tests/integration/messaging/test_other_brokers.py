"""Brokers as operators have them: RabbitMQ, Redis with TLS, under Sentinel and as a cluster, in the middle of a load.

What is missing on a host is skipped with its name: see tests/brokers.py.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from urllib.parse import quote

import orjson
import pytest
from cryptography.fernet import Fernet
from redis import Redis
from redis.exceptions import RedisError
from sqlalchemy import func, select

from dispatcher.publishing.publisher import Publisher, StreamUnavailable
from shared.domain.events.partitioning import START
from shared.messaging.celery_app import celery_app
from shared.messaging.cluster_clients import ClusterUnavailable, check_answer
from shared.messaging.redis_clients import open_async_redis, open_redis
from shared.messaging.streams import read_after, stream_key
from shared.settings import Settings, load_settings
from shared.storage.database.transactions import read_transaction
from shared.storage.schema.tables import deliveries
from tests.authority import Authority
from tests.brokers import (
    MASTER,
    PASSWORD,
    SENTINEL_PASSWORD,
    USER,
    Rabbit,
    configure,
    rabbit_server,
    redis_cluster,
    tls_redis,
    watched_redis,
)
from tests.integration.conftest import migrated_database
from tests.integration.processes import dispatcher_command, running, start, stop, wait_until, worker_command
from tests.integration.receiver import Receiver
from tests.integration.scene import Scene, alias_event, opened_scene

EVENTS = 300
FLAGS = ["--concurrency", "4"]
LOGIN = f"{USER}:{quote(PASSWORD, safe='')}@"


@pytest.fixture
def base(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[dict[str, Any]]:
    """Settings but for the servers in question."""
    with migrated_database(request, tmp_path, "sqlite") as url:
        yield {
            "data_dir": tmp_path / "data",
            "database_url": url,
            "secret_keys": Fernet.generate_key().decode(),
            "allowed_networks": "127.0.0.0/8",
            "partitions": 4,
            "lease_margin": "1s",
        }


@pytest.fixture
def rabbit() -> Iterator[Rabbit]:
    """A RabbitMQ."""
    with rabbit_server() as server:
        yield server


def statistics(settings: Settings) -> Any:
    """What two workers answer to `celery inspect stats`."""
    app = celery_app(settings)
    answers = app.control.broadcast("stats", reply=True, timeout=3, limit=2)
    app.close()
    return answers or []


def _delivered(scene: Scene) -> int:
    done = select(func.count()).select_from(deliveries).where(deliveries.c.status == "delivered")
    with read_transaction(scene.process.engine) as connection:
        return connection.execute(done).scalar_one()


def published(scene: Scene, events: list[Any]) -> None:
    """Publish one by one and again until each is taken, as a backend does."""
    for event in events:
        wait_until(lambda event=event: _taken(scene, event), "place for an event")  # type: ignore[misc]


def _taken(scene: Scene, event: Any) -> bool:
    try:
        scene.publish(event)
    except RedisError:
        return False
    return True


def through_a_load(settings: Settings, receiver: Receiver, tmp_path: Path, *, hurt: Callable[[], None]) -> None:
    """Publish in three parts, hurting the broker and killing a worker between them: all arrive, under one id each."""
    events = [alias_event(collection=f"c{n % 20}", event_id=f"event-{n}") for n in range(EVENTS)]
    third = EVENTS // 3
    with ExitStack() as stack:
        redis = stack.enter_context(open_redis(settings))
        scene = stack.enter_context(opened_scene(settings, redis, receiver))
        policy = {"timeout_seconds": 2.0, "schedule_seconds": (1.0, 1.0)}
        scene.automation(scene.webhook(policy=policy), payload={"event": "$event_id"})
        log = tmp_path / "worker.log"
        stack.enter_context(running(dispatcher_command(), settings, tmp_path / "pump.log"))
        workers = [start([*worker_command(f"w{n}"), *FLAGS], settings, log) for n in range(2)]

        @stack.callback
        def _stop_all() -> None:
            for worker in workers:
                stop(worker)

        published(scene, events[:third])
        wait_until(lambda: _delivered(scene) > 0, "first deliveries")
        workers[0].kill()
        workers[0].wait()
        workers[0] = start([*worker_command("again"), *FLAGS], settings, log)
        published(scene, events[third : 2 * third])
        hurt()
        published(scene, events[2 * third :])
        wait_until(lambda: _delivered(scene) == EVENTS, "all deliveries", seconds=100)

        answers: list[Any] = []

        def answered() -> bool:
            answers[:] = statistics(settings)
            return len(answers) == 2

        wait_until(answered, "answers of both workers to remote control")
        rows = scene.rows()
    logged = log.read_text() + (tmp_path / "pump.log").read_text()
    for secret in (PASSWORD, SENTINEL_PASSWORD, quote(PASSWORD, safe=""), quote(SENTINEL_PASSWORD, safe="")):
        assert secret not in f"{answers}{logged}"
    assert Counter(row.event_id for row in rows) == Counter(event["id"] for event in events)
    sent = {(request.json["event"], request.headers["webhook-id"]) for request in receiver.requests}
    assert len(sent) == EVENTS, "an event was delivered under two ids"


@pytest.mark.slow
@pytest.mark.timeout(240)
def test_rabbitmq_is_killed_under_load(
    base: dict[str, Any], valkey_url: str, rabbit: Rabbit, receiver: Receiver, tmp_path: Path
) -> None:
    def restart() -> None:
        rabbit.kill()
        rabbit.start()

    with open_redis(load_settings(redis_url=valkey_url)) as redis:
        redis.flushall()
    settings = load_settings(redis_url=valkey_url, broker_url=rabbit.url, **base)
    through_a_load(settings, receiver, tmp_path, hurt=restart)


@pytest.mark.slow
@pytest.mark.timeout(240)
def test_the_master_is_lost_under_load(base: dict[str, Any], receiver: Receiver, tmp_path: Path) -> None:
    with watched_redis(tmp_path) as watched:
        sentinel = f"?sentinel_password={quote(SENTINEL_PASSWORD, safe='')}"
        url = f"redis+sentinel://{LOGIN}{watched.hosts}/{MASTER}"
        settings = load_settings(redis_url=f"{url}/0{sentinel}", broker_url=f"{url}/1{sentinel}", **base)
        before = watched.master()

        def fail_over() -> None:
            with watched.client(before) as master:
                assert master.wait(1, 10_000) == 1  # what a replica has not got yet is lost with its master
            watched.servers[before].kill()
            wait_until(lambda: watched.master() != before, "another master")

        through_a_load(settings, receiver, tmp_path, hurt=fail_over)


@pytest.mark.slow
@pytest.mark.timeout(240)
def test_a_node_of_a_cluster_is_lost_under_load(
    base: dict[str, Any], valkey_url: str, receiver: Receiver, tmp_path: Path
) -> None:
    """Streams on a Redis Cluster of three nodes with a replica each, and a Redis of its own for Celery."""
    with redis_cluster(tmp_path, replicas=True) as cluster, Redis.from_url(valkey_url) as broker:
        broker.flushall()
        settings = load_settings(redis_url=cluster.url, broker_url=valkey_url, **base)
        lost = cluster.owner(stream_key(0))

        def fail_over() -> None:
            with cluster.client(lost) as node:
                assert node.wait(1, 10_000) == 1  # what a replica has not got yet is lost with its primary
            cluster.servers[lost].kill()
            cluster.servers[lost].wait()
            wait_until(lambda: cluster.owner(stream_key(0)) != lost, "another primary")

        assert len({cluster.owner(stream_key(partition)) for partition in range(settings.partitions)}) > 1
        through_a_load(settings, receiver, tmp_path, hurt=fail_over)


def test_a_cluster_without_one_of_its_nodes_says_so_and_takes_events_when_it_is_back(
    sqlite_template: Path, valkey_url: str, tmp_path: Path
) -> None:
    events = [alias_event(collection=f"c{n}", event_id=f"event-{n}") for n in range(40)]
    with redis_cluster(tmp_path, replicas=False) as cluster:
        settings = load_settings(redis_url=cluster.url, broker_url=valkey_url)

        async def publish_through_an_outage() -> None:
            redis = open_async_redis(settings)
            try:
                await check_answer(redis)
                publisher = Publisher(redis, settings.partitions)
                assert await publisher.publish(events[:20]) == 20
                cluster.servers[cluster.primaries[1]].kill()
                cluster.servers[cluster.primaries[1]].wait()
                await _noticed(redis)
                with pytest.raises(StreamUnavailable):
                    await publisher.publish(events[20:])
                cluster.start_again(cluster.primaries[1])
                wait_until(cluster.all_is_well, "agreement of the cluster's nodes")
                assert await publisher.publish(events[20:]) == 20
            finally:
                await redis.aclose()

        with open_redis(settings) as threads:
            # On a busy disk a node that is killed may not have written what it confirmed within the last two seconds.
            configure(threads, "appendfsync", "always")
            with ThreadPoolExecutor(8) as pool:  # one connects, and the others wait for it
                answers = list(pool.map(lambda _: threads.delete("nothing") + len(threads.keys()), range(8)))
            assert answers == [0] * 8
            asyncio.run(publish_through_an_outage())
            found = {
                entry.body
                for partition in range(settings.partitions)
                for entry in read_after(threads, partition, START, 99)
            }
    assert found == {orjson.dumps(event) for event in events}


async def _noticed(redis: Any) -> None:
    """Until the nodes that are left say that the cluster is down."""
    async with asyncio.timeout(60):
        while True:
            try:
                await check_answer(redis)
            except ClusterUnavailable:
                return
            except RedisError:  # the node that was killed was asked
                pass
            await asyncio.sleep(0.1)


@pytest.mark.slow
@pytest.mark.timeout(240)
def test_redis_with_tls_and_a_user_of_its_own(base: dict[str, Any], receiver: Receiver, tmp_path: Path) -> None:
    authority, users = Authority(), tmp_path / "users.acl"
    (tmp_path / "ca.pem").write_text(authority.pem)
    # What docs/brokers.md says a user needs, and an administrator.
    users.write_text(f"user {USER} on >{PASSWORD} ~* &* +@all -@dangerous +info\nuser default on >admin ~* &* +@all\n")
    with tls_redis(tmp_path, authority, aclfile=users) as port:
        url, options = f"rediss://{LOGIN}127.0.0.1:{port}", f"?ssl_ca_certs={tmp_path / 'ca.pem'}"
        settings = load_settings(redis_url=f"{url}/2{options}", broker_url=f"{url}/3{options}", **base)

        def cut_connections() -> None:
            trusted = str(tmp_path / "ca.pem")
            with Redis(port=port, password="admin", ssl=True, ssl_ca_certs=trusted, ssl_check_hostname=False) as admin:
                admin.client_kill_filter(_type="normal", skipme=True)
                admin.client_kill_filter(_type="pubsub")

        through_a_load(settings, receiver, tmp_path, hurt=cut_connections)
