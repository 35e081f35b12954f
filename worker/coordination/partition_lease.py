"""A drain's lease on a partition: acquired with a read of what is next, released with a look at what has come since.

That is one step to Redis each, where a lock, a read and their ends would be five. It is only a courtesy, as all locks
here: two drains of one partition cost work, and the compare-and-set of the offset lets one of them commit. The truth
about the offset is in the database as well; the one beside the stream is a cache that the last lease left.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from typing import Any

from redis import Redis

from shared.domain.events.partitioning import Offset
from shared.messaging.celery_app import PARTITION_TASK
from shared.messaging.edits import REVISION_KEY
from shared.messaging.streams import FIELD, READ, StreamRead, entries_of, stream_key
from shared.messaging.wakeups import token_key
from worker.coordination.webhook_slots import LOCK_SECONDS, RENEW

# KEYS: stream, lock, cached offset, revision. ARGV: holder, lock ms, entries at most, bytes at most, field.
# Answers 0 while another holds the lock, nothing where no offset is cached, else the offset, the entries after it and
# the revision.
_ACQUIRE = (
    READ
    + """
if not redis.call('SET', KEYS[2], ARGV[1], 'NX', 'PX', ARGV[2]) then return 0 end
local mark = redis.call('GET', KEYS[3])
if not mark then return {} end
local found = read(KEYS[1], string.match(mark, '^%S+'), tonumber(ARGV[3]), tonumber(ARGV[4]), ARGV[5])
return {mark, found, redis.call('GET', KEYS[4])}
"""
)
# KEYS: stream, lock, cached offset, token. ARGV: holder, and, where it is known, the offset's entry id and count.
# The token goes before the look at the stream: an entry that is added after the look finds no token, so it wakes a
# drain, and that finds no lock.
_RELEASE = """
if redis.call('GET', KEYS[2]) == ARGV[1] then redis.call('DEL', KEYS[2]) end
redis.call('DEL', KEYS[4])
if not ARGV[2] then return 0 end
redis.call('SET', KEYS[3], ARGV[2] .. ' ' .. ARGV[3])
return #redis.call('XRANGE', KEYS[1], '(' .. ARGV[2], '+', 'COUNT', 1)
"""


@dataclass(slots=True)
class PartitionLease:
    """While it lasts no other drain works on the partition, and news wakes nobody, since this drain would read it.

    It belongs to the thread that acquired it.
    """

    partition: int
    cached_offset: Offset | None
    """Where the partition stood when the last lease was released.

    It may be behind, where a commit was not followed by a release, or ahead after the database was restored. None when
    it is not cached, as after a loss of Redis.
    """
    next: StreamRead
    """What comes after `cached_offset`; without entries also where there is no such offset."""
    _redis: Redis
    _holder: str

    def renew(self) -> bool:
        """Keep the lease for another `LOCK_SECONDS`. False when it was lost: another drain may be at work."""
        renew: Any = self._redis.register_script(RENEW)
        return bool(renew(keys=[_lock_key(self.partition)], args=[self._holder, LOCK_SECONDS * 1000]))

    def release(self, offset: Offset | None) -> bool:
        """Release it, and cache where the partition stands, if that is known.

        The lock and the token that coalesces wake-ups are released in one step. Otherwise a drain that is woken in
        between would find the lease held, and its token would suppress wake-ups until it expires.

        Returns:
            Whether there are entries after `offset`; False where it is None.

        Raises:
            RedisError: when Redis is away. The lock and the token then expire by themselves.
        """
        release: Any = self._redis.register_script(_RELEASE)
        keys = [
            stream_key(self.partition),
            _lock_key(self.partition),
            _offset_key(self.partition),
            token_key(PARTITION_TASK, self.partition),
        ]
        known = [] if offset is None else [offset.entry_id, offset.entries_read]
        return bool(release(keys=keys, args=[self._holder, *known]))


def acquire_lease(redis: Redis, partition: int, count: int, max_bytes: int) -> PartitionLease | None:
    """Acquire the lease of a partition and read what is next, bounded as by `read_within`.

    Returns:
        None while another drain holds it. That drain reads on to the end, so there is nothing to do.
    """
    holder = secrets.token_hex(8)
    acquire: Any = redis.register_script(_ACQUIRE)
    found = acquire(
        keys=[stream_key(partition), _lock_key(partition), _offset_key(partition), REVISION_KEY],
        args=[holder, LOCK_SECONDS * 1000, count, max_bytes, FIELD],
    )
    if found == 0:
        return None
    if not found:
        return PartitionLease(partition, None, StreamRead(None, []), redis, holder)
    mark, entries, revision = found
    entry_id, entries_read = mark.decode().split()
    read = StreamRead(revision, entries_of(entries))
    return PartitionLease(partition, Offset(entry_id, int(entries_read)), read, redis, holder)


def _lock_key(partition: int) -> str:
    return f"hookline:drain:partition:{partition}"


def _offset_key(partition: int) -> str:
    return f"hookline:offset:{partition}"
