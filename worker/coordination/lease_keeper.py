"""Keeps a process's partition leases while its drains are at work, however long a batch takes them.

A drain renews its lease between batches. Within one it may wait for the database or its turn in memory for longer than
the lease lasts; another drain would then evaluate the same entries. Must not keep the lease of a drain that hangs.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from redis.exceptions import RedisError

from shared.observability.logs import get_logger
from worker.coordination.partition_lease import PartitionLease

LOOK_SECONDS = 1.5
"""How often leases are renewed: at least twice before they would expire."""
EXCUSED_SECONDS = 30.0
"""What is next in a partition is not to blame for the death of a process that was at it for so long: entries that kill
do it at once, so that one was waiting for something."""
HANGING_SECONDS = 120.0
"""A lease is not kept for longer than this after its drain's last batch."""

log = get_logger("hookline.evaluate")


@dataclass(slots=True)
class _Kept:
    lease: PartitionLease
    since: float
    """When it was acquired or its drain last moved on, by the monotonic clock."""
    excused: bool = False


class LeaseKeeper:
    """Renews what is at work in a thread of its own. Drains' threads share it.

    A renewal may cross a release: then it finds that the lease is no longer held, and changes nothing.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        """Guards the two below it."""
        self._kept: dict[int, _Kept] = {}
        self._thread: threading.Thread | None = None
        self._closed = threading.Event()

    @contextmanager
    def keeping(self, lease: PartitionLease) -> Iterator[None]:
        """Keep a lease for as long as the block lasts."""
        with self._lock:
            self._kept[lease.partition] = _Kept(lease, time.monotonic())
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="lease-keeper", daemon=True)
                self._thread.start()
        try:
            yield
        finally:
            with self._lock:
                self._kept.pop(lease.partition, None)

    def moved_on(self, partition: int) -> None:
        """The drain of a partition has finished a batch."""
        kept = self._kept.get(partition)
        if kept is not None:
            kept.since, kept.excused = time.monotonic(), False

    def close(self) -> None:
        """Stop renewing."""
        self._closed.set()
        if self._thread is not None:
            self._thread.join()

    def _run(self) -> None:
        while not self._closed.wait(LOOK_SECONDS):
            with self._lock:
                all_kept = list(self._kept.values())
            for kept in all_kept:
                self._keep(kept, time.monotonic() - kept.since)

    def _keep(self, kept: _Kept, seconds: float) -> None:
        if seconds < LOOK_SECONDS / 2 or seconds > HANGING_SECONDS:
            return
        try:
            if seconds > EXCUSED_SECONDS and not kept.excused:
                kept.lease.excuse()
                kept.excused = True
            kept.lease.renew()
        except RedisError as exc:
            log.warning("lease.not_renewed", partition=kept.lease.partition, error=type(exc).__name__)
