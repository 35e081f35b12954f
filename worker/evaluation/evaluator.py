"""drain_partition: read a partition's entries in order, match them, and commit all effects at once.

Reading and matching happen before the transaction; what depends on stored state happens inside it, behind the
compare-and-set of the offset. So evaluation is exactly-once although everything around it is at-least-once.
"""

from __future__ import annotations

from dataclasses import dataclass

from shared.domain.events.partitioning import Offset
from shared.messaging.streams import Entry, read_within
from shared.observability.logs import get_logger
from shared.storage.database.transactions import read_statement
from shared.storage.evaluation.offsets import read_offset
from worker.bootstrap import WorkerProcess
from worker.evaluation.batch import match_entries
from worker.evaluation.commit import OffsetConflict, commit_batch
from worker.evaluation.report import report_batch
from worker.evaluation.stored_state import StaleAutomation

log = get_logger("hookline.evaluate")

BATCH_BYTES = 8 << 20
"""A batch ends with the entry that passes this: five hundred of the largest events would be half a gigabyte."""


@dataclass(frozen=True, slots=True)
class Progress:
    """How many entries a batch committed, and where the partition stands now."""

    count: int
    offset: Offset


def evaluate_batch(
    runtime: WorkerProcess, partition: int, since: tuple[Offset, list[Entry] | None] | None = None
) -> Progress:
    """Evaluate the next entries of a partition and commit their effects.

    Args:
        runtime: the process's.
        partition: which one.
        since: where the partition stands, as its last batch told, and what was read after it, if it was; without it the
            database is asked. Only an offset that still holds can be committed to.

    Returns:
        What this call committed; nothing when there are no entries, or another worker was faster.
    """
    offset, entries = since or (_offset(runtime, partition), None)
    if entries is None:
        limit = runtime.settings.evaluate_batch
        entries = read_within(runtime.redis, partition, offset.entry_id, limit, BATCH_BYTES)
    if not entries:
        return Progress(0, offset)
    batch = match_entries(entries, runtime.automations.current())
    try:
        firings = commit_batch(runtime, partition, offset, batch)
    except OffsetConflict:
        log.info("evaluation.overtaken", partition=partition, offset=offset.entry_id)
        return Progress(0, _offset(runtime, partition))
    except StaleAutomation:
        runtime.automations.expire()
        return evaluate_batch(runtime, partition, since)
    runtime.catalog.remember(batch.registered)
    report_batch(runtime, batch, firings)
    runtime.firsthand.open(firings.enabled[one] for one in firings.webhooks)
    return Progress(batch.count, Offset(batch.last_id, offset.entries_read + batch.count))


def _offset(runtime: WorkerProcess, partition: int) -> Offset:
    with read_statement(runtime.engine) as connection:
        return read_offset(connection, partition)
