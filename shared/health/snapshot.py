"""All checks of an installation in one look: at the database, the streams, and what processes say of themselves.

It changes nothing. What can't be measured because a server is away is unknown, and the check of that server fails.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum

from redis.exceptions import RedisError
from sqlalchemy import Connection, Engine, select
from sqlalchemy.exc import SQLAlchemyError

from shared.domain.health_checks import (
    CHECKS,
    DELIVER,
    DELIVER_SLOW,
    DISABLED_RECENT_SECONDS,
    EVALUATE,
    KEY_ENDS_SECONDS,
    OPEN_SECONDS,
    OVERDUE_SECONDS,
    RECENT_SECONDS,
    STUCK_SECONDS,
    HealthCheck,
    Severity,
)
from shared.health.environment import EnvironmentFault, clock_faults, redis_faults
from shared.health.presence import Process, open_presence_redis, read_processes
from shared.messaging.stream_memory import StreamMemory, read_memory
from shared.messaging.streams import Lag, read_lags
from shared.settings import Settings
from shared.storage.accounts.api_keys import count_ending
from shared.storage.database.clock import database_time
from shared.storage.database.transactions import read_transaction
from shared.storage.definitions.secrets import newest_secrets
from shared.storage.definitions.webhook_fields import public_id
from shared.storage.delivery.backlog import (
    QueueState,
    count_overdue,
    count_recently_disabled,
    queue_state,
    recent_dead,
    recent_internal,
)
from shared.storage.delivery.webhook_states import WebhookState, webhook_states
from shared.storage.evaluation.offsets import read_all_offsets
from shared.storage.evaluation.poison import recent_poison
from shared.storage.schema.migrate import current_revision, schema_fault
from shared.vault import Vault
from shared.version import __version__

SECRETS_TRIED = 5000
"""How many secrets are decrypted, the newest first: about 30 µs each."""
SHOWN = 100
"""How many webhooks in trouble and unreadable secrets are named; all are counted."""


class CheckStatus(StrEnum):
    """What came of a check."""

    OK = "ok"
    FAILING = "failing"
    UNKNOWN = "unknown"


class HealthStatus(StrEnum):
    """The health of the whole."""

    OK = "ok"
    DEGRADED = "degraded"
    """A check for a ticket fails."""
    FAILING = "failing"
    """A check for a page fails."""


class Trouble(StrEnum):
    """Why nothing, or too little, is sent to a webhook."""

    DISABLED = "disabled"
    """Hookline disabled it."""
    CIRCUIT_OPEN = "circuit_open"
    STUCK = "stuck"
    """It takes requests, and what is due waits: it is slow, limited, or no request can be made to it."""
    FAILING = "failing"
    """It has only failed since a time, and is still tried."""


@dataclass(frozen=True, slots=True)
class CheckResult:
    """One check, measured."""

    check: HealthCheck
    value: float | None
    """None where it could not be measured; infinite where it never happened."""
    detail: str | None = None

    @property
    def status(self) -> CheckStatus:
        """What came of it."""
        if self.value is None:
            return CheckStatus.UNKNOWN
        return CheckStatus.FAILING if self.check.fails(self.value) else CheckStatus.OK

    @property
    def shown_value(self) -> float | None:
        """The value as JSON can hold it."""
        return None if self.value is None or math.isinf(self.value) else self.value


@dataclass(frozen=True, slots=True)
class TroubledWebhook:
    """A webhook to which nothing, or too little, is sent."""

    id: str
    entity: str
    name: str
    trouble: Trouble
    since: datetime | None
    pending: int
    reason: str | None


@dataclass(slots=True)
class Health:
    """What was found. Members are None where a server was away."""

    version: str = __version__
    schema: str | None = None
    database_fault: str | None = None
    redis_fault: str | None = None
    lags: dict[int, Lag] | None = None
    memory: StreamMemory | None = None
    queue: QueueState | None = None
    overdue: int | None = None
    recent_dead: int | None = None
    recent_poison: int | None = None
    recent_internal: int | None = None
    circuits_open: int | None = None
    recently_disabled: int | None = None
    keys_ending: int | None = None
    webhooks: list[TroubledWebhook] | None = None
    """The first `SHOWN`, those with most waiting first."""
    unreadable: list[tuple[str, str]] | None = None
    """Entity and name of secrets; the first `SHOWN`."""
    unreadable_count: int | None = None
    secrets_tried: int = 0
    processes: list[Process] | None = None
    environment: list[EnvironmentFault] = field(default_factory=list)
    """Of this process's servers and clock, and of all processes."""
    checks: list[CheckResult] = field(default_factory=list)

    @property
    def status(self) -> HealthStatus:
        """The worst of the checks; what is unknown has its cause among those that fail."""
        failing = {one.check.severity for one in self.checks if one.status is CheckStatus.FAILING}
        if Severity.PAGE in failing:
            return HealthStatus.FAILING
        return HealthStatus.DEGRADED if failing else HealthStatus.OK


