"""Evaluating a batch: read a partition's entries in order, match them, and commit all effects at once.

Reading and matching happen before the transaction; what depends on stored state happens inside it, behind the
compare-and-set of the offset. So evaluation is exactly-once although everything around it is at-least-once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

from redis import Redis
from sqlalchemy import Engine

from shared.domain.events.partitioning import Offset
from shared.messaging.streams import Entry, StreamRead, read_within
from shared.observability.logs import get_logger
from shared.storage.database.transactions import read_statement
from shared.storage.delivery.webhook_snapshots import WebhookSnapshot
from shared.storage.evaluation.offsets import read_offset
from shared.storage.evaluation.poison import PoisonEntry
from worker.evaluation.automation_cache import AutomationCache
from worker.evaluation.batch import LARGE_EVENT_BYTES, Batch, match_entries
from worker.evaluation.commit import BatchCommitter, NotCommitted
from worker.evaluation.ignored_samples import IgnoredSampleReporter
from worker.evaluation.memory_gate import MemoryGate
from worker.evaluation.report import BatchReporter
from worker.evaluation.run_watches import RunWatches
from worker.evaluation.stored_state import StaleAutomation
from worker.evaluation.unmatched import UnmatchedReporter
from worker.evaluation.work_shares import WorkShares

log = get_logger("hookline.evaluate")

BATCH_BYTES = 1 << 20
"""A batch ends with the entry that passes this. At a quarter of this, batches of ordinary events would still end by
their count; at eight times as much, sixteen partitions of large events would be 128 MiB before they are decoded."""
ENTRIES_BYTES = 2 << 20
"""The most bytes of entries that a process decodes and commits at the same time: some six batches of ordinary events,
and 50 MiB of Python objects at worst."""
EFFECTS_BYTES = 6 << 20
"""The most bytes of payloads and windows that it commits at the same time; each is held about four times meanwhile."""
MAX_STALE_ROUNDS = 5
"""How often in a row a batch is matched anew because an automation was edited meanwhile.

One round takes in every edit that is committed, so a second takes edits within milliseconds. More than a few in a row
means that what is stored is ahead of every edit that can be read, as after a partial restore.
"""


class EndpointWarmer(Protocol):
    """What opens the endpoints of webhooks ahead of their next delivery."""

    def warm_up(self, snapshots: Iterable[WebhookSnapshot]) -> None:
        """Open those of these webhooks' endpoints that are not open."""


@dataclass(frozen=True, slots=True)
class Progress:
    """How many entries a batch committed, and where the partition stands now."""

    count: int
    """0 where there are no entries, or another worker was faster."""
    offset: Offset


