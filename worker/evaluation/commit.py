"""Committing the effects of a batch of entries: all at once, behind the compare-and-set of the partition's offset.

Mostly that is one statement: where no automation keeps anything of earlier events, and the webhooks are as this process
read them last. Otherwise it is a transaction, which reads what the firings depend on.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import Enum, auto
from typing import Protocol

from sqlalchemy import Engine

from shared.domain.events.partitioning import START, Offset
from shared.storage.database.clock import DatabaseClock
from shared.storage.database.transactions import write_statement, write_transaction
from shared.storage.delivery.notices import notify_dead_letters
from shared.storage.delivery.webhook_snapshots import WebhookSnapshot
from shared.storage.evaluation.new_deliveries import NewDelivery, insert_deliveries
from shared.storage.evaluation.offsets import advance_offset
from shared.storage.evaluation.optimistic_commit import Committed, commit_optimistically
from shared.storage.evaluation.poison import quarantine
from shared.storage.evaluation.windows import save_windows
from worker.delivery.reservation import Reservation
from worker.evaluation.batch import Batch
from worker.evaluation.catalog_discovery import CatalogDiscovery
from worker.evaluation.firing_plan import FiringPlan, plan_firings
from worker.evaluation.stored_state import MatchSet, StaleAutomation, StoredState, load_stored
from worker.evaluation.webhook_cache import WebhookCache


class FastPath(Protocol):
    """The door from evaluation to delivery: what sends new deliveries without a drain, where all is as usual.

    Between `reserve` and `submit` or `cancel`, one of which must follow, it holds slots.
    """

    def reserve(self, deliveries: Sequence[NewDelivery], webhooks: Mapping[int, WebhookSnapshot]) -> Reservation:
        """Set slots aside for those of these deliveries that it would send."""

    def cancel(self, reservation: Reservation) -> None:
        """Nothing was stored."""

    def submit(
        self,
        reservation: Reservation,
        deliveries: Sequence[NewDelivery],
        stored: Mapping[str, int],
        entities: Mapping[int, str],
    ) -> None:
        """The deliveries are committed: send those that were stored as claimed."""


class NotCommitted(Enum):
    """Why nothing of a batch was committed, or may be kept."""

    #: Another worker committed these entries first.
    OFFSET_CONFLICT = auto()
    #: Another worker evaluated with a newer edition of an automation: look for edits, match again, commit again.
    STALE_AUTOMATION = auto()
    #: One statement cannot do it, or found something otherwise than expected: it takes a transaction.
    NEEDS_TRANSACTION = auto()


@dataclass(frozen=True, slots=True)
class CommittedBatch:
    """What was committed of a batch; what had to be sent at once is on its way."""

    plan: FiringPlan
    to_wake: Mapping[int, WebhookSnapshot]
    """The webhooks that have work for a drain, as they were read."""


CommitResult = CommittedBatch | NotCommitted


@dataclass(frozen=True, slots=True)
class _Work:
    """A batch on its way to the database."""

    partition: int
    since: Offset
    """Where the partition must stand."""
    batch: Batch
    matches: MatchSet
    now: datetime


class _OffsetConflict(Exception):
    """Rolls a transaction back whose offset is not where the batch begins."""


class BatchCommitter:
    """Commits batches, and sends what goes out on the fast path. Threads of several evaluations share it."""

    def __init__(
        self,
        *,
        engine: Engine,
        clock: DatabaseClock,
        webhooks: WebhookCache,
        catalog: CatalogDiscovery,
        fast_path: FastPath,
        traced: bool,
        console: str | None,
    ) -> None:
        self._engine = engine
        self._clock = clock
        self._webhooks = webhooks
        self._catalog = catalog
        self._fast_path = fast_path
        self._traced = traced
        self._console = console

    def commit(self, partition: int, since: Offset, batch: Batch) -> CommitResult:
        """Commit a batch's effects, all of them or none.

        Args:
            partition: whose entries they are.
            since: where the partition stands, as far as the caller knows.
            batch: the entries after `since`, matched.

        Returns:
            What was committed; or `OFFSET_CONFLICT` or `STALE_AUTOMATION`, and then nothing was.

        Raises:
            SQLAlchemyError: when the database is away or does not take it. Nothing is sent then; whether it was
                committed, the offset tells.
        """
        work = _Work(partition, since, batch, MatchSet(batch.matches, batch.starts), self._clock.now())
        result = self._commit_optimistically(work)
        if result is NotCommitted.NEEDS_TRANSACTION:
            result = self._commit_in_transaction(work)
        return result

    def _commit_optimistically(self, work: _Work) -> CommitResult:
        """Commit by one statement what fires if all is as this process knows it."""
        webhooks = self._known_webhooks(work)
        if webhooks is None:
            return NotCommitted.NEEDS_TRANSACTION
        plan = plan_firings(work.matches, StoredState(webhooks), work.now, traced=self._traced, console=self._console)
        if plan.refused:  # their owners are told, in the same transaction
            return NotCommitted.NEEDS_TRANSACTION
        reservation = self._fast_path.reserve(plan.deliveries, webhooks)
        done: Committed | None = None
        try:
            with write_statement(self._engine) as connection:
                done = commit_optimistically(
                    connection,
                    work.partition,
                    plan.deliveries,
                    webhooks.values(),
                    reservation.claims,
                    since=work.since,
                    entry_id=work.batch.last_id,
                    count=work.batch.count,
                    now=work.now,
                )
        finally:
            if done is None or not (done.preconditions_held and done.offset_advanced):
                self._fast_path.cancel(reservation)
        if not done.preconditions_held:
            return NotCommitted.NEEDS_TRANSACTION
        if not done.offset_advanced:
            return NotCommitted.OFFSET_CONFLICT
        return self._submit(reservation, plan, done.claimed, webhooks)

    def _known_webhooks(self, work: _Work) -> Mapping[int, WebhookSnapshot] | None:
        """The webhooks of a batch that depends on nothing else that is stored; None where it does or may."""
        if work.since.entry_id == START or work.batch.poison:
            return None
        if work.matches.keys or work.matches.starts or not self._catalog.knows(work.batch.names):
            return None
        return self._webhooks.get(work.matches.webhooks)

    def _commit_in_transaction(self, work: _Work) -> CommitResult:
        """Read what is stored behind the partition's offset, and commit what fires by that."""
        reservation: Reservation | None = None
        batch, now = work.batch, work.now
        try:
            with write_transaction(self._engine) as connection:
                advanced = advance_offset(
                    connection, work.partition, since=work.since, entry_id=batch.last_id, count=batch.count, now=now
                )
                if not advanced:
                    raise _OffsetConflict
                quarantine(connection, work.partition, batch.poison, now)
                stored = load_stored(connection, work.matches, now)
                plan = plan_firings(work.matches, stored, now, traced=self._traced, console=self._console)
                save_windows(connection, plan.windows)
                reservation = self._fast_path.reserve(plan.deliveries, stored.webhooks)
                claimed = insert_deliveries(connection, plan.deliveries, reservation.claims)
                notify_dead_letters(connection, plan.refused, now)
                registered = self._catalog.register(connection, batch.names, now)
        except _OffsetConflict:
            return NotCommitted.OFFSET_CONFLICT
        except StaleAutomation:
            return NotCommitted.STALE_AUTOMATION
        except BaseException:
            if reservation is not None:
                self._fast_path.cancel(reservation)
            raise
        # Only what is committed is known: a name or a webhook of a transaction that was rolled back is not stored.
        self._webhooks.store(stored.webhooks)
        committed = self._submit(reservation, plan, claimed, stored.webhooks)
        self._catalog.remember(registered)
        return committed

    def _submit(
        self,
        reservation: Reservation,
        plan: FiringPlan,
        claimed: Mapping[str, int],
        webhooks: Mapping[int, WebhookSnapshot],
    ) -> CommittedBatch:
        """Send what was committed as claimed; nobody else has to be woken for it."""
        self._fast_path.submit(reservation, plan.deliveries, claimed, plan.entities)
        to_wake = plan.webhooks - reservation.needs_no_drain
        return CommittedBatch(plan, {one: webhooks[one] for one in to_wake})
