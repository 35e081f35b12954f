"""Watching the streams: waits for new entries, and wakes the drains of the partitions that have some."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from redis import Redis

from shared.messaging.keys import is_cluster
from shared.messaging.streams import stream_key
from shared.messaging.wakeups import Waker

BLOCK_MILLISECONDS = 1000
"""How long one command waits for news: a pump that is stopped ends within it. Clients give up after ten seconds
only."""
_END_OF_STREAM = "$"


def watched_together(redis: Redis, partitions: int) -> list[range]:
    """The partitions whose streams one command can wait for: all, or each by itself in a Redis Cluster, where they are
    on several nodes, and not in one slot even where they are on one."""
    return [range(one, one + 1) for one in range(partitions)] if is_cluster(redis) else [range(partitions)]


class StreamWatch:
    """The watch over partitions' streams. One thread uses it; another pump's watch wakes the same drains, once."""

    def __init__(self, redis: Redis, waker: Waker, partitions: Iterable[int]) -> None:
        self._redis = redis
        self._waker = waker
        self._partition_of = {stream_key(partition): partition for partition in partitions}
        self._seen: dict[Any, Any] = dict.fromkeys(self._partition_of, _END_OF_STREAM)
        """By stream the newest entry that a drain was woken for. It starts at the end: the sweep finds what was
        before."""

    def wake_on_news(self) -> bool:
        """Wait for new entries, for `BLOCK_MILLISECONDS` at most, and wake the drains of their partitions.

        Returns:
            Whether there were any.

        Raises:
            redis.exceptions.RedisError, BrokerUnavailable: nobody may have been woken; the next call tries again.
        """
        news: Any = self._redis.xread(self._seen, count=1, block=BLOCK_MILLISECONDS)
        if not news:
            return False
        keys = [key.decode() for key, _entries in (news.items() if isinstance(news, dict) else news)]
        newest = self._waker.read_newest_and_wake([self._partition_of[key] for key in keys])
        self._seen.update((key, last or _END_OF_STREAM) for key, last in zip(keys, newest, strict=True))
        return True
