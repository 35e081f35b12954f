"""What alerts ask for is told by the dispatcher from what is stored: a worker that counted it may have ended since."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from dispatcher.pump.pump import Pump
from shared.messaging.celery_app import SLOW_QUEUE, celery_app
from shared.messaging.queue_lengths import queue_lengths
from shared.messaging.streams import FIELD, stream_key
from shared.observability import metrics, saturation_metrics
from shared.storage.database.clock import database_time
from shared.storage.database.transactions import read_transaction, write_transaction
from shared.storage.delivery.load import read_load
from shared.storage.delivery.webhook_health import disable_webhook
from tests.integration.processes import wait_until
from tests.integration.receiver import Answer
from tests.integration.scene import Scene, alias_event


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
