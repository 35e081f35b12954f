"""Celery messages that start drains, sent many at a time.

To make and send a message takes Celery about twenty times as long as what is done here, and a sweep may send thousands.
The messages of one kind of drain differ in their id and keys only. So on our own transport (`broker_transport`) Celery
and kombu make one message of each kind, with placeholders for id, keys and body. It is kept as the text that a queue
holds, and each message that is sent is this text with the placeholders replaced. Nothing of Celery's or kombu's format
is written down here: a new release brings its own format, and a test compares the messages of both ways. On any other
broker Celery sends each message itself.
"""

from __future__ import annotations

import base64
from collections.abc import Sequence
from uuid import uuid4

import orjson
from celery import Celery
from kombu.serialization import dumps

from shared.messaging import broker_transport
from shared.messaging.celery_app import KEYS

# Placeholders. Nothing else in a message looks like one of them: the key is a number of 16 digits, since the body has
# it as a number, and the other two have characters that JSON text has in quotes only.
_ID = "<id>"
_KEY = 8_191_919_191_919_191
_KEY_TEXT = str(_KEY)
_BODY = "<body>"
_ALSO = "<also>"

ALSO_HEADER = "also"
"""The header with the other keys of a message, beside the key that is the task's argument. A worker of a release that
does not know it drains the first key; the others are found by the dispatcher's sweep."""
Keys = Sequence[int]
"""The keys of one message: at least one."""


class MessageTemplate:
    """The message that starts one kind of drain, as Celery and kombu make it, with placeholders for what differs."""

    def __init__(self, app: Celery, channel: broker_transport.Channel, task: str, queue: str) -> None:
        made = app.amqp.as_task_v2(_ID, task, args=(_KEY,), argsrepr=_args_repr(task, _KEY))
        content_type, content_encoding, self._body = dumps(made.body, app.conf.task_serializer)
        message = channel.prepare_message(
            _BODY,
            content_type=content_type,
            content_encoding=content_encoding,
            headers=made.headers | {"ignore_result": None, ALSO_HEADER: _ALSO},  # the task's own setting counts
            properties=made.properties
            | {
                "delivery_mode": app.conf.task_default_delivery_mode,
                "delivery_info": {"exchange": "", "routing_key": queue},
                "body_encoding": "base64",
                "delivery_tag": _ID,
            },
        )
        self._text = orjson.dumps(message).decode()

    def fill(self, keys: Keys) -> bytes:
        """The message for these keys, with an id of its own, as a queue holds it."""
        key, also = str(keys[0]), orjson.dumps(keys[1:]).decode()
        body = base64.b64encode(self._body.replace(_KEY_TEXT, key).encode()).decode()
        text = self._text.replace(_ID, str(uuid4())).replace(_KEY_TEXT, key).replace(_BODY, body)
        return text.replace(f'"{_ALSO}"', also).encode()


class DrainMessages:
    """Sends the messages that start drains."""

    def __init__(self, app: Celery) -> None:
        self._app = app
        self._templates: dict[tuple[str, str], MessageTemplate] = {}
        """By task and queue. Any thread may add one without a lock: two that do at the same time make equal ones."""

    def send(self, task: str, queue: str, messages: Sequence[Keys]) -> None:
        """Send messages, each with its keys.

        Raises:
            kombu.exceptions.KombuError, redis.exceptions.RedisError, OSError: when the broker can't be reached; some of
                the messages may have been sent.
        """
        with self._app.producer_or_acquire() as producer:
            channel = producer.channel
            if isinstance(channel, broker_transport.Channel):
                template = self._template(channel, task, queue)
                channel.push_many(queue, [template.fill(keys) for keys in messages])
            else:
                for key, *also in messages:
                    self._app.send_task(
                        task,
                        args=(key,),
                        argsrepr=_args_repr(task, key),
                        queue=queue,
                        producer=producer,
                        headers={ALSO_HEADER: also},
                    )

    def _template(self, channel: broker_transport.Channel, task: str, queue: str) -> MessageTemplate:
        template = self._templates.get((task, queue))
        if template is None:
            template = self._templates[task, queue] = MessageTemplate(self._app, channel, task, queue)
        return template


def _args_repr(task: str, key: int) -> str:
    """The task's argument as `celery events` and Flower show it."""
    return f"({KEYS[task]}={key})"
