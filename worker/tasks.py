"""The two tasks. Each takes a key, calls the function that does the work, and answers with nothing."""

from __future__ import annotations

from collections.abc import Callable

from celery import Celery
from redis.exceptions import RedisError
from sqlalchemy.exc import OperationalError

from shared.logs import get_logger
from shared.wakes import PARTITION_TASK, WEBHOOK_TASK
from worker.deliver import drain_webhook
from worker.evaluate import drain_partition
from worker.runtime import Runtime, RuntimeSlot

log = get_logger(__name__)


def register(app: Celery, slot: RuntimeSlot) -> None:
    """Give the drains to a Celery application, under names that do not change when code moves."""

    @app.task(name=PARTITION_TASK)
    def _drain_partition(partition: int) -> None:
        _run(drain_partition, slot, partition)

    @app.task(name=WEBHOOK_TASK)
    def _drain_webhook(webhook_id: int) -> None:
        _run(drain_webhook, slot, webhook_id)


def _run(drain: Callable[[Runtime, int], int], slot: RuntimeSlot, key: int) -> None:
    """Run a drain; a database or Redis that is away ends it, and the pump wakes it again when both are back."""
    try:
        drain(slot.get(), key)
    except (OperationalError, RedisError, OSError) as exc:
        log.warning("drain.interrupted", drain=drain.__name__, key=key, error=str(exc).partition("\n")[0])
