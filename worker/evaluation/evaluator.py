"""drain_partition: read a partition's entries in order, match them, and commit all effects at once.

Reading and matching happen before the transaction; what depends on stored state happens inside it, behind the
compare-and-set of the offset. So evaluation is exactly-once although everything around it is at-least-once.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from shared.domain.errors import InvalidDefinition
from shared.domain.events.fast_decoding import read_event
from shared.domain.matching.index import AutomationIndex
from shared.messaging.streams import Entry, Offset, read_within
from shared.observability import metrics
from shared.observability.logs import get_logger
from shared.storage.database.engine import glance
from shared.storage.evaluation.new_deliveries import (
    PoisonEntry,
    read_offset,
)
from worker.bootstrap import Runtime
from worker.coordination.partition_lease import Turn, take_turn
from worker.delivery.spans import exemplify_evaluations, trace_firings
from worker.evaluation.catalog_discovery import names_of
from worker.evaluation.commit import Batch, Overtaken, commit
from worker.evaluation.firing_plan import FiringBatch, Outdated

log = get_logger("hookline.evaluate")

BATCH_BYTES = 8 << 20
"""A batch ends with the entry that passes this: five hundred of the largest events would be half a gigabyte."""


def drain_partition(runtime: Runtime, partition: int) -> int:
    """Evaluate a partition until nothing is left or the time slice is over; then make room for other drains.

    Returns:
        The number of entries evaluated.
    """
    deadline = time.monotonic() + runtime.settings.drain_slice.total_seconds()
    evaluated = 0
    while (turn := take_turn(runtime.redis, partition, runtime.settings.evaluate_batch, BATCH_BYTES)) is not None:
        offset: Offset | None = None
        more = False
        try:
            for progress in _batches(runtime, turn, deadline):
                offset = progress.offset
                evaluated += progress.count
        finally:
            more = turn.end(offset)
        if not more:
            break
        if time.monotonic() >= deadline:
            runtime.waker.partitions([partition])
            break
    return evaluated


def _batches(runtime: Runtime, turn: Turn, deadline: float) -> Iterator[Progress]:
    """Evaluate batch after batch, for as long as the turn and the time slice last."""
    # What the turn read is good if it is something: a mark that is behind is found out when the batch is committed.
    # One that is ahead would find nothing.
    ready = (turn.marked, turn.entries) if turn.marked is not None and turn.entries else None
    progress = evaluate_batch(runtime, turn.partition, ready)
    yield progress
    while progress.count >= runtime.settings.evaluate_batch and time.monotonic() < deadline and turn.renew():
        progress = evaluate_batch(runtime, turn.partition, (progress.offset, None))
        yield progress


@dataclass(frozen=True, slots=True)
class Progress:
    """How many entries a batch committed, and where the partition stands now."""

    count: int
    offset: Offset


def evaluate_batch(
    runtime: Runtime, partition: int, since: tuple[Offset, list[Entry] | None] | None = None
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
        firings = commit(runtime, partition, offset, batch)
    except Overtaken:
        log.info("evaluation.overtaken", partition=partition, offset=offset.entry_id)
        return Progress(0, _offset(runtime, partition))
    except Outdated:
        runtime.automations.expire()
        return evaluate_batch(runtime, partition, since)
    runtime.catalog.remember(batch.registered)
    _announce(runtime, batch, firings)
    runtime.firsthand.open(firings.enabled[one] for one in firings.webhooks)
    return Progress(batch.count, Offset(batch.last_id, offset.entries_read + batch.count))


def _offset(runtime: Runtime, partition: int) -> Offset:
    with glance(runtime.engine) as connection:
        return read_offset(connection, partition)


def match_entries(entries: Sequence[Entry], index: AutomationIndex) -> Batch:
    """Decode entries and find the automations whose scope and filter hold; what is no event is set aside."""
    batch = Batch(last_id=entries[-1].id, count=len(entries))
    types: list[str] = []
    received, names, matches, matching = batch.received_ms, batch.names, batch.matches, index.matching
    for entry in entries:
        try:
            event = read_event(entry.body if entry.body is not None else b"")
        except InvalidDefinition as exc:
            batch.poison.append(PoisonEntry(entry.id, str(exc), entry.body or b""))
            continue
        types.append(str.__str__(event.type))
        received.append(entry.received_ms)
        if learned := names_of(event):
            names.add(learned)
        for automation in matching(event):
            matches.append((entry, event, automation))
    batch.types.update(types)
    return batch


def _announce(runtime: Runtime, batch: Batch, firings: FiringBatch) -> None:
    """Metrics, logs and wake-ups: only after the commit, so that nothing is told that did not happen."""
    runtime.waker.webhooks(firings.webhooks, slow={one for one in firings.webhooks if firings.enabled[one].slow})
    now = time.time()
    metrics.events_evaluated(batch.types, [now - received_ms / 1000 for received_ms in batch.received_ms])
    metrics.firings(firings.fired)
    for reason, count in firings.skipped.items():
        metrics.SKIPPED.labels(reason=reason).inc(count)
    if firings.samples_ignored:
        metrics.SAMPLES_IGNORED.inc(firings.samples_ignored)
    if runtime.tracing is not None:
        trace_firings(runtime.tracing, firings.traces)
        exemplify_evaluations(firings.traces)
    for entry in batch.poison:
        metrics.POISON_ENTRIES.inc()
        log.warning("evaluation.poison", entry_id=entry.entry_id, reason=entry.reason)
