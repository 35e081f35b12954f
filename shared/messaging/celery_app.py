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
"""Drains of webhooks that answer slowly: however many there are, those of the others don't queue behind them."""


KEYS = {PARTITION_TASK: "partition", WEBHOOK_TASK: "webhook_id"}
"""What the key of each task is; `celery events` and Flower show it so."""


_CUT_OFF = {
    socket.TCP_KEEPIDLE: 10,
    socket.TCP_KEEPINTVL: 5,
    socket.TCP_KEEPCNT: 3,
    socket.TCP_USER_TIMEOUT: 20_000,
}


def celery_app(settings: Settings) -> Celery:
    """A Celery application on the configured broker: workers add the tasks, everyone else only sends."""
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
            # Nobody sends with a priority: a worker waits for one list of each queue, and not for four.
            "priority_steps": [0],
            # A broker that is cut off answers nothing at all: these give it up after 25 seconds at most.
            "socket_timeout": SOCKET_TIMEOUT_SECONDS,
            "socket_connect_timeout": SOCKET_TIMEOUT_SECONDS,
            "socket_keepalive": True,
            "socket_keepalive_options": _CUT_OFF,
            # The same for RabbitMQ, under py-amqp's names; one that takes nothing more, for want of memory, is waited
            # for no longer either.
            "socket_settings": _CUT_OFF,
            "write_timeout": SOCKET_TIMEOUT_SECONDS,
            # Who wakes others has work of its own: it tries a lost connection once more, not for seconds.
            "max_retries": 1,
            "interval_start": 0,
            "interval_step": 0.1,
        },
        # RabbitMQ's own sign of life: a server that hangs, though its host answers, is given up after twice as long.
        broker_heartbeat=15,
        broker_connection_retry_on_startup=True,
        broker_connection_max_retries=None,
        task_publish_retry=False,
        worker_hijack_root_logger=False,
        # Ours acknowledge early, so it does nothing, but that Celery says nothing of its default.
        worker_cancel_long_running_tasks_on_connection_loss=True,
        # After a lost connection; acknowledging, which would raise the count again, goes past Celery's loop.
        worker_enable_prefetch_count_reduction=False,
        enable_utc=True,
    )
    return app
