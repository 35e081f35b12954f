"""A drain's turn at a partition: taken with what is next in the stream, and ended with a look at what has come since.

That is one step to Redis each, where a lock, a read and their ends would be five. Only a courtesy, as all locks here:
what is right is decided in the database. So is where the partition stands, of which the last turn leaves a mark.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from typing import Any

from redis import Redis

from shared.domain.events.partitioning import Offset
from shared.messaging.celery_app import PARTITION_TASK
from shared.messaging.streams import FIELD, READ, Entry, entries_of, stream_key
from shared.messaging.wakeups import token_key
from worker.coordination.webhook_slots import LOCK_SECONDS, RENEW

_TAKE = (
    READ
    + """
if not redis.call('SET', KEYS[2], ARGV[1], 'NX', 'PX', ARGV[2]) then return 0 end
local mark = redis.call('GET', KEYS[3])
if not mark then return {} end
return {mark, read(KEYS[1], string.match(mark, '^%S+'), tonumber(ARGV[3]), tonumber(ARGV[4]), ARGV[5])}
"""
)
_END = """
if redis.call('GET', KEYS[2]) == ARGV[1] then redis.call('DEL', KEYS[2]) end
redis.call('DEL', KEYS[4])
if not ARGV[2] then return 0 end
redis.call('SET', KEYS[3], ARGV[2] .. ' ' .. ARGV[3])
return #redis.call('XRANGE', KEYS[1], '(' .. ARGV[2], '+', 'COUNT', 1)
"""


@dataclass(slots=True)
class PartitionLease:
    """While it lasts no other drain works on the partition, and news wakes nobody, since this drain would read it."""

    partition: int
    cached_offset: Offset | None
    """Where the partition stood by the mark; it may be behind, or ahead after a restore."""
    entries: list[Entry]
    """What is next after the mark."""
    _redis: Redis
    _holder: str

    def renew(self) -> bool:
        """Keep the turn for another `LOCK_SECONDS`. False when it was lost: somebody else may be at work."""
        renew: Any = self._redis.register_script(RENEW)
        return bool(renew(keys=[_lock_key(self.partition)], args=[self._holder, LOCK_SECONDS * 1000]))

    def release(self, offset: Offset | None) -> bool:
        """End it, and mark where the partition stands, if that is known; whether there are entries after it.

        The lock and the token that keeps messages away are given up at once, before the look: who is woken in between
        would find the turn taken, and leave a token for which nobody comes.
        """
        end: Any = self._redis.register_script(_END)
        keys = [
            stream_key(self.partition),
            _lock_key(self.partition),
            _mark_key(self.partition),
            token_key(PARTITION_TASK, self.partition),
        ]
        standing = [] if offset is None else [offset.entry_id, offset.entries_read]
        return bool(end(keys=keys, args=[self._holder, *standing]))


def acquire_lease(redis: Redis, partition: int, count: int, max_bytes: int) -> PartitionLease | None:
    """Take a turn and read what is next, bounded as by `read_within`; None while another drain has it."""
    holder = secrets.token_hex(8)
    take: Any = redis.register_script(_TAKE)
    found = take(
        keys=[stream_key(partition), _lock_key(partition), _mark_key(partition)],
        args=[holder, LOCK_SECONDS * 1000, count, max_bytes, FIELD],
    )
    if found == 0:
        return None
    if not found:
        return PartitionLease(partition, None, [], redis, holder)
    entry_id, entries_read = found[0].decode().split()
    return PartitionLease(partition, Offset(entry_id, int(entries_read)), entries_of(found[1]), redis, holder)


def _lock_key(partition: int) -> str:
    return f"hookline:drain:partition:{partition}"


def _mark_key(partition: int) -> str:
    return f"hookline:offset:{partition}"
