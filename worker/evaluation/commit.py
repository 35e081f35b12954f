"""Committing the effects of a batch of entries: all at once, behind the compare-and-set of the partition's offset.

Mostly that is one statement: where no automation keeps anything of earlier events, and the webhooks are as this process
read them last. Otherwise it is a transaction, which reads what the firings depend on.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import TYPE_CHECKING

from sqlalchemy import Connection

from shared.domain.events.partitioning import START, Offset
from shared.storage.database.transactions import write_statement, write_transaction
from shared.storage.delivery.notices import notify_dead_letters
from shared.storage.evaluation.new_deliveries import insert_deliveries
from shared.storage.evaluation.offsets import advance_offset
from shared.storage.evaluation.optimistic_commit import Committed, commit_optimistically
from shared.storage.evaluation.poison import quarantine
from worker.delivery.fast_path import Reservation
from worker.evaluation.batch import Batch
from worker.evaluation.firing_plan import FiringPlan
from worker.evaluation.stored_state import MatchSet, StoredState, load_stored

if TYPE_CHECKING:
    from worker.bootstrap import WorkerProcess


class OffsetConflict(Exception):
    """Another worker committed these entries first: nothing of this batch may be kept."""


def commit_batch(runtime: WorkerProcess, partition: int, offset: Offset, batch: Batch) -> FiringPlan:
    """Commit a batch's effects, and send what goes out firsthand.

    Raises:
        Overtaken: when the partition is no longer at `offset`.
        Outdated: when an automation was edited since the batch was matched.
    """
    now, matches = runtime.clock.now(), MatchSet(batch.matches)
    firings = _commit_optimistically(runtime, partition, offset, batch, matches, now)
    return firings or _commit_in_transaction(runtime, partition, offset, batch, matches, now)


def _commit_optimistically(
    runtime: WorkerProcess, partition: int, offset: Offset, batch: Batch, matches: MatchSet, now: datetime
) -> FiringPlan | None:
    """None where it takes a transaction: nothing was done then."""
    if offset.entry_id == START or batch.poison:
        return None
    if matches.keys or not runtime.catalog.knows(batch.names):
        return None
    webhooks = runtime.webhooks.get(matches.webhooks)
    if webhooks is None:
        return None
    firings = FiringPlan(matches, StoredState(webhooks), now, traced=runtime.tracing is not None)
    firings.consider_all()
    if any(row["status"] == "refused" for row in firings.deliveries):
        return None
    hand = runtime.firsthand.take(firings.deliveries, webhooks)
    done: Committed | None = None
    try:
        with write_statement(runtime.engine) as connection:
            done = commit_optimistically(
                connection,
                partition,
                firings.deliveries,
                webhooks.values(),
                hand.claim,
                since=offset,
                entry_id=batch.last_id,
                count=batch.count,
                now=now,
            )
    finally:
        if done is None or not (done.preconditions_held and done.offset_advanced):
            runtime.firsthand.drop(hand)
    if not done.preconditions_held:
        return None
    if not done.offset_advanced:
        raise OffsetConflict
    _launch(runtime, hand, firings, done.claimed)
    return firings


def _commit_in_transaction(
    runtime: WorkerProcess, partition: int, offset: Offset, batch: Batch, matches: MatchSet, now: datetime
) -> FiringPlan:
    hand = None
    try:
        with write_transaction(runtime.engine) as connection:
            moved = advance_offset(
                connection, partition, since=offset, entry_id=batch.last_id, count=batch.count, now=now
            )
            if not moved:
                raise OffsetConflict
            quarantine(connection, partition, batch.poison, now)
            stored = load_stored(connection, matches, now)
            firings = FiringPlan(matches, stored, now, traced=runtime.tracing is not None)
            firings.consider_all()
            firings.save(connection)
            hand = runtime.firsthand.take(firings.deliveries, stored.webhooks)
            claimed = insert_deliveries(connection, firings.deliveries, hand.claim)
            _note_refused(connection, firings, now)
            batch.registered = runtime.catalog.register(connection, batch.names, now)
    except BaseException:
        if hand is not None:
            runtime.firsthand.drop(hand)
        raise
    runtime.webhooks.remember(stored.webhooks)
    _launch(runtime, hand, firings, claimed)
    return firings


def _launch(runtime: WorkerProcess, hand: Reservation, firings: FiringPlan, claimed: Mapping[str, int]) -> None:
    """Send what was committed as claimed; nobody else has to be woken for it."""
    runtime.firsthand.launch(hand, firings.deliveries, claimed, firings.entities)
    firings.webhooks.difference_update(hand.lines, hand.waiting)


def _note_refused(connection: Connection, firings: FiringPlan, now: datetime) -> None:
    refused = [row["id"] for row in firings.deliveries if row["status"] == "refused"]
    notify_dead_letters(connection, refused, now)
