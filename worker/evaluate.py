"""drain_partition: read a partition's entries in order, match them, and commit all effects at once.

Reading and matching happen before the transaction; what depends on stored state happens inside it, behind the
compare-and-set of the offset. So evaluation is exactly-once although everything around it is at-least-once.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

from shared import telemetry
from shared.domain.errors import InvalidDefinition
from shared.domain.matching import AutomationIndex
from shared.domain.quick_events import read_event
from shared.logs import get_logger
from shared.storage.engine import glance
from shared.storage.evaluation import (
    PoisonEntry,
    read_offset,
)
from shared.streams import Entry, Offset, mark, read_marked, read_within
from shared.wakes import PARTITION_TASK, token_key
from worker.catalog import names_of
from worker.effects import Batch, Overtaken, commit
from worker.firings import FiringBatch, Outdated
from worker.locks import one_of, renew
from worker.runtime import Runtime
from worker.traces import exemplify_evaluations, trace_firings

log = get_logger(__name__)

BATCH_BYTES = 8 << 20
"""A batch ends with the entry that passes this: five hundred of the largest events would be half a gigabyte."""


def drain_partition(runtime: Runtime, partition: int) -> int:
    """Evaluate a partition until nothing is left or the time slice is over; then make room for other drains.

    Returns:
        The number of entries evaluated.
    """
    deadline = time.monotonic() + runtime.settings.drain_slice.total_seconds()
    evaluated = 0
    offset: Offset | None = None
    while True:
        # Until its place is given back news wakes nobody, since this drain would read it.
        token = token_key(PARTITION_TASK, partition)
        with one_of(runtime.redis, f"partition:{partition}", 1, token=token) as lock:
            if lock is None:
                return evaluated
            while time.monotonic() < deadline:
                progress = evaluate_batch(runtime, partition, offset)
                offset = progress.offset
                evaluated += progress.count
                if progress.count < runtime.settings.evaluate_batch:
                    break
                if not renew(lock):
                    return evaluated
        if offset is None or not mark(runtime.redis, partition, offset):
            return evaluated
        if time.monotonic() >= deadline:
            runtime.waker.partitions([partition])
            return evaluated


@dataclass(frozen=True, slots=True)
class Progress:
    """How many entries a batch committed, and where the partition stands now."""

    count: int
    offset: Offset


def evaluate_batch(runtime: Runtime, partition: int, since: Offset | None = None) -> Progress:
    """Evaluate the next entries of a partition and commit their effects.

    Args:
        runtime: the process's.
        partition: which one.
        since: where the partition stands, as its last batch told; without it that is looked up. Only an offset that
            still holds can be committed to.

    Returns:
        What this call committed; nothing when there are no entries, or another worker was faster.
    """
    offset, entries = _next_entries(runtime, partition, since)
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
    return Progress(batch.count, Offset(batch.last_id, offset.entries_read + batch.count))


def _next_entries(runtime: Runtime, partition: int, since: Offset | None) -> tuple[Offset, list[Entry]]:
    """Where the partition stands and what is next; as the mark beside the stream has it, where there is more after it.

    A mark that is behind is found out when the batch is committed. One that is ahead would find nothing.
    """
    limit = runtime.settings.evaluate_batch
    if since is None:
        marked, entries = read_marked(runtime.redis, partition, limit, BATCH_BYTES)
        if marked is not None and entries:
            return marked, entries
        since = _offset(runtime, partition)
    return since, read_within(runtime.redis, partition, since.entry_id, limit, BATCH_BYTES)


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
    telemetry.events_evaluated(batch.types, [now - received_ms / 1000 for received_ms in batch.received_ms])
    telemetry.firings(firings.fired)
    for reason, count in firings.skipped.items():
        telemetry.SKIPPED.labels(reason=reason).inc(count)
    if firings.samples_ignored:
        telemetry.SAMPLES_IGNORED.inc(firings.samples_ignored)
    if runtime.tracing is not None:
        trace_firings(runtime.tracing, firings.traces)
        exemplify_evaluations(firings.traces)
    for entry in batch.poison:
        telemetry.POISON_ENTRIES.inc()
        log.warning("evaluation.poison", entry_id=entry.entry_id, reason=entry.reason)
