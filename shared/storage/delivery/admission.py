"""Admission: how much may be sent to a webhook now, by its circuit, its rate limit and its concurrency.

The limits hold over all workers, since their state is in the webhook's row, and each claim under a limit locks the row.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, func, select, update

from shared.domain.delivery.circuits import Circuit, CircuitState
from shared.domain.delivery.rate_limit import free_slots, slot_after
from shared.domain.delivery.retries import DeliveryPolicy
from shared.storage.delivery.circuits import CIRCUIT_COLUMNS, circuit_of
from shared.storage.schema.tables import pending_deliveries, webhooks


@dataclass(frozen=True, slots=True)
class Admission:
    """The deliveries that may be claimed now."""

    limit: int
    """The most deliveries."""
    at: datetime
    """The time by which that was decided, after the wait for other claims; leases begin at it."""
    slots: tuple[datetime, ...] | None = None
    """The times at which they may be sent; None without a rate limit."""
    probing: bool = False
    """Whether the circuit is half open, so that this claim is its probe."""


def needs_admission(policy: DeliveryPolicy, circuit: Circuit) -> bool:
    """Whether claims must ask `admit`; a webhook without limits and with a closed circuit needs no lock."""
    return policy.rate_limit is not None or policy.concurrency is not None or circuit.opened_at is not None


def admit(
    connection: Connection, webhook_id: int, policy: DeliveryPolicy, *, wanted: int, clock: Callable[[], datetime]
) -> Admission:
    """Decide how many of `wanted` deliveries may be claimed, and lock the webhook's row until the transaction ends.

    Call `record_admitted` with what was claimed before the transaction ends.

    Locks (docs/decisions/0012, "claim under a limit or an open circuit"): webhooks (its row); the claim that follows
    takes pending_deliveries, SKIP LOCKED.
    """
    row = connection.execute(
        # FOR NO KEY UPDATE: inserts of rows that refer to the webhook are not held up.
        select(*CIRCUIT_COLUMNS, webhooks.c.next_slot_at)
        .where(webhooks.c.id == webhook_id)
        .with_for_update(key_share=True)
    ).one_or_none()
    now = clock()  # after the wait for the lock, which may have been long: slots and leases are judged by it
    if row is None:
        return Admission(0, now)
    state = circuit_of(row).state(now)
    if state is CircuitState.OPEN:
        return Admission(0, now)
    probing = state is CircuitState.HALF_OPEN
    limit = min(wanted, 1) if probing else wanted
    if policy.concurrency is not None:
        limit = max(0, min(limit, policy.concurrency - _in_flight(connection, webhook_id, policy.concurrency, now)))
    if policy.rate_limit is None:
        return Admission(limit, now, None, probing)
    slots = free_slots(policy.rate_limit, row.next_slot_at, now, wanted=limit)
    return Admission(len(slots), now, tuple(slots), probing)


def _in_flight(connection: Connection, webhook_id: int, concurrency: int, now: datetime) -> int:
    """How many of a webhook's deliveries are claimed under a lease that holds, counted up to `concurrency`."""
    claimed = (
        select(pending_deliveries.c.seq)
        .where(
            pending_deliveries.c.webhook_id == webhook_id,
            pending_deliveries.c.next_attempt_at > now,
            pending_deliveries.c.claim.is_not(None),
        )
        .limit(concurrency)
    )
    return int(connection.execute(select(func.count()).select_from(claimed.subquery())).scalar_one())


def record_admitted(
    connection: Connection,
    webhook_id: int,
    policy: DeliveryPolicy,
    admission: Admission,
    *,
    claimed: int,
    lease_until: datetime,
) -> None:
    """Store that slots were used, and that no other probe may be sent before the lease of this one ends."""
    if claimed == 0:
        return
    changed: dict[str, Any] = {}
    if admission.slots is not None and policy.rate_limit is not None:
        changed["next_slot_at"] = slot_after(policy.rate_limit, admission.slots[claimed - 1])
    if admission.probing:
        changed["circuit_probe_at"] = lease_until
    if changed:
        connection.execute(update(webhooks).where(webhooks.c.id == webhook_id).values(changed))
