"""A drain's lease on a partition: acquired with a read of what is next, released with a look at what has come since.

That is one step to Redis each, where a lock, a read and their ends would be five. It is only a courtesy, as all locks
here: two drains of one partition cost work, and the compare-and-set of the offset lets one of them commit. The truth
about the offset is in the database as well; the one beside the stream is a cache that the last lease left.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from enum import Enum, auto
from typing import Any

from redis import Redis

from shared.domain.events.partitioning import Offset
from shared.messaging.celery_app import PARTITION_TASK
from shared.messaging.edits import revision_key
from shared.messaging.keys import key_tag
from shared.messaging.streams import FIELD, READ, StreamRead, entries_of, stream_key
from shared.messaging.wakeups import token_key
from worker.coordination.webhook_slots import LOCK_SECONDS, RENEW

# KEYS: stream, lock, cached offset, revision, unfinished. ARGV: holder, lock ms, entries at most, bytes at most, field.
# Answers 0 while another holds the lock; else how often the next entry was begun and not finished and, where an offset
# is cached, that, the entries after it and the revision: one entry alone where it was begun before.
_ACQUIRE = (
    READ
    + """
if not redis.call('SET', KEYS[2], ARGV[1], 'NX', 'PX', ARGV[2]) then return 0 end
local mark = redis.call('GET', KEYS[3])
local unfinished = redis.call('GET', KEYS[5])
local begun, at = 0, mark or '-'
if unfinished and string.sub(unfinished, 1, #at + 1) == at .. ' ' then
  begun = tonumber(string.sub(unfinished, #at + 2))
end
redis.call('SET', KEYS[5], at .. ' ' .. math.max(begun, 1))
if not mark then return {begun} end
local wanted = begun > 0 and 1 or tonumber(ARGV[3])
local found = read(KEYS[1], string.match(mark, '^%S+'), wanted, tonumber(ARGV[4]), ARGV[5])
return {begun, mark, found, redis.call('GET', KEYS[4])}
"""
)
# KEYS: lock, cached offset, unfinished. ARGV: holder, lock ms, and the offset's entry id and count.
_RENEW_AT = """
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
local at = ARGV[3] .. ' ' .. ARGV[4]
redis.call('SET', KEYS[2], at)
redis.call('SET', KEYS[3], at .. ' 1')
return redis.call('PEXPIRE', KEYS[1], ARGV[2])
"""
# KEYS: lock, unfinished. ARGV: holder, and the note about the next entry; none deletes it.
_NOTE = """
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
if ARGV[2] then redis.call('SET', KEYS[2], ARGV[2]) else redis.call('DEL', KEYS[2]) end
return 1
"""
# KEYS: stream, lock, cached offset, token, unfinished. ARGV: holder; the note about the next entry, blank to delete it
# or '=' to keep the present one; and, where it is known, the offset's entry id and count.
# The token goes before the look at the stream: an entry that is added after the look finds no token, so it wakes a
# drain, and that finds no lock.
_RELEASE = """
if redis.call('GET', KEYS[2]) == ARGV[1] then
  redis.call('DEL', KEYS[2])
  if ARGV[2] == '' then redis.call('DEL', KEYS[5]) elseif ARGV[2] ~= '=' then redis.call('SET', KEYS[5], ARGV[2]) end
end
redis.call('DEL', KEYS[4])
if not ARGV[3] then return 0 end
redis.call('SET', KEYS[3], ARGV[3] .. ' ' .. ARGV[4])
return #redis.call('XRANGE', KEYS[1], '(' .. ARGV[3], '+', 'COUNT', 1)
"""


class Ending(Enum):
    """How a drain's work on a partition ended."""

    #: As it should.
    FINISHED = auto()
    #: The next entry failed by itself: it stays begun.
    FAILED = auto()
    #: Something that every entry needs was away: the count of the next entry stays as it was before.
    INTERRUPTED = auto()


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
    """What comes after `cached_offset`; without entries also where there is no such offset. One entry if it was `begun`
    before."""
    begun: int
    """How often the next entry was begun, and not finished, by drains that died or failed."""
    _redis: Redis
    _holder: str

    def renew(self, offset: Offset | None = None) -> bool:
        """Keep the lease for another `LOCK_SECONDS`, and cache where the partition stands now, if it moved on.

        Returns:
            False when the lease was lost: another drain may be at work.
        """
        lock, holding = _lock_key(self._redis, self.partition), [self._holder, LOCK_SECONDS * 1000]
        if offset is None:
            renew: Any = self._redis.register_script(RENEW)
            return bool(renew(keys=[lock], args=holding))
        renew_at: Any = self._redis.register_script(_RENEW_AT)
        keys = [lock, _offset_key(self._redis, self.partition), _unfinished_key(self._redis, self.partition)]
        return bool(renew_at(keys=keys, args=[*holding, offset.entry_id, offset.entries_read]))

    def begin_again(self) -> None:
        """Note that the next entry is begun once more: if this process dies now, that entry is counted for it."""
        self._note(f"{_mark(self.cached_offset)} {self.begun + 1}")

    def excuse(self) -> None:
        """Note that the next entry is not to blame if this process dies."""
        self._note()

    def _note(self, *unfinished: str) -> None:
        note: Any = self._redis.register_script(_NOTE)
        keys = [_lock_key(self._redis, self.partition), _unfinished_key(self._redis, self.partition)]
        note(keys=keys, args=[self._holder, *unfinished])

    def release(self, offset: Offset | None, ending: Ending = Ending.FINISHED) -> bool:
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
            _lock_key(self._redis, self.partition),
            _offset_key(self._redis, self.partition),
            token_key(self._redis, PARTITION_TASK, self.partition),
            _unfinished_key(self._redis, self.partition),
        ]
        known = [] if offset is None else [offset.entry_id, offset.entries_read]
        return bool(release(keys=keys, args=[self._holder, self._note_after(ending), *known]))

    def _note_after(self, ending: Ending) -> str:
        if ending is Ending.FAILED:
            return "="
        return f"{_mark(self.cached_offset)} {self.begun}" if ending is Ending.INTERRUPTED and self.begun else ""


def acquire_lease(redis: Redis, partition: int, count: int, max_bytes: int) -> PartitionLease | None:
    """Acquire the lease of a partition and read what is next, bounded as by `read_within`.

    Returns:
        None while another drain holds it. That drain reads on to the end, so there is nothing to do.
    """
    holder = secrets.token_hex(8)
    acquire: Any = redis.register_script(_ACQUIRE)
    found = acquire(
        keys=[
            stream_key(partition),
            _lock_key(redis, partition),
            _offset_key(redis, partition),
            revision_key(redis, partition),
            _unfinished_key(redis, partition),
        ],
        args=[holder, LOCK_SECONDS * 1000, count, max_bytes, FIELD],
    )
    if found == 0:
        return None
    begun, *cached = found
    if not cached:
        return PartitionLease(partition, None, StreamRead(None, []), begun, redis, holder)
    mark, entries, revision = cached
    entry_id, entries_read = mark.decode().split()
    read = StreamRead(revision, entries_of(entries))
    return PartitionLease(partition, Offset(entry_id, int(entries_read)), read, begun, redis, holder)


def _mark(offset: Offset | None) -> str:
    """An offset as it is cached."""
    return "-" if offset is None else f"{offset.entry_id} {offset.entries_read}"


def _lock_key(redis: Redis, partition: int) -> str:
    return f"hookline:drain:partition:{key_tag(redis, partition)}"


def _offset_key(redis: Redis, partition: int) -> str:
    return f"hookline:offset:{key_tag(redis, partition)}"


def _unfinished_key(redis: Redis, partition: int) -> str:
    """Where a drain began, and how often that was begun; no such key while no drain is at work."""
    return f"hookline:unfinished:{key_tag(redis, partition)}"
