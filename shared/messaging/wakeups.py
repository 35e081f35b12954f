"""Waking drains: a Celery message that holds a key, at most one waiting for each key.

A message may be lost, doubled or late without harm, since the truth is in the streams and the database. The token that
keeps a second message away expires, so a lost message delays work by `TOKEN_SECONDS` at most.
"""

from __future__ import annotations

import base64
import socket
from collections.abc import Callable, Collection, Iterable
from typing import Any
from uuid import uuid4

import orjson
from celery import Celery
from kombu.exceptions import KombuError
from kombu.serialization import dumps
from redis import Redis
from redis.exceptions import RedisError

from shared.domain.errors import HooklineError
from shared.messaging import broker_transport
from shared.messaging.streams import SOCKET_TIMEOUT_SECONDS
from shared.settings import Settings

PARTITION_TASK = "drain_partition"
WEBHOOK_TASK = "drain_webhook"
EVALUATE_QUEUE = "evaluate"
DELIVER_QUEUE = "deliver"
SLOW_QUEUE = "deliver_slow"
"""Drains of webhooks that answer slowly: however many there are, those of the others don't queue behind them."""
KEYS = {PARTITION_TASK: "partition", WEBHOOK_TASK: "webhook_id"}
"""What the key of each task is; `celery events` and Flower show it so."""
TOKEN_SECONDS = 5

# What stands in a draft for the message's id, its key and its body; nothing else in it looks like one of them.
_ID = "<id>"
_KEY = 8_191_919_191_919_191
_KEY_TEXT = str(_KEY)
_BODY = "<body>"
_CUT_OFF = {
    socket.TCP_KEEPIDLE: 10,
    socket.TCP_KEEPINTVL: 5,
    socket.TCP_KEEPCNT: 3,
    socket.TCP_USER_TIMEOUT: 20_000,
}


def celery_app(settings: Settings) -> Celery:
    """A Celery application on the configured broker: workers add the tasks, everyone else only sends."""
    address = settings.broker
    broker_transport.use(address.sentinel)
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


class BrokerUnavailable(HooklineError, ConnectionError):
    """Celery's broker can't be reached: nobody was woken, and the pump's next sweep tries again."""


class Draft:
    """The message that wakes one kind of drain, as Celery and kombu make it: made once, and filled in for each key."""

    def __init__(self, app: Celery, channel: broker_transport.Channel, task: str, queue: str) -> None:
        made = app.amqp.as_task_v2(_ID, task, args=(_KEY,), argsrepr=_shown(task, _KEY))
        content_type, content_encoding, self._body = dumps(made.body, app.conf.task_serializer)
        message = channel.prepare_message(
            _BODY,
            content_type=content_type,
            content_encoding=content_encoding,
            headers=made.headers | {"ignore_result": None},  # the task knows
            properties=made.properties
            | {
                "delivery_mode": app.conf.task_default_delivery_mode,
                "delivery_info": {"exchange": "", "routing_key": queue},
                "body_encoding": "base64",
                "delivery_tag": _ID,
            },
        )
        self._text = orjson.dumps(message).decode()

    def message(self, key: int) -> bytes:
        """The message for a key, as a queue holds it."""
        body = base64.b64encode(self._body.replace(_KEY_TEXT, str(key)).encode()).decode()
        text = self._text.replace(_ID, str(uuid4())).replace(_KEY_TEXT, str(key)).replace(_BODY, body)
        return text.encode()


class Waker:
    """Sends wake-ups. Redis errors propagate: the pump's next sweep makes up for a wake that was not sent."""

    def __init__(self, app: Celery, redis: Redis) -> None:
        self._app = app
        self._redis = redis
        self._drafts: dict[tuple[str, str], Draft] = {}

    def partitions(
        self, partitions: Iterable[int], *, after: Callable[[Any], None] = lambda _pipeline: None
    ) -> list[Any]:
        """Wake the drains of these partitions. Raises BrokerUnavailable.

        `after` may add commands that the streams' server is to answer before, in the same round trip.

        Returns:
            Their answers.
        """
        return self._wake(PARTITION_TASK, EVALUATE_QUEUE, partitions, after)

    def webhooks(self, webhook_ids: Iterable[int], *, slow: Collection[int] = ()) -> None:
        """Wake the drains of these webhooks, those that are `slow` in a lane of their own. Raises BrokerUnavailable."""
        ids = list(webhook_ids)
        self._wake(WEBHOOK_TASK, DELIVER_QUEUE, (one for one in ids if one not in slow))
        self._wake(WEBHOOK_TASK, SLOW_QUEUE, (one for one in ids if one in slow))

    def ended(self, task: str, key: int) -> None:
        """The drain of a key looks no further: the next news needs a message of its own."""
        self._redis.delete(token_key(task, key))

    def _wake(
        self, task: str, queue: str, keys: Iterable[int], after: Callable[[Any], None] = lambda _pipeline: None
    ) -> list[Any]:
        keys = list(dict.fromkeys(keys))
        if not keys:
            return []
        pipeline = self._redis.pipeline(transaction=False)
        after(pipeline)
        for key in keys:
            pipeline.set(token_key(task, key), b"1", nx=True, ex=TOKEN_SECONDS)
        answers = pipeline.execute()
        earlier, free = answers[: -len(keys)], answers[-len(keys) :]
        waiting = [key for key, was_free in zip(keys, free, strict=True) if was_free]
        if not waiting:
            return earlier
        try:
            self._send(task, queue, waiting)
        except (KombuError, OSError, RedisError) as exc:
            # Without its token each of them may be woken at once when the broker is back.
            self._redis.delete(*(token_key(task, key) for key in waiting))
            raise BrokerUnavailable(BrokerUnavailable.__doc__) from exc
        return earlier

    def _send(self, task: str, queue: str, keys: Iterable[int]) -> None:
        with self._app.producer_or_acquire() as producer:
            channel = producer.channel
            if isinstance(channel, broker_transport.Channel):
                draft = self._draft(channel, task, queue)
                channel.put_all(queue, [draft.message(key) for key in keys])
                return
            for key in keys:
                self._app.send_task(task, args=(key,), argsrepr=_shown(task, key), queue=queue, producer=producer)

    def _draft(self, channel: broker_transport.Channel, task: str, queue: str) -> Draft:
        draft = self._drafts.get((task, queue))
        if draft is None:
            draft = self._drafts[task, queue] = Draft(self._app, channel, task, queue)
        return draft


def _shown(task: str, key: int) -> str:
    return f"({KEYS[task]}={key})"


def token_key(task: str, key: int) -> str:
    """The token of a drain that was sent for, or is at work: it will look, so that nobody need send for it."""
    return f"hookline:wake:{task}:{key}"
