"""Keeping drains of one key out of each other's way. Only a courtesy: what is right is decided in the database."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from redis import Redis

LOCK_SECONDS = 5
"""How long a drain that died keeps its key; one at work renews it at least every few seconds."""

# The first free place, counted from 1, or 0: one step, however many are taken. Each place is a key of its
# own whose value its holder alone knows, as in redis-py's `Lock`, so workers of earlier versions share them.
_TAKE = """
for place, key in ipairs(KEYS) do
  if redis.call('SET', key, ARGV[1], 'NX', 'PX', ARGV[2]) then return place end
end
return 0
"""
RENEW = """
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
return redis.call('PEXPIRE', KEYS[1], ARGV[2])
"""
"""For the holder `ARGV[1]` of a lock: keep it for `ARGV[2]` more milliseconds, and answer 1; 0 when it was lost."""
_GIVE_UP = """
if redis.call('GET', KEYS[1]) == ARGV[1] then redis.call('DEL', KEYS[1]) end
redis.call('DEL', KEYS[2])
"""


@dataclass(frozen=True, slots=True)
class WebhookSlot:
    """One of a key's places, held until the time runs out for which it was last taken or renewed."""

    name: str
    _redis: Redis
    _holder: str

    def renew(self) -> bool:
        """Keep the place for another `LOCK_SECONDS`. False when it was lost: somebody else may be at work."""
        renew: Any = self._redis.register_script(RENEW)
        return bool(renew(keys=[self.name], args=[self._holder, LOCK_SECONDS * 1000]))

    def give_up(self, token: str) -> None:
        """Leave the place to others, if it was not lost, and delete the `token`."""
        self._redis.register_script(_GIVE_UP)(keys=[self.name, token], args=[self._holder])


@contextmanager
def acquire_slot(redis: Redis, name: str, places: int, *, token: str) -> Iterator[WebhookSlot | None]:
    """Take one of a key's places, or None when all are taken.

    With the place the `token` is given up that keeps other messages for the key away. Both at once: who is woken in
    between would find no place, and leave a token for which nobody comes.
    """
    taken = _take(redis, name, places)
    try:
        yield taken
    finally:
        if taken is not None:
            taken.give_up(token)


def _take(redis: Redis, name: str, places: int) -> WebhookSlot | None:
    take: Any = redis.register_script(_TAKE)
    keys, holder = [f"hookline:drain:{name}:{place}" for place in range(places)], secrets.token_hex(16)
    place = take(keys=keys, args=[holder, LOCK_SECONDS * 1000])
    return WebhookSlot(keys[place - 1], redis, holder) if place else None