def take_snapshot(settings: Settings, engine: Engine, vault: Vault) -> Health:
    """Look at everything once. It takes time in proportion to the backlog and the number of webhooks."""
    health = Health()
    offsets, now = None, None
    try:
        with read_transaction(engine) as connection:
            health.schema = current_revision(connection)
            health.database_fault = schema_fault(health.schema)
            if health.database_fault is None:
                now = database_time(connection)
                offsets = read_all_offsets(connection, settings.partitions)
                _look_at_database(health, connection, vault, now)
        health.environment += clock_faults(engine)
    except SQLAlchemyError as exc:
        health.database_fault = f"can't be used ({type(exc).__name__})"
    redis = open_presence_redis(settings)
    try:
        if offsets is not None and now is not None:
            health.lags = read_lags(redis, offsets, now.timestamp())
        health.memory = read_memory(redis, settings)
        health.processes = read_processes(redis)
        health.environment += redis_faults(redis)
    except (RedisError, OSError) as exc:
        health.redis_fault = f"can't be used ({type(exc).__name__})"
    finally:
        redis.close()
    for process in health.processes or ():
        health.environment += [
            EnvironmentFault(one.fault, f"{process.role} {process.name}: {one.text}") for one in process.faults
        ]
    health.checks = [_measure(health, check) for check in CHECKS]
    return health


def _look_at_database(health: Health, connection: Connection, vault: Vault, now: datetime) -> None:
    health.queue = queue_state(connection, now)
    health.overdue = count_overdue(connection, now, for_seconds=OVERDUE_SECONDS)
    recent = now - timedelta(seconds=RECENT_SECONDS)
    queries = (recent_dead(recent), recent_poison(recent), recent_internal(recent))
    counted = connection.execute(select(*(one.scalar_subquery() for one in queries))).one()
    health.recent_dead, health.recent_poison, health.recent_internal = counted
    health.keys_ending = count_ending(connection, now, within=timedelta(seconds=KEY_ENDS_SECONDS))
    states = webhook_states(connection, now)
    opened_before = now - timedelta(seconds=OPEN_SECONDS)
    health.circuits_open = sum(
        one.enabled and one.circuit.opened_at is not None and one.circuit.opened_at <= opened_before for one in states
    )
    health.recently_disabled = count_recently_disabled(connection, now - timedelta(seconds=DISABLED_RECENT_SECONDS))
    troubled = sorted((found for one in states if (found := _trouble(one, now))), key=lambda one: -one.pending)
    health.webhooks = troubled[:SHOWN]
    tried = newest_secrets(connection, limit=SECRETS_TRIED)
    unreadable = [(one.entity, one.name) for one in tried if not vault.can_decrypt(one.ciphertext)]
    health.unreadable, health.unreadable_count = sorted(unreadable)[:SHOWN], len(unreadable)
    health.secrets_tried = len(tried)


def _trouble(state: WebhookState, now: datetime) -> TroubledWebhook | None:
    found: tuple[Trouble, datetime | None, str | None] | None = None
    if not state.enabled:
        if state.disabled_reason is not None:  # else somebody meant it
            found = Trouble.DISABLED, state.updated_at, state.disabled_reason
    elif state.paused:
        found = None
    elif state.circuit.opened_at is not None:
        found = Trouble.CIRCUIT_OPEN, state.circuit.opened_at, f"{state.circuit.failures} failures in a row"
    elif state.oldest_due_at is not None and state.oldest_due_at <= now - timedelta(seconds=STUCK_SECONDS):
        found = Trouble.STUCK, state.oldest_due_at, None
    elif state.failing_since is not None and state.failing_since <= now - timedelta(seconds=STUCK_SECONDS):
        found = Trouble.FAILING, state.failing_since, None
    if found is None:
        return None
    trouble, since, reason = found
    number = public_id(state.kind, state.id)
    return TroubledWebhook(number, state.entity, state.name, trouble, since, state.pending, reason)


