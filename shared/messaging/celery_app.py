"""The Celery application's settings, and the names of its tasks and queues. Messages carry keys only."""

from __future__ import annotations

import socket

from celery import Celery

from shared.messaging import broker_transport
from shared.messaging.redis_clients import SOCKET_TIMEOUT_SECONDS
from shared.settings import Settings

PARTITION_TASK = "drain_partition"


WEBHOOK_TASK = "drain_webhook"


EVALUATE_QUEUE = "evaluate"


DELIVER_QUEUE = "deliver"


SLOW_QUEUE = "deliver_slow"
"""The queue of webhooks that answer slowly: however many there are, the drains of others don't wait behind theirs."""


KEYS = {PARTITION_TASK: "partition", WEBHOOK_TASK: "webhook_id"}
"""The name of each task's argument, as `celery events` and Flower show it."""


_LOST_HOST_OPTIONS = {
    socket.TCP_KEEPIDLE: 10,
    socket.TCP_KEEPINTVL: 5,
    socket.TCP_KEEPCNT: 3,
    socket.TCP_USER_TIMEOUT: 20_000,
}
"""TCP options by which a connection to a host that answers nothing at all ends after 25 seconds, and not after hours.

The same times as for PostgreSQL (`shared.storage.database.engine`): 10 s of silence and three probes, 5 s apart.
"""


def celery_app(settings: Settings) -> Celery:
    """A Celery application on the configured broker: workers add the tasks to it, other processes only send."""
    address = settings.broker
    broker_transport.register_transports(address.sentinel)
    app = Celery("hookline", broker=address.url)
    app.conf.update(
        broker_use_ssl=dict(address.tls) if address.tls else None,
        task_ignore_result=True,
        task_default_queue=EVALUATE_QUEUE,
        task_routes={PARTITION_TASK: {"queue": EVALUATE_QUEUE}, WEBHOOK_TASK: {"queue": DELIVER_QUEUE}},
        task_serializer="json",
        accept_content=["json"],
        broker_transport_options={
            "master_name": address.sentinel.master if address.sentinel else None,
            # No message has a priority: a worker waits for one Redis list of each queue, and not for four.
            "priority_steps": [0],
            # Of Redis, and of the connection to it: see `_LOST_HOST_OPTIONS`.
            "socket_timeout": SOCKET_TIMEOUT_SECONDS,
            "socket_connect_timeout": SOCKET_TIMEOUT_SECONDS,
            "socket_keepalive": True,
            "socket_keepalive_options": _LOST_HOST_OPTIONS,
            # The same for RabbitMQ, under py-amqp's names. `write_timeout` also ends the wait for a RabbitMQ that
            # blocks publishers because it is out of memory or disk.
            "socket_settings": _LOST_HOST_OPTIONS,
            "write_timeout": SOCKET_TIMEOUT_SECONDS,
            # A process that wakes others has work of its own: it tries a lost connection once more, not for seconds.
            "max_retries": 1,
            "interval_start": 0,
            "interval_step": 0.1,
        },
        # RabbitMQ's heartbeat, in seconds. A server that hangs although its host answers is left after twice as long.
        broker_heartbeat=15,
        broker_connection_retry_on_startup=True,
        broker_connection_max_retries=None,
        task_publish_retry=False,
        worker_hijack_root_logger=False,
        # Our tasks acknowledge early, so this has no effect; set, it silences Celery's warning about its default.
        worker_cancel_long_running_tasks_on_connection_loss=True,
        # Celery would lower the prefetch count after a lost connection, and raise it as tasks are acknowledged; our
        # transport acknowledges without Celery's loop, so it would stay low.
        worker_enable_prefetch_count_reduction=False,
        enable_utc=True,
    )
    return app