class BatchEvaluator:
    """Evaluates batches of partitions. Threads share it: what it keeps is in the caches, which say how they are shared.

    There are three ways in, by what the caller knows. Only an offset that still holds can be committed to, so one that
    is old costs a round and does no harm.
    """

    def __init__(
        self,
        *,
        redis: Redis,
        engine: Engine,
        automations: AutomationCache,
        committer: BatchCommitter,
        reporter: BatchReporter,
        unmatched: UnmatchedReporter,
        ignored: IgnoredSampleReporter,
        watches: RunWatches,
        endpoints: EndpointWarmer,
        batch_entries: int,
    ) -> None:
        self._redis = redis
        self._engine = engine
        self._automations = automations
        self._committer = committer
        self._reporter = reporter
        self._unmatched = unmatched
        self._ignored = ignored
        self._watches = watches
        self._endpoints = endpoints
        self._batch_entries = batch_entries
        self._shares = WorkShares()
        # A thread that holds a share of the second gate waits for nothing of the first, so none waits in a circle.
        self._entries_gate = MemoryGate(ENTRIES_BYTES)
        self._effects_gate = MemoryGate(EFFECTS_BYTES)

    def evaluate_next(self, partition: int) -> Progress:
        """Evaluate what comes after the partition's stored offset. Raises as `evaluate_entries`."""
        return self.evaluate_after(partition, self._stored_offset(partition))

    def evaluate_after(self, partition: int, offset: Offset) -> Progress:
        """Evaluate what comes after an offset, at which the partition is believed to stand.

        Raises as `evaluate_entries`, and RedisError when the stream cannot be read.
        """
        read = read_within(self._redis, partition, offset.entry_id, self._batch_entries, BATCH_BYTES)
        return self.evaluate_entries(partition, offset, read)

    def evaluate_entries(self, partition: int, offset: Offset, read: StreamRead) -> Progress:
        """Evaluate entries that were read after an offset, and commit their effects.

        Not all of them may be: a batch ends where its events may take much memory or time.
        Every edit that was answered before one of them was added is taken in first.

        Raises:
            SQLAlchemyError: when the database is away or does not take it.
            RedisError, BrokerUnavailable: when the batch is committed and nobody could be woken for it.
            StaleAutomation: when stored state stays ahead of the automations however often they are read.
        """
        if not read.entries:
            return Progress(0, offset)
        return self._evaluate(partition, offset, read, alone=False)

    def evaluate_alone(
        self, partition: int, offset: Offset, read: StreamRead, *, begin: Callable[[], None]
    ) -> Progress:
        """Evaluate the first of these entries, with nothing beside it in this process. Raises as `evaluate_entries`.

        Args:
            partition: whose entry it is.
            offset: after which it comes.
            read: the entry.
            begin: called when its turn has come.
        """
        return self._evaluate(partition, offset, read, alone=True, begin=begin)

    def set_aside(self, partition: int, offset: Offset, entry: Entry, reason: str) -> Progress:
        """Store an entry as poison without evaluating it. Raises as `evaluate_entries`."""
        log.error("evaluation.set_aside", partition=partition, entry_id=entry.id, reason=reason)
        body = entry.body or b""
        batch = Batch(entry.id, 1, poison=[PoisonEntry(entry.id, reason, body, kept_bytes=len(body))])
        committed = self._committer.commit(partition, offset, batch)
        if isinstance(committed, NotCommitted):
            return Progress(0, self._stored_offset(partition))
        self._reporter.report(batch, committed)
        return Progress(1, Offset(entry.id, offset.entries_read + 1))

    def read_next(self, partition: int) -> tuple[Offset, StreamRead]:
        """The partition's stored offset, and the entry that comes after it, if there is one.

        Raises:
            SQLAlchemyError, RedisError: when the database or the stream cannot be read.
        """
        offset = self._stored_offset(partition)
        return offset, read_within(self._redis, partition, offset.entry_id, 1, BATCH_BYTES)

    def load_automations(self) -> None:
        """Take in edits, if it is time to. Raises SQLAlchemyError."""
        self._automations.current()

    def _evaluate(
        self,
        partition: int,
        offset: Offset,
        read: StreamRead,
        *,
        alone: bool,
        begin: Callable[[], None] = lambda: None,
    ) -> Progress:
        entries, entries_bytes = _taken_together(read.entries)
        for _ in range(MAX_STALE_ROUNDS):
            index = self._automations.current(read.revision)
            committed = None
            with self._entries_gate.share(ENTRIES_BYTES if alone else entries_bytes):
                begin()
                self._watches.refresh()
                batch = match_entries(entries, index, self._shares, alone=alone, watching=self._watches.active)
                if batch.count:
                    self._watches.record(partition, batch)
                    with self._effects_gate.share(batch.effect_bytes):
                        committed = self._committer.commit(partition, offset, batch)
            if committed is None:
                alone = True
            elif committed is NotCommitted.STALE_AUTOMATION:
                self._automations.invalidate()
            elif isinstance(committed, NotCommitted):
                log.info("evaluation.overtaken", partition=partition, offset=offset.entry_id)
                return Progress(0, self._stored_offset(partition))
            else:
                self._reporter.report(batch, committed)
                self._unmatched.too_costly(batch.too_costly)
                self._unmatched.tell()
                if committed.plan.ignored:
                    self._ignored.tell(committed.plan.ignored)
                self._endpoints.warm_up(committed.to_wake.values())
                return Progress(batch.count, Offset(batch.last_id, offset.entries_read + batch.count))
        raise StaleAutomation(f"partition {partition}: stored state is of newer automations than can be read")

    def _stored_offset(self, partition: int) -> Offset:
        with read_statement(self._engine) as connection:
            return read_offset(connection, partition)


def _taken_together(entries: Sequence[Entry]) -> tuple[Sequence[Entry], int]:
    """The first entries, up to a large one, and their bytes. A large entry is taken alone."""
    lengths = [len(entry.body or b"") for entry in entries]
    if max(lengths) <= LARGE_EVENT_BYTES:
        return entries, sum(lengths)
    if lengths[0] > LARGE_EVENT_BYTES:
        return entries[:1], ENTRIES_BYTES
    count = next(number for number, length in enumerate(lengths) if length > LARGE_EVENT_BYTES)
    return entries[:count], sum(lengths[:count])