def _measure(health: Health, check: HealthCheck) -> CheckResult:
    value, detail = _VALUES[check.name](health)
    return CheckResult(check, None if value is None else round(float(value), 3), detail)


_Measured = tuple[float | None, str | None]


def _lag(health: Health) -> _Measured:
    if not health.lags:
        return None, None
    partition, worst = max(health.lags.items(), key=lambda item: item[1].seconds)
    waiting = sum(one.entries for one in health.lags.values())
    return worst.seconds, f"{waiting} entries wait; the oldest in partition {partition}" if waiting else None


def _workers(health: Health, queue: str) -> _Measured:
    if health.processes is None:
        return None, None
    names = [one.name for one in health.processes if one.role == "worker" and queue in one.queues]
    return len(names), ", ".join(names[:10]) or None


def _last_sweep(health: Health) -> _Measured:
    if health.processes is None:
        return None, None
    swept = [one.swept_seconds_ago for one in health.processes if one.swept_seconds_ago is not None]
    if swept:
        return min(swept), None
    return float("inf"), "no dispatcher runs"


def _names(items: Iterator[str], count: int | None) -> str | None:
    shown = [item for item, _place in zip(items, range(10), strict=False)]
    more = f" and {count - len(shown)} more" if count is not None and count > len(shown) else ""
    return ", ".join(shown) + more if shown else None


def _troubled(health: Health, trouble: Trouble) -> str | None:
    found = [one for one in health.webhooks or () if one.trouble is trouble]
    return _names((f"{one.entity}/{one.name} ({one.id})" for one in found), len(found))


def _oldest_due(health: Health) -> _Measured:
    return None if health.queue is None else health.queue.oldest_due_seconds, _troubled(health, Trouble.STUCK)


def _dead_letters(health: Health) -> _Measured:
    return health.recent_dead, None if health.queue is None else f"{health.queue.dead} are kept"


def _unreadable(health: Health) -> _Measured:
    names = (f"{entity}/{name}" for entity, name in health.unreadable or ())
    return health.unreadable_count, _names(names, health.unreadable_count)


def _memory(health: Health) -> _Measured:
    return None if health.memory is None else health.memory.fill, None


def _environment(health: Health) -> _Measured:
    return len(health.environment), "; ".join(one.text for one in health.environment[:10]) or None


_KEYS_HINT = f"celery -A worker keys list --ends-within {KEY_ENDS_SECONDS // 86_400}d"

_VALUES: Mapping[str, Callable[[Health], _Measured]] = {
    "database": lambda health: (float(health.database_fault is not None), health.database_fault),
    "redis": lambda health: (float(health.redis_fault is not None), health.redis_fault),
    "evaluation_lag": _lag,
    "oldest_due": _oldest_due,
    "deliveries_overdue": lambda health: (health.overdue, None),
    "dead_letters": _dead_letters,
    "internal_faults": lambda health: (health.recent_internal, None),
    "circuits_open": lambda health: (health.circuits_open, _troubled(health, Trouble.CIRCUIT_OPEN)),
    "webhooks_disabled": lambda health: (health.recently_disabled, _troubled(health, Trouble.DISABLED)),
    "secrets_unreadable": _unreadable,
    "poison_entries": lambda health: (health.recent_poison, None),
    "stream_memory": _memory,
    "last_sweep": _last_sweep,
    f"workers_{EVALUATE}": lambda health: _workers(health, EVALUATE),
    f"workers_{DELIVER}": lambda health: _workers(health, DELIVER),
    f"workers_{DELIVER_SLOW}": lambda health: _workers(health, DELIVER_SLOW),
    "environment": _environment,
    "keys_ending": lambda health: (health.keys_ending, _KEYS_HINT if health.keys_ending else None),
}
