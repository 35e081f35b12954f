"""Waking drains: a Celery message that holds a key, at most one waiting for each key.

A message may be lost, doubled or late without harm, since the truth is in the streams and the database. The token that
keeps a second message away expires, so a lost message delays work by `TOKEN_SECONDS` at most.
"""

from __future__ import annotations

import base64
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
from shared.messaging.celery_app import DELIVER_QUEUE, EVALUATE_QUEUE, KEYS, PARTITION_TASK, SLOW_QUEUE, WEBHOOK_TASK

TOKEN_SECONDS = 5

# What stands in a draft for the message's id, its key and its body; nothing else in it looks like one of them.
_ID = "<id>"
_KEY = 8_191_919_191_919_191
_KEY_TEXT = str(_KEY)
_BODY = "<body>"


class BrokerUnavailable(HooklineError, ConnectionError):
    """Celery's broker can't be reached: nobody was woken, and the pump's next sweep tries again."""


class MessageTemplate:
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
        self._drafts: dict[tuple[str, str], MessageTemplate] = {}

    def wake_partitions(
        self, partitions: Iterable[int], *, after: Callable[[Any], None] = lambda _pipeline: None
    ) -> list[Any]:
        """Wake the drains of these partitions. Raises BrokerUnavailable.

        `after` may add commands that the streams' server is to answer before, in the same round trip.

        Returns:
            Their answers.
        """
        return self._wake(PARTITION_TASK, EVALUATE_QUEUE, partitions, after)

    def wake_webhooks(self, webhook_ids: Iterable[int], *, slow: Collection[int] = ()) -> None:
        """Wake the drains of these webhooks, those that are `slow` in a lane of their own. Raises BrokerUnavailable."""
        ids = list(webhook_ids)
        self._wake(WEBHOOK_TASK, DELIVER_QUEUE, (one for one in ids if one not in slow))
        self._wake(WEBHOOK_TASK, SLOW_QUEUE, (one for one in ids if one in slow))

    def clear_token(self, task: str, key: int) -> None:
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
                channel.push_many(queue, [draft.message(key) for key in keys])
                return
            for key in keys:
                self._app.send_task(task, args=(key,), argsrepr=_shown(task, key), queue=queue, producer=producer)

    def _draft(self, channel: broker_transport.Channel, task: str, queue: str) -> MessageTemplate:
        draft = self._drafts.get((task, queue))
        if draft is None:
            draft = self._drafts[task, queue] = MessageTemplate(self._app, channel, task, queue)
        return draft


def _shown(task: str, key: int) -> str:
    return f"({KEYS[task]}={key})"


def token_key(task: str, key: int) -> str:
    """The token of a drain that was sent for, or is at work: it will look, so that nobody need send for it."""
    return f"hookline:wake:{task}:{key}"
