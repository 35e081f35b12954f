"""The two tasks. Each takes a key, calls the function that does the work, and answers with nothing."""

from __future__ import annotations

from celery import Celery

from shared.wakes import PARTITION_TASK, WEBHOOK_TASK
from worker.deliver import drain_webhook
from worker.evaluate import drain_partition
from worker.runtime import RuntimeSlot


def register(app: Celery, slot: RuntimeSlot) -> None:
    """Give the drains to a Celery application, under names that do not change when code moves."""

    @app.task(name=PARTITION_TASK)
    def _drain_partition(partition: int) -> None:
        drain_partition(slot.get(), partition)

    @app.task(name=WEBHOOK_TASK)
    def _drain_webhook(webhook_id: int) -> None:
        drain_webhook(slot.get(), webhook_id)
