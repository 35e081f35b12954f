"""What a pending delivery waits for."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from shared.domain.delivery.waiting import WAIT_WORDS, Wait, WaitReason, wait_of

NOW = datetime(2026, 11, 23, 9, tzinfo=UTC)
SOON, LONG_AGO = NOW + timedelta(minutes=1), NOW - timedelta(days=1)
DUE: dict[str, Any] = {
    "claimed": False,
    "paused": False,
    "circuit_opened_at": None,
    "circuit_probe_at": None,
    "next_attempt_at": LONG_AGO,
    "next_slot_at": LONG_AGO,
    "now": NOW,
}


@pytest.mark.parametrize(
    ("given", "reason", "until"),
    [
        ({}, WaitReason.QUEUED, None),
        ({"next_slot_at": SOON}, WaitReason.RATE_LIMIT, SOON),
        ({"next_attempt_at": SOON, "next_slot_at": SOON}, WaitReason.NOT_DUE, SOON),
        ({"circuit_opened_at": LONG_AGO, "circuit_probe_at": SOON}, WaitReason.CIRCUIT_OPEN, SOON),
        ({"circuit_opened_at": LONG_AGO, "paused": True}, WaitReason.WEBHOOK_PAUSED, None),
        ({"claimed": True, "paused": True, "next_attempt_at": None}, WaitReason.ATTEMPT_UNDERWAY, None),
    ],
)
def test_the_reason_that_lasts_longest_is_told(given: Any, reason: WaitReason, until: datetime | None) -> None:
    assert wait_of(**DUE | given) == Wait(reason, until)


def test_each_reason_has_words() -> None:
    assert set(WAIT_WORDS) == set(WaitReason)
