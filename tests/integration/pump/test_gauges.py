"""What alerts ask for is told by the dispatcher from what is stored: a worker that counted it may have ended since."""

from __future__ import annotations

import threading
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from redis.exceptions import RedisError
from sqlalchemy import select, update

from dispatcher.pump.pump import Pump
from dispatcher.pump.server_watch import ServerWatch
from shared.messaging.celery_app import SLOW_QUEUE, celery_app
from shared.messaging.queue_lengths import queue_lengths
from shared.messaging.streams import FIELD, stream_key
from shared.observability import metrics, saturation_metrics
from shared.storage.database.clock import database_time
from shared.storage.database.transactions import read_transaction, write_transaction
from shared.storage.delivery.backlog import oldest_prompt_seconds
from shared.storage.delivery.load import read_load
from shared.storage.delivery.webhook_health import disable_webhook
from shared.storage.schema.tables import attempts, pending_deliveries, webhooks
from tests.integration.processes import wait_until
from tests.integration.receiver import Answer
from tests.integration.scene import Scene, alias_event
from tests.servers import free_port


def test_recent_dead_letters_poison_and_disabled_webhooks_are_counted_from_the_tables(scene: Scene) -> None:
    gone = scene.webhook("gone")
    scene.automation(gone)
    scene.webhook("fine")
    scene.receiver.answer = lambda _request: Answer(404)
    scene.publish(alias_event())
    for _ in range(2):
        scene.redis.xadd(stream_key(0), {FIELD: b"junk"})
    scene.evaluate()
    scene.deliver()
    with write_transaction(scene.process.engine) as connection:
        disable_webhook(connection, gone, reason="a test", now=datetime.now(UTC))

    def told() -> tuple[float, float, float]:
        gauges = (metrics.DELIVERIES_DEAD_RECENT, metrics.POISON_RECENT, metrics.WEBHOOKS_DISABLED_RECENT)
        dead, poison, disabled = (one._value.get() for one in gauges)
        return dead, poison, disabled

    pump = Pump(scene.settings)
    pump.start()
    try:
        wait_until(lambda: told() == (1, 2, 1), "counts")
    finally:
        pump.stop()


def test_attempts_that_failed_inside_hookline_are_counted_from_what_is_stored(scene: Scene) -> None:
    scene.automation(scene.webhook("well"))
    scene.publish(*(alias_event() for _ in range(5)))
    scene.evaluate()
    scene.deliver()
    now = datetime.now(UTC)
    ages = {1: timedelta(minutes=1), 2: timedelta(minutes=9), 3: timedelta(minutes=29), 4: timedelta(minutes=31)}
    with write_transaction(scene.process.engine) as connection:
        for seq, (_, age) in zip(connection.scalars(select(attempts.c.delivery_seq)).all(), ages.items(), strict=False):
            failed = update(attempts).where(attempts.c.delivery_seq == seq)
            connection.execute(failed.values(outcome="internal", started_at=now - age))

    def told() -> list[float]:
        return [metrics.ATTEMPTS_INTERNAL_RECENT.labels(minutes=one)._value.get() for one in ("10", "30")]

    pump = Pump(scene.settings)
    pump.start()
    try:
        wait_until(lambda: told() == [2, 3], "counts")
    finally:
        pump.stop()


def test_what_an_endpoint_or_a_limit_holds_up_is_not_overdue_by_hookline(scene: Scene) -> None:
    ages = {"well": 100, "limited": 200, "narrow": 300, "slow": 400, "paused": 500, "broken": 600}
    policies = {"limited": {"rate_limit": "1/h"}, "narrow": {"concurrency": 1}}
    hooks = {name: scene.webhook(name, policy=policies.get(name, {})) for name in ages}
    for name, hook in hooks.items():
        scene.automation(hook, name=name)
    scene.publish(alias_event())
    scene.evaluate()
    with write_transaction(scene.process.engine) as connection:
        now = database_time(connection)
        for name, hook in hooks.items():
            due = update(pending_deliveries).where(pending_deliveries.c.webhook_id == hook)
            connection.execute(due.values(next_attempt_at=now - timedelta(seconds=ages[name])))
        opened = {"circuit_opened_at": now, "circuit_probe_at": now}
        states: dict[str, dict[str, Any]] = {"slow": {"slow": True}, "paused": {"paused": True}, "broken": opened}
        for name, values in states.items():
            connection.execute(update(webhooks).where(webhooks.c.id == hooks[name]).values(values))
        for name, oldest in (("slow", 400), ("well", 100)):
            assert oldest_prompt_seconds(connection, now) == oldest
            connection.execute(update(webhooks).where(webhooks.c.id == hooks[name]).values(enabled=False))
        assert oldest_prompt_seconds(connection, now) == 0


def test_the_age_of_the_last_answer_tells_which_server_is_away(scene: Scene) -> None:
    def answered(server: str) -> float:
        return float(metrics.SERVER_ANSWERED.labels(server=server)._value.get())

    nowhere = scene.settings.model_copy(update={"redis_url": f"redis://127.0.0.1:{free_port()}/0"})
    stopping = threading.Event()
    stopping.set()
    servers = ServerWatch(nowhere, scene.process.engine, stopping)
    servers.begin()
    began = answered("redis"), answered("database")
    with pytest.raises(RedisError):
        servers.ask_redis()
    servers.ask_database()
    assert answered("redis") == began[0]
    assert answered("database") > began[1]
    servers.close()


def test_those_with_most_deliveries_are_named_and_queues_counted(scene: Scene) -> None:
    scene.automation(scene.webhook("busy"), name="often")
    scene.webhook("idle")
    scene.publish(*(alias_event() for _ in range(3)))
    scene.evaluate()
    app = celery_app(scene.settings)
    for _ in range(2):
        app.send_task("nobody takes it", queue=SLOW_QUEUE)
    with read_transaction(scene.process.engine) as connection:
        now = database_time(connection)
        assert read_load(connection, now) == {
            ("entity", "acme"): 3 / 60,
            ("automation", "acme/often"): 3 / 60,
            ("webhook", "acme/busy"): 3 / 60,
        }
        assert read_load(connection, now + timedelta(minutes=2)) == {}
    assert queue_lengths(app)[SLOW_QUEUE] == 2


def test_names_are_shown_only_while_they_have_most() -> None:
    saturation_metrics.set_load({("webhook", "acme/one"): 2, ("webhook", "acme/two"): 1})
    saturation_metrics.set_load({("webhook", "acme/two"): 3})
    shown = [
        (sample.labels["name"], sample.value) for one in saturation_metrics.LOAD.collect() for sample in one.samples
    ]
    assert shown == [("acme/two", 3)]
    saturation_metrics.set_load({})
    assert [sample for one in saturation_metrics.LOAD.collect() for sample in one.samples] == []
