"""The checks of an installation's health, each with its threshold and its runbook, in one table.

`/v1/health` and `celery -A worker hookline status` go by it, and a test holds the alert rules in deploy/prometheus to
it: whoever asks and whoever is paged are told the same. Must not measure anything.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

EVALUATE, DELIVER, DELIVER_SLOW = "evaluate", "deliver", "deliver_slow"
RECENT_SECONDS = 1800
"""How far back dead letters and poison entries count as news."""
DISABLED_RECENT_SECONDS = 3600
MANY_FAULTS_SECONDS = 600
"""How far back attempts that failed inside Hookline are compared with all attempts."""
KEY_ENDS_SECONDS = 7 * 86_400
"""From when on the coming end of an API key is told of."""
OVERDUE_SECONDS = 60
"""From when on due deliveries are a backlog: a burst that is being sent is none."""
OPEN_SECONDS = 900
"""From when on an open circuit is told of: many endpoints are back sooner."""
STUCK_SECONDS = 900
"""From when on a due delivery that could be sent shows that something is wrong."""


class Severity(StrEnum):
    """How urgent a failing check is."""

    PAGE = "page"
    """Wake somebody up."""
    TICKET = "ticket"
    """Look at it on a working day."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HealthCheck:
    """A value, and from where on it is wrong."""

    name: str
    meaning: str
    """What the value is."""
    threshold: float
    below: bool = False
    """Whether the check fails below the threshold, and not above it."""
    unit: str = ""
    severity: Severity
    runbook: str
    """The page in docs/runbooks, which is named like the alert."""
    rule: str | None = None
    """What the alert's expression compares, with the threshold; None where nothing is measured for Prometheus."""
    lasting_seconds: int = 0
    """How long the rule has to hold before the alert fires."""
    shared: bool = False
    """Whether everybody with a key may read it: it tells nothing of other entities."""

    @property
    def page(self) -> str:
        """The runbook's path in the repository."""
        return f"docs/runbooks/{self.runbook}.md"

    def fails(self, value: float) -> bool:
        """Whether this value is wrong."""
        return value < self.threshold if self.below else value > self.threshold


def _workers(queue: str) -> HealthCheck:
    return HealthCheck(
        name=f"workers_{queue}",
        meaning=f"Workers that run and consume the queue {queue}.",
        threshold=1,
        below=True,
        severity=Severity.PAGE,
        runbook="HooklineWorkerMissing",
        rule="sum by (queue) (hookline_workers) < 1",
        lasting_seconds=120,
        shared=True,
    )


