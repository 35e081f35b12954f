"""How much may be sent to a webhook now, and what answers change about it: circuit, rate limit, concurrency, lane.

The limits hold over all workers, since they are kept in the webhook's row and claims that they concern take its lock.
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
    """How many deliveries may be claimed now; with a rate limit, the times at which they may be sent."""

    limit: int
    at: datetime
    """The time of "now": after the wait for others that claim."""
    slots: tuple[datetime, ...] | None = None
    probing: bool = False


def needs_admission(policy: DeliveryPolicy, circuit: Circuit) -> bool:
    """Whether claims must ask `admit`: all others need no lock."""
    return policy.rate_limit is not None or policy.concurrency is not None or circuit.opened_at is not None


def admit(
    connection: Connection, webhook_id: int, policy: DeliveryPolicy, *, wanted: int, clock: Callable[[], datetime]
) -> Admission:
    """What may be claimed of `wanted`. The webhook's row stays locked until the transaction ends.

    The clock is read once the row is locked: who waited for it long must not judge others' slots and leases by the time
    at which it began to wait. Call `note_claimed` with what was claimed before the transaction ends.
    """
    row = connection.execute(
        # Definitions refer to the row: a lock that keeps its key free does not hold their inserts up.
        select(*CIRCUIT_COLUMNS, webhooks.c.next_slot_at)
        .where(webhooks.c.id == webhook_id)
        .with_for_update(key_share=True)
    ).one_or_none()
    now = clock()
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
    """How many of a webhook's deliveries are claimed by living leases, counted no further than matters."""
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


def note_claimed(
    connection: Connection,
    webhook_id: int,
    policy: DeliveryPolicy,
    admission: Admission,
    *,
    claimed: int,
    lease_until: datetime,
) -> None:
    """Take the slots that were used; while a probe is underway nobody else sends one."""
    if claimed == 0:
        return
    changed: dict[str, Any] = {}
    if admission.slots is not None and policy.rate_limit is not None:
        changed["next_slot_at"] = slot_after(policy.rate_limit, admission.slots[claimed - 1])
    if admission.probing:
        changed["circuit_probe_at"] = lease_until
    if changed:
        connection.execute(update(webhooks).where(webhooks.c.id == webhook_id).values(changed))
