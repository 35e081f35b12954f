"""A webhook's circuit: after many failures in a row nothing is sent for a while, then one request at a time is tried.

    closed ── failures in a row reach the limit ──▶ open ── the cool-off is over ──▶ half open ── it answers ──▶ closed
                                                     ▲───────────── it fails: twice the cool-off ─────┘

What waits behind an open circuit uses up none of its retries. The pattern is Nygard's ("Release It!", Circuit Breaker).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum

from shared.domain.delivery.outcomes import Outcome, OutcomeKind
from shared.domain.delivery.retries import DeliveryPolicy

SLOW_SECONDS = 1.0
"""The duration from which on an answer is slow. A webhook half of whose answers are slow moves to the slow lane, where
its drains can't hold up others. With twice as much such a webhook would occupy drains for twice as long; with half as
much ordinary endpoints far away would be slow."""
_DEAD_KINDS = frozenset({OutcomeKind.SERVER_ERROR, OutcomeKind.TIMEOUT, OutcomeKind.NETWORK})
_SILENT_KINDS = frozenset({OutcomeKind.BLOCKED, OutcomeKind.INTERNAL})
_OVERLOADED = 429
_MAX_DOUBLINGS = 30
"""Keeps `2**doublings` a number that a float can be multiplied with; every cap is reached much earlier."""


class CircuitState(StrEnum):
    """Whether requests are sent."""

    #: All of them.
    CLOSED = "closed"
    #: None.
    OPEN = "open"
    #: One at a time, to see whether the endpoint answers again.
    HALF_OPEN = "half_open"


@dataclass(frozen=True, slots=True, kw_only=True)
class Circuit:
    """How an endpoint answered lately."""

    failures: int = 0
    """In a row, up to now."""
    openings: int = 0
    """How often it opened since the last answer; each doubles the cool-off."""
    opened_at: datetime | None = None
    probe_at: datetime | None = None
    """When the next single request may go out; while one is underway, the end of its lease."""

    def state(self, now: datetime) -> CircuitState:
        """Open until the cool-off is over, then half open until something answers."""
        if self.opened_at is None:
            return CircuitState.CLOSED
        return CircuitState.OPEN if self.probe_at is not None and self.probe_at > now else CircuitState.HALF_OPEN


@dataclass(frozen=True, slots=True)
class CircuitSignal:
    """The meaning of an attempt for the circuit."""

    responsive: bool | None
    """Whether the endpoint answered in a way that shows it at work; None when no request reached it."""
    probe: bool = False
    """Whether it was the single request of a half-open circuit."""


def is_responsive(outcome: Outcome) -> bool | None:
    """Whether an outcome shows an endpoint at work: a refusal does, a 5xx, a 429 or silence does not.

    What was kept from leaving says nothing of it, and neither does a fault of Hookline's own: None.
    """
    if outcome.kind in _SILENT_KINDS:
        return None
    return outcome.kind not in _DEAD_KINDS and outcome.status != _OVERLOADED


def apply_signals(circuit: Circuit, policy: DeliveryPolicy, answers: Sequence[CircuitSignal], now: datetime) -> Circuit:
    """The circuit after these signals, in the order in which they came.

    While it is open, failures of requests that were underway when it opened do not count; only a failed probe opens it
    again, for longer.
    """
    for answer in answers:
        circuit = _apply_signal(circuit, policy, answer, now)
    return circuit


@dataclass(frozen=True, slots=True)
class FailureStreak:
    """The change that signals make to the failures of a closed circuit which they leave closed."""

    added: int
    """Failures before the first success; they add to those that the circuit had."""
    since: int | None
    """Failures since the last success, which are all that counts then; None when there was no success."""


def failure_streak_of(policy: DeliveryPolicy, answers: Sequence[CircuitSignal]) -> FailureStreak | None:
    """The failure streak of these signals, for a circuit whose failures are not known here.

    It holds for a closed circuit with `failures + added` below the policy's limit. None when the signals would open the
    circuit whatever failures it had.
    """
    added, since, longest = 0, None, 0
    for answer in answers:
        if answer.responsive is None:
            continue
        if answer.responsive:
            since = 0
        elif since is None:
            added += 1
        else:
            since += 1
            longest = max(longest, since)
    opens = 0 < policy.circuit_failures <= max(added, longest)
    return None if opens else FailureStreak(added, since)


def _apply_signal(circuit: Circuit, policy: DeliveryPolicy, answer: CircuitSignal, now: datetime) -> Circuit:
    if answer.responsive is None:
        # The probe was not sent, so another may be sent now.
        return replace(circuit, probe_at=now) if answer.probe and circuit.opened_at is not None else circuit
    if answer.responsive:
        return Circuit()
    circuit = replace(circuit, failures=circuit.failures + 1)
    if circuit.opened_at is None:
        opens = 0 < policy.circuit_failures <= circuit.failures
        return _open(circuit, policy, now) if opens else circuit
    return _open(circuit, policy, now) if answer.probe else circuit


def _open(circuit: Circuit, policy: DeliveryPolicy, now: datetime) -> Circuit:
    doublings = min(circuit.openings, _MAX_DOUBLINGS)
    cool_off = min(policy.circuit_cool_off_seconds * 2**doublings, policy.circuit_cool_off_cap_seconds)
    return replace(circuit, openings=circuit.openings + 1, opened_at=now, probe_at=now + timedelta(seconds=cool_off))


def transition(before: Circuit, after: Circuit) -> CircuitState | None:
    """OPEN or CLOSED if the circuit was opened or closed; None if neither, as when a failed probe keeps it open."""
    if (before.opened_at is None) is (after.opened_at is None):
        return None
    return CircuitState.CLOSED if after.opened_at is None else CircuitState.OPEN


def is_slow(outcomes: Sequence[Outcome], *, before: bool) -> bool:
    """Whether at least half of these attempts took `SLOW_SECONDS` or longer; `before` if none of them counts.

    Attempts that did not reach the endpoint, or that Hookline broke off itself, do not count.
    """
    durations = [one.duration_seconds for one in outcomes if one.kind not in _SILENT_KINDS]
    if not durations:
        return before
    return sum(duration >= SLOW_SECONDS for duration in durations) * 2 >= len(durations)