CHECKS: tuple[HealthCheck, ...] = (
    HealthCheck(
        name="database",
        meaning="Whether the database can't be used (1), or has not the schema of this version.",
        threshold=0,
        severity=Severity.PAGE,
        runbook="HooklineDatabaseAway",
        shared=True,
    ),
    HealthCheck(
        name="redis",
        meaning="Whether the server with the event streams can't be used (1).",
        threshold=0,
        severity=Severity.PAGE,
        runbook="HooklineRedisAway",
        shared=True,
    ),
    HealthCheck(
        name="evaluation_lag",
        meaning="Age of the oldest event that is not evaluated.",
        threshold=60,
        unit="seconds",
        severity=Severity.PAGE,
        runbook="HooklineEvaluationBacklogGrows",
        rule="hookline:evaluation_lag_seconds:max > 60",
        lasting_seconds=300,
        shared=True,
    ),
    HealthCheck(
        name="oldest_due",
        meaning="How long the delivery that waits longest has been due, of those that could be sent.",
        threshold=STUCK_SECONDS,
        unit="seconds",
        severity=Severity.TICKET,
        runbook="HooklineDeliveriesOverdue",
        rule=f"max(hookline_oldest_due_seconds) > {STUCK_SECONDS}",
        lasting_seconds=300,
        shared=True,
    ),
    HealthCheck(
        name="deliveries_overdue",
        meaning=f"Deliveries that have been due for more than {OVERDUE_SECONDS} s and could be sent.",
        threshold=1000,
        severity=Severity.TICKET,
        runbook="HooklineDeliveryBacklogGrows",
        rule="hookline:deliveries_due:max > 1000",
        lasting_seconds=900,
    ),
    HealthCheck(
        name="dead_letters",
        meaning="Deliveries that became dead letters in the last 30 minutes.",
        threshold=0,
        severity=Severity.TICKET,
        runbook="HooklineDeadLetters",
        rule="max(hookline_deliveries_dead_recent) > 0",
    ),
    HealthCheck(
        name="internal_faults",
        meaning="Attempts of the last 30 minutes that failed because of a fault in Hookline or on its host.",
        threshold=0,
        severity=Severity.TICKET,
        runbook="HooklineInternalFaults",
        rule='max(hookline_attempts_internal_recent{minutes="30"}) > 0',
    ),
    HealthCheck(
        name="circuits_open",
        meaning=f"Webhooks whose circuit has been open for more than {OPEN_SECONDS // 60} minutes.",
        threshold=0,
        severity=Severity.TICKET,
        runbook="HooklineCircuitOpen",
        rule="max(hookline_webhook_circuit_open) > 0",
        lasting_seconds=OPEN_SECONDS,
    ),
    HealthCheck(
        name="webhooks_disabled",
        meaning="Webhooks that Hookline disabled in the last hour.",
        threshold=0,
        severity=Severity.TICKET,
        runbook="HooklineWebhookDisabled",
        rule="max(hookline_webhooks_disabled_recent) > 0",
    ),
    HealthCheck(
        name="secrets_unreadable",
        meaning="Secrets that the keys of the process that was asked can't decrypt.",
        threshold=0,
        severity=Severity.PAGE,
        runbook="HooklineSecretKeyMissing",
        rule="sum(increase(hookline_secrets_unreadable_total[5m])) > 0",
        lasting_seconds=60,
    ),
    HealthCheck(
        name="poison_entries",
        meaning="Stream entries of the last 30 minutes that could not be evaluated.",
        threshold=0,
        severity=Severity.TICKET,
        runbook="HooklinePoisonEntries",
        rule="max(hookline_poison_entries_recent) > 0",
    ),
    HealthCheck(
        name="stream_memory",
        meaning="Used share of the memory above which events are refused.",
        threshold=0.8,
        severity=Severity.PAGE,
        runbook="HooklineStreamNearBound",
        rule="hookline:stream_memory:ratio > 0.8",
        lasting_seconds=300,
        shared=True,
    ),
    HealthCheck(
        name="last_sweep",
        meaning="How long ago a dispatcher swept last.",
        threshold=60,
        unit="seconds",
        severity=Severity.PAGE,
        runbook="HooklineDispatcherMissing",
        rule="time() - max(hookline_pump_last_sweep_timestamp_seconds) > 60",
        lasting_seconds=60,
        shared=True,
    ),
    *map(_workers, (EVALUATE, DELIVER, DELIVER_SLOW)),
    HealthCheck(
        name="environment",
        meaning="Faults of what the processes run on: descriptors, Redis' settings, clocks.",
        threshold=0,
        severity=Severity.TICKET,
        runbook="HooklineEnvironmentFault",
        rule="max by (fault) (hookline_environment_faults) > 0",
        lasting_seconds=300,
    ),
    HealthCheck(
        name="keys_ending",
        meaning=f"API keys that end within {KEY_ENDS_SECONDS // 86_400} days, without those of the last two weeks.",
        threshold=0,
        severity=Severity.TICKET,
        runbook="HooklineKeysEnding",
        rule="max(hookline_api_keys_ending) > 0",
        lasting_seconds=300,
    ),
)
"""All of them, in the order in which people look: what everything needs first."""

RATES_ONLY: frozenset[str] = frozenset(
    {
        "HooklineEvaluationBudgetBurnsFast",
        "HooklineEvaluationBudgetBurnsSlow",
        "HooklineAttemptBudgetBurnsFast",
        "HooklineAttemptBudgetBurnsSlow",
        "HooklineInternalFaultsMany",
        "HooklineDeliveriesStalled",
        "HooklineEventsRefused",
        "HooklineWebhookUnusable",
        "HooklineTargetDown",
        "HooklineDescriptorsNearLimit",
    }
)
"""The alerts without a check: they are about rates over time, or about each process, which only Prometheus sees."""
