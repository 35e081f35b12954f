"""Why a pending delivery was not sent yet, by its row and its webhook's, so that every screen says the same."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from enum import StrEnum
from typing import NamedTuple


class WaitReason(StrEnum):
    """Why a pending delivery was not sent yet."""

    #: An attempt is underway.
    ATTEMPT_UNDERWAY = "attempt_underway"
    WEBHOOK_PAUSED = "webhook_paused"
    #: The endpoint failed several times in a row.
    CIRCUIT_OPEN = "circuit_open"
    #: The last attempt failed, and the next one is not due yet; or it is spread by the rate of a replay.
    NOT_DUE = "not_due"
    RATE_LIMIT = "rate_limit"
    #: Nothing keeps it: a worker takes it next.
    QUEUED = "queued"


WAIT_WORDS: Mapping[WaitReason, str] = {
    WaitReason.ATTEMPT_UNDERWAY: "an attempt is underway",
    WaitReason.WEBHOOK_PAUSED: "its webhook is paused",
    WaitReason.CIRCUIT_OPEN: "its webhook's circuit is open",
    WaitReason.NOT_DUE: "the next attempt is not due yet",
    WaitReason.RATE_LIMIT: "its webhook's rate limit",
    WaitReason.QUEUED: "nothing: a worker takes it next",
}
"""What it waits for, in words that follow `waits for:`."""


class Wait(NamedTuple):
    """What a pending delivery waits for."""

    reason: WaitReason
    until: datetime | None
    """When it ends by itself; None if that is not known, as with a paused webhook."""


def wait_of(
    *,
    claimed: bool,
    paused: bool,
    circuit_opened_at: datetime | None,
    circuit_probe_at: datetime | None,
    next_attempt_at: datetime | None,
    next_slot_at: datetime | None,
    now: datetime,
) -> Wait:
    """What a pending delivery waits for; of several reasons the one that lasts longest.

    Args:
        claimed: whether a worker has it.
        paused: whether its webhook is paused.
        circuit_opened_at: since when the webhook's circuit is open, if it is.
        circuit_probe_at: when the open circuit lets a request through.
        next_attempt_at: when the delivery is due.
        next_slot_at: when the webhook's rate limit lets the next request out.
        now: the time.
    """
    if claimed:
        return Wait(WaitReason.ATTEMPT_UNDERWAY, None)
    if paused:
        return Wait(WaitReason.WEBHOOK_PAUSED, None)
    if circuit_opened_at is not None:
        return Wait(WaitReason.CIRCUIT_OPEN, circuit_probe_at)
    if next_attempt_at is not None and next_attempt_at > now:
        return Wait(WaitReason.NOT_DUE, next_attempt_at)
    if next_slot_at is not None and next_slot_at > now:
        return Wait(WaitReason.RATE_LIMIT, next_slot_at)
    return Wait(WaitReason.QUEUED, None)
