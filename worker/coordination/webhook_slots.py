"""Keeping drains of one key out of each other's way. Only a courtesy: what is right is decided in the database."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from redis import Redis
from redis.exceptions import LockError
from redis.lock import Lock

LOCK_SECONDS = 5
"""How long a drain that died keeps its key; one at work renews it at least every few seconds."""


_GIVE_UP = """
if redis.call('GET', KEYS[1]) == ARGV[1] then redis.call('DEL', KEYS[1]) end
redis.call('DEL', KEYS[2])
"""


@contextmanager
def acquire_slot(redis: Redis, name: str, places: int, *, token: str) -> Iterator[Lock | None]:
    """Take one of a key's places, or None when all are taken.

    With the place the `token` is given up that keeps other messages for the key away. Both at once: who is woken in
    between would find no place, and leave a token for which nobody comes.
    """
    taken = _acquire(redis, name, places)
    try:
        yield taken
    finally:
        if taken is not None:
            redis.register_script(_GIVE_UP)(keys=[taken.name, token], args=[taken.local.token])


def renew(lock: Lock) -> bool:
    """Keep the place for another `LOCK_SECONDS`. False when it was lost: somebody else may be at work."""
    try:
        return bool(lock.reacquire())
    except LockError:
        return False


def _acquire(redis: Redis, name: str, places: int) -> Lock | None:
    for place in range(places):
        lock: Lock = redis.lock(
            f"hookline:drain:{name}:{place}", timeout=LOCK_SECONDS, blocking=False, thread_local=False
        )
        if lock.acquire():
            return lock
    return None
