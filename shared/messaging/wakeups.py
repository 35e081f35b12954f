"""Waking drains: a Celery message that carries one or more keys, at most one waiting for each key.

A message may be lost, repeated or late without harm, since the truth is in the streams and the database. The token that
prevents a second message expires, so a lost message delays work by `TOKEN_SECONDS` at most.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from typing import Any

from celery import Celery
from kombu.exceptions import KombuError
from redis import Redis
from redis.exceptions import RedisError

from shared.domain.errors import HooklineError
from shared.messaging.celery_app import DELIVER_QUEUE, EVALUATE_QUEUE, PARTITION_TASK, SLOW_QUEUE, WEBHOOK_TASK
from shared.messaging.drain_messages import DrainMessages
from shared.messaging.keys import key_tag
from shared.messaging.streams import stream_key

TOKEN_SECONDS = 5
"""How long a token lives that no drain clears.

A drain's message waits longer than this only when all workers are busy: then the sweep sends one more each time, and
the drains that come too late find nothing to do. Ten seconds would halve those, and double the delay after a lost
message.
"""


SINGLE_DRAINS = 4
"""Where no more webhooks than this are woken at a time, each gets a message and a drain of its own: one that has much
due is worked off faster by it. Above, they share messages."""
KEYS_IN_A_MESSAGE = 200
"""How many webhooks a drain takes together at most. Twice as many give it as much as a process sends at a time; half as
many make more messages and statements."""


class BrokerUnavailable(HooklineError, ConnectionError):
    """Celery's broker can't be reached: nobody was woken, and the pump's next sweep tries again."""


class Waker:
    """Sends wake-ups. Redis errors propagate: the pump's next sweep makes up for a wake-up that was not sent.

    Any thread may use it: it keeps no state but clients that are thread-safe, and `DrainMessages`.
    """

    def __init__(self, app: Celery, redis: Redis) -> None:
        self._messages = DrainMessages(app)
        self._redis = redis

    def wake_partitions(self, partitions: Iterable[int]) -> None:
        """Wake the drains of these partitions. Raises BrokerUnavailable."""
        self._wake(PARTITION_TASK, EVALUATE_QUEUE, partitions)

    def wake_webhooks(self, webhook_ids: Iterable[int], *, slow: Collection[int] = (), together: bool = True) -> None:
        """Wake drains of these webhooks, those that are `slow` in a lane of their own, each by its own drain.

        The others share drains where there are many of them, unless they are not to be drained `together`.

        Raises:
            BrokerUnavailable: when some were not woken.
        """
        ids = list(webhook_ids)
        at_a_time = KEYS_IN_A_MESSAGE if together else 1
        self._wake(WEBHOOK_TASK, DELIVER_QUEUE, (one for one in ids if one not in slow), at_a_time)
        self._wake(WEBHOOK_TASK, SLOW_QUEUE, (one for one in ids if one in slow))

    def read_newest_and_wake(self, partitions: Sequence[int]) -> list[str | None]:
        """Read the newest entry of each partition's stream and then wake its drain, in one round trip to Redis.

        In this order, since a woken drain reads to the end of its stream: an entry that is newer than what is read here
        may come after the drain has looked, and is news again.

        Returns:
            The id of each partition's newest entry, in the order of `partitions`; None for an empty stream.

        Raises:
            BrokerUnavailable: when nobody was woken.
        """
        pipeline = self._redis.pipeline(transaction=False)
        for partition in partitions:
            pipeline.xrevrange(stream_key(partition), count=1)
        self._take_tokens(pipeline, PARTITION_TASK, partitions)
        answers = pipeline.execute()
        newest, taken = answers[: len(partitions)], answers[len(partitions) :]
        self._send_where_taken(PARTITION_TASK, EVALUATE_QUEUE, partitions, taken)
        return [entries[0][0].decode() if entries else None for entries in newest]

    def clear_token(self, task: str, key: int) -> None:
        """Let the next news of a key send a message of its own, since the drain that runs reads no further."""
        self._redis.delete(token_key(self._redis, task, key))

    def _wake(self, task: str, queue: str, keys: Iterable[int], at_a_time: int = 1) -> None:
        keys = list(dict.fromkeys(keys))
        if not keys:
            return
        pipeline = self._redis.pipeline(transaction=False)
        self._take_tokens(pipeline, task, keys)
        self._send_where_taken(task, queue, keys, pipeline.execute(), at_a_time)

    def _send_where_taken(
        self, task: str, queue: str, keys: Sequence[int], taken: Sequence[Any], at_a_time: int = 1
    ) -> None:
        """Send messages for the keys whose tokens were free; the others have a message waiting or a drain at work."""
        wanted = [key for key, was_free in zip(keys, taken, strict=True) if was_free]
        if not wanted:
            return
        size = at_a_time if len(wanted) > SINGLE_DRAINS else 1
        try:
            self._messages.send(task, queue, [wanted[start : start + size] for start in range(0, len(wanted), size)])
        except (KombuError, OSError, RedisError) as exc:
            # Without their tokens these drains can be woken as soon as the broker is back.
            self._redis.delete(*(token_key(self._redis, task, key) for key in wanted))
            raise BrokerUnavailable(BrokerUnavailable.__doc__) from exc

    def _take_tokens(self, pipeline: Any, task: str, keys: Iterable[int]) -> None:
        """Add one command for each key, whose answer is true where the token was free and is taken now."""
        for key in keys:
            pipeline.set(token_key(self._redis, task, key), b"1", nx=True, ex=TOKEN_SECONDS)


def token_key(redis: Redis, task: str, key: int) -> str:
    """The Redis key of a drain's token: while it exists the drain is at work, or a message for it is on its way."""
    return f"hookline:wake:{task}:{key_tag(redis, key)}"
