"""Evaluating a batch: read a partition's entries in order, match them, and commit all effects at once.

Reading and matching happen before the transaction; what depends on stored state happens inside it, behind the
compare-and-set of the offset. So evaluation is exactly-once although everything around it is at-least-once.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol

from redis import Redis
from sqlalchemy import Engine

from shared.domain.events.partitioning import Offset
from shared.messaging.streams import StreamRead, read_within
from shared.observability.logs import get_logger
from shared.storage.database.transactions import read_statement
from shared.storage.delivery.webhook_snapshots import WebhookSnapshot
from shared.storage.evaluation.offsets import read_offset
from worker.evaluation.automation_cache import AutomationCache
from worker.evaluation.batch import match_entries
from worker.evaluation.commit import BatchCommitter, NotCommitted
from worker.evaluation.report import BatchReporter
from worker.evaluation.stored_state import StaleAutomation

log = get_logger("hookline.evaluate")

BATCH_BYTES = 8 << 20
"""A batch ends with the entry that passes this. Five hundred of the largest events would be half a gigabyte; at half of
this, batches of ordinary events would still end by their count."""
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
        endpoints: EndpointWarmer,
        batch_entries: int,
    ) -> None:
        self._redis = redis
        self._engine = engine
        self._automations = automations
        self._committer = committer
        self._reporter = reporter
        self._endpoints = endpoints
        self._batch_entries = batch_entries

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

        Every edit that was answered before one of them was added is taken in first.

        Raises:
            SQLAlchemyError: when the database is away or does not take it.
            RedisError, BrokerUnavailable: when the batch is committed and nobody could be woken for it.
            StaleAutomation: when stored state stays ahead of the automations however often they are read.
        """
        if not read.entries:
            return Progress(0, offset)
        for _ in range(MAX_STALE_ROUNDS):
            batch = match_entries(read.entries, self._automations.current(read.revision))
            committed = self._committer.commit(partition, offset, batch)
            if committed is NotCommitted.STALE_AUTOMATION:
                self._automations.invalidate()
                continue
            if isinstance(committed, NotCommitted):
                log.info("evaluation.overtaken", partition=partition, offset=offset.entry_id)
                return Progress(0, self._stored_offset(partition))
            self._reporter.report(batch, committed)
            self._endpoints.warm_up(committed.to_wake.values())
            return Progress(batch.count, Offset(batch.last_id, offset.entries_read + batch.count))
        raise StaleAutomation(f"partition {partition}: stored state is of newer automations than can be read")

    def _stored_offset(self, partition: int) -> Offset:
        with read_statement(self._engine) as connection:
            return read_offset(connection, partition)
