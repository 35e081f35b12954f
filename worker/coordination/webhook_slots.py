"""Slots for drains of one webhook: at most so many at a time, over all workers.

It is only a courtesy. A drain too many claims other deliveries than the rest do, since the database decides who claims
what; it only costs threads and connections.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from redis import Redis

LOCK_SECONDS = 5
"""How long a drain that died keeps its slot, or its lease of a partition. One at work renews it every few seconds.

At half of it a pause of some seconds, as for garbage collection or a slow disk, gives the slot to another drain; at
twice a killed worker's partition waits for ten seconds.
"""

# KEYS: the slots. ARGV: holder, lock ms. Answers the first free slot, counted from 1, or 0: one step, however many are
# taken. Each is a key of its own whose value its holder alone knows, as in redis-py's `Lock`, so workers of earlier
# versions share them.
_ACQUIRE = """
for slot, key in ipairs(KEYS) do
  if redis.call('SET', key, ARGV[1], 'NX', 'PX', ARGV[2]) then return slot end
end
return 0
"""
RENEW = """
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
return redis.call('PEXPIRE', KEYS[1], ARGV[2])
"""
"""For the holder `ARGV[1]` of a lock: keep it for `ARGV[2]` more milliseconds, and answer 1; 0 when it was lost."""
# KEYS: slot, token. ARGV: holder. A slot that expired may be another's by now, and then it stays.
_RELEASE = """
if redis.call('GET', KEYS[1]) == ARGV[1] then redis.call('DEL', KEYS[1]) end
redis.call('DEL', KEYS[2])
"""


@dataclass(frozen=True, slots=True)
class WebhookSlot:
    """One of a key's slots, held until the time runs out for which it was last acquired or renewed."""

    name: str
    _redis: Redis
    _holder: str

    def renew(self) -> bool:
        """Keep the slot for another `LOCK_SECONDS`. False when it was lost: another drain may have it."""
        renew: Any = self._redis.register_script(RENEW)
        return bool(renew(keys=[self.name], args=[self._holder, LOCK_SECONDS * 1000]))

    def release(self, token: str) -> None:
        """Leave the slot to others, if it was not lost, and delete the `token`."""
        self._redis.register_script(_RELEASE)(keys=[self.name, token], args=[self._holder])


@contextmanager
def acquire_slot(redis: Redis, name: str, slots: int, *, token: str) -> Iterator[WebhookSlot | None]:
    """Hold one of a key's slots for the time of the block; the `name` has the key's `key_tag`.

    At its end the slot and the `token` that coalesces wake-ups are released in one step. Otherwise a drain that is
    woken in between would find no free slot, and its token would suppress wake-ups until it expires.

    Yields:
        None when all slots are taken; the token stays then, since it is another drain's.

    Raises:
        RedisError: when Redis is away. The slot and the token then expire by themselves.
    """
    slot = _acquire(redis, name, slots)
    try:
        yield slot
    finally:
        if slot is not None:
            slot.release(token)


def _acquire(redis: Redis, name: str, slots: int) -> WebhookSlot | None:
    acquire: Any = redis.register_script(_ACQUIRE)
    keys, holder = [f"hookline:drain:{name}:{number}" for number in range(slots)], secrets.token_hex(16)
    number = acquire(keys=keys, args=[holder, LOCK_SECONDS * 1000])
    return WebhookSlot(keys[number - 1], redis, holder) if number else None
