"""How many messages wait in Celery's queues, from whichever broker there is."""

from __future__ import annotations

from typing import Any

from celery import Celery

from shared.messaging.celery_app import DELIVER_QUEUE, EVALUATE_QUEUE, SLOW_QUEUE

QUEUES = (EVALUATE_QUEUE, DELIVER_QUEUE, SLOW_QUEUE)


def queue_lengths(app: Celery) -> dict[str, int]:
    """The messages that wait, by queue; nothing while the broker can't be reached."""
    lengths = {}
    pool: Any = app.pool
    with pool.acquire(block=True) as connection:
        try:
            connection.ensure_connection(max_retries=1, timeout=2)
            for queue in QUEUES:
                with connection.channel() as channel:  # AMQP closes a channel on which a queue was not there
                    lengths[queue] = _length(connection, channel, queue)
        except connection.connection_errors:
            return {}
    return lengths


def _length(connection: Any, channel: Any, queue: str) -> int:
    try:
        return int(channel.queue_declare(queue, passive=True).message_count)
    except connection.channel_errors:
        return 0  # nobody has sent to it yet, or Redis, where a queue without messages is none
