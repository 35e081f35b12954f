"""The health of the installation as it is answered: whole to instance administrators, in short to everybody with a key.

What others get tells nothing of other entities: whether the parts run, and how far behind they are.
"""

from __future__ import annotations

from datetime import datetime

from dispatcher.control.bodies import View
from shared.domain.health_checks import Severity
from shared.health.environment import EnvironmentFault
from shared.health.presence import Process
from shared.health.snapshot import CheckResult, CheckStatus, Health, HealthStatus, Trouble, TroubledWebhook
from shared.storage.accounts.users import Principal
from shared.storage.schema.migrate import newest_revision


class CheckView(View):
    """One check."""

    name: str
    status: CheckStatus
    value: float | None
    """Null where it could not be measured, or never happened."""
    threshold: float
    """The check fails above it, or below it where `below` is true."""
    below: bool
    unit: str
    severity: Severity
    meaning: str
    detail: str | None
    """Who or what it is about; for instance administrators."""
    runbook: str
    """The page in docs/runbooks."""


class PartitionView(View):
    """How far evaluation of a partition is behind."""

    partition: int
    entries: int
    seconds: float


class DeliveryCounts(View):
    """What waits, and what ended badly."""

    pending: int
    due: int
    """Due, and could be sent now."""
    held: int
    """Due, and held by a webhook that is disabled or paused, or whose circuit is open."""
    oldest_due_seconds: float
    dead: int


class StreamMemoryView(View):
    """The memory of the server with the streams."""

    used_bytes: int
    bound_bytes: int
    """Above it events are refused; 0: no limit."""


class EnvironmentFaultView(View):
    """A fault of what a process runs on."""

    fault: str
    detail: str


class ProcessView(View):
    """A process that is alive."""

    role: str
    name: str
    pid: int
    version: str
    queues: list[str]
    """What a worker consumes now."""
    swept_seconds_ago: float | None
    """Of a dispatcher."""
    seen_seconds_ago: float


class TroubledWebhookView(View):
    """A webhook to which nothing, or too little, is sent."""

    id: str
    entity: str
    name: str
    trouble: Trouble
    since: datetime | None
    pending: int
    reason: str | None


class UnreadableSecret(View):
    """A secret that this process's keys can't decrypt."""

    entity: str
    name: str


class HealthDetails(View):
    """What the checks are about. Null where a server was away."""

    schema_revision: str | None
    newest_schema_revision: str | None
    """Of this version."""
    partitions: list[PartitionView] | None
    deliveries: DeliveryCounts | None
    streams: StreamMemoryView | None
    processes: list[ProcessView] | None
    webhooks: list[TroubledWebhookView] | None
    """Those in trouble, most waiting deliveries first; at most 100."""
    unreadable_secrets: list[UnreadableSecret] | None
    """At most 100, of the 5,000 secrets that were written last."""
    environment: list[EnvironmentFaultView]


class HealthView(View):
    """The health of the installation."""

    status: HealthStatus
    """`failing`: a check fails that is worth a page; `degraded`: one that is worth a ticket."""
    version: str
    checks: list[CheckView]
    details: HealthDetails | None
    """For instance administrators; null for others."""


def describe_health(principal: Principal, health: Health) -> HealthView:
    """The answer for this principal."""
    if principal.is_admin:
        return full_health(health)
    shared = [one for one in health.checks if one.check.shared]
    short = Health(checks=shared)
    return HealthView(
        status=short.status,
        version=health.version,
        checks=[_check(one).model_copy(update={"detail": None}) for one in shared],
        details=None,
    )


def full_health(health: Health) -> HealthView:
    """The whole answer."""
    return HealthView(
        status=health.status, version=health.version, checks=list(map(_check, health.checks)), details=_details(health)
    )


def _check(result: CheckResult) -> CheckView:
    check = result.check
    return CheckView(
        name=check.name,
        status=result.status,
        value=result.shown_value,
        threshold=check.threshold,
        below=check.below,
        unit=check.unit,
        severity=check.severity,
        meaning=check.meaning,
        detail=result.detail,
        runbook=check.page,
    )


def _details(health: Health) -> HealthDetails:
    queue, memory = health.queue, health.memory
    return HealthDetails(
        schema_revision=health.schema,
        newest_schema_revision=newest_revision(),
        partitions=None
        if health.lags is None
        else [
            PartitionView(partition=number, entries=lag.entries, seconds=round(lag.seconds, 3))
            for number, lag in health.lags.items()
        ],
        deliveries=None
        if queue is None
        else DeliveryCounts(
            pending=queue.pending,
            due=queue.due,
            held=queue.held,
            oldest_due_seconds=round(queue.oldest_due_seconds, 3),
            dead=queue.dead,
        ),
        streams=None
        if memory is None
        else StreamMemoryView(used_bytes=memory.used_bytes, bound_bytes=memory.bound_bytes),
        processes=None if health.processes is None else list(map(_process, health.processes)),
        webhooks=None if health.webhooks is None else list(map(_troubled, health.webhooks)),
        unreadable_secrets=None
        if health.unreadable is None
        else [UnreadableSecret(entity=entity, name=name) for entity, name in health.unreadable],
        environment=list(map(_fault, health.environment)),
    )


def _fault(one: EnvironmentFault) -> EnvironmentFaultView:
    return EnvironmentFaultView(fault=one.fault, detail=one.text)


def _process(one: Process) -> ProcessView:
    return ProcessView(
        role=one.role,
        name=one.name,
        pid=one.pid,
        version=one.version,
        queues=list(one.queues),
        swept_seconds_ago=one.swept_seconds_ago,
        seen_seconds_ago=one.seen_seconds_ago,
    )


def _troubled(one: TroubledWebhook) -> TroubledWebhookView:
    return TroubledWebhookView(
        id=one.id,
        entity=one.entity,
        name=one.name,
        trouble=one.trouble,
        since=one.since,
        pending=one.pending,
        reason=one.reason,
    )
