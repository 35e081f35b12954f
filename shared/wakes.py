"""Waking drains: a Celery message that holds a key, at most one waiting for each key.

A message may be lost, doubled or late without harm, since the truth is in the streams and the database. The token that
keeps a second message away expires, so a lost message delays work by `TOKEN_SECONDS` at most.
"""

from __future__ import annotations

import socket
from collections.abc import Collection, Iterable

from celery import Celery
from kombu.exceptions import KombuError
from redis import Redis

from shared import broker
from shared.domain.errors import HooklineError
from shared.settings import Settings
from shared.streams import SOCKET_TIMEOUT_SECONDS

PARTITION_TASK = "drain_partition"
WEBHOOK_TASK = "drain_webhook"
EVALUATE_QUEUE = "evaluate"
DELIVER_QUEUE = "deliver"
SLOW_QUEUE = "deliver_slow"
"""Drains of webhooks that answer slowly: however many there are, those of the others don't queue behind them."""
KEYS = {PARTITION_TASK: "partition", WEBHOOK_TASK: "webhook_id"}
"""What the key of each task is; `celery events` and Flower show it so."""
TOKEN_SECONDS = 5


def celery_app(settings: Settings) -> Celery:
    """A Celery application on the configured broker: workers add the tasks, everyone else only sends."""
    broker.use()
    app = Celery("hookline", broker=settings.celery_broker_url)
    app.conf.update(
        task_ignore_result=True,
        task_default_queue=EVALUATE_QUEUE,
        task_routes={PARTITION_TASK: {"queue": EVALUATE_QUEUE}, WEBHOOK_TASK: {"queue": DELIVER_QUEUE}},
        task_serializer="json",
        accept_content=["json"],
        broker_transport_options={
            # For Sentinel, whose transport is kombu's: what is not acknowledged comes back after this long.
            "visibility_timeout": 60,
            # Nobody sends with a priority: a worker waits for one list of each queue, and not for four.
            "priority_steps": [0],
            # A broker that is cut off answers nothing at all: these give it up after 25 seconds at most.
            "socket_timeout": SOCKET_TIMEOUT_SECONDS,
            "socket_connect_timeout": SOCKET_TIMEOUT_SECONDS,
            "socket_keepalive": True,
            "socket_keepalive_options": {
                socket.TCP_KEEPIDLE: 10,
                socket.TCP_KEEPINTVL: 5,
                socket.TCP_KEEPCNT: 3,
                socket.TCP_USER_TIMEOUT: 20_000,
            },
            # Who wakes others has work of its own: it tries a lost connection once more, not for seconds.
            "max_retries": 1,
            "interval_start": 0,
            "interval_step": 0.1,
        },
        broker_connection_retry_on_startup=True,
        broker_connection_max_retries=None,
        task_publish_retry=False,
        worker_hijack_root_logger=False,
        # After a lost connection; acknowledging, which would raise the count again, goes past Celery's loop.
        worker_enable_prefetch_count_reduction=False,
        enable_utc=True,
    )
    return app


class BrokerUnavailable(HooklineError, ConnectionError):
    """Celery's broker can't be reached: nobody was woken, and the pump's next sweep tries again."""


class Waker:
    """Sends wake-ups. Redis errors propagate: the pump's next sweep makes up for a wake that was not sent."""

    def __init__(self, app: Celery, redis: Redis) -> None:
        self._app = app
        self._redis = redis

    def partitions(self, partitions: Iterable[int]) -> None:
        """Wake the drains of these partitions. Raises BrokerUnavailable."""
        self._wake(PARTITION_TASK, EVALUATE_QUEUE, partitions)

    def webhooks(self, webhook_ids: Iterable[int], *, slow: Collection[int] = ()) -> None:
        """Wake the drains of these webhooks, those that are `slow` in a lane of their own. Raises BrokerUnavailable."""
        ids = list(webhook_ids)
        self._wake(WEBHOOK_TASK, DELIVER_QUEUE, (one for one in ids if one not in slow))
        self._wake(WEBHOOK_TASK, SLOW_QUEUE, (one for one in ids if one in slow))

    def ended(self, task: str, key: int) -> None:
        """The drain of a key looks no further: the next news needs a message of its own."""
        self._redis.delete(_token(task, key))

    def _wake(self, task: str, queue: str, keys: Iterable[int]) -> None:
        keys = list(dict.fromkeys(keys))
        if not keys:
            return
        pipeline = self._redis.pipeline(transaction=False)
        for key in keys:
            pipeline.set(_token(task, key), b"1", nx=True, ex=TOKEN_SECONDS)
        waiting = [key for key, was_free in zip(keys, pipeline.execute(), strict=True) if was_free]
        if not waiting:
            return
        try:
            self._send(task, queue, waiting)
        except (KombuError, OSError) as exc:
            # Without its token each of them may be woken at once when the broker is back.
            self._redis.delete(*(_token(task, key) for key in waiting))
            raise BrokerUnavailable(BrokerUnavailable.__doc__) from exc

    def _send(self, task: str, queue: str, keys: Iterable[int]) -> None:
        with self._app.producer_or_acquire() as producer:
            for key in keys:
                shown = f"({KEYS[task]}={key})"
                self._app.send_task(task, args=(key,), argsrepr=shown, queue=queue, producer=producer)


def _token(task: str, key: int) -> str:
    return f"hookline:wake:{task}:{key}"
