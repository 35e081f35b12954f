"""What alerts ask for is told by the dispatcher from what is stored: a worker that counted it may have ended since."""

from __future__ import annotations

from datetime import UTC, datetime

from dispatcher.pump.pump import Pump
from shared.messaging.streams import FIELD, stream_key
from shared.observability import metrics
from shared.storage.database.transactions import write_transaction
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
