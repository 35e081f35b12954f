"""What is done to the installation: each hurt, the alerts that it must raise and may raise, and how it is healed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass

from shared.domain.health_checks import RECENT_SECONDS
from tests.day import webhook_hurts as of_webhooks
from tests.day.installation import Installation
from tests.day.traffic import STEADY

EVALUATION_BURNS = ("HooklineEvaluationBudgetBurnsFast", "HooklineEvaluationBudgetBurnsSlow")
ATTEMPT_BURNS = ("HooklineAttemptBudgetBurnsFast", "HooklineAttemptBudgetBurnsSlow")
BURNS = frozenset({*EVALUATION_BURNS, *ATTEMPT_BURNS})
WAITED = frozenset({"HooklineDeliveriesOverdue", *ATTEMPT_BURNS})
"""What waited for a key is late when it is sent."""

Act = Callable[[Installation], AbstractContextManager[None]]


@dataclass(frozen=True, slots=True)
class Hurt:
    """One way to be hurt."""

    name: str
    act: Act
    """Hurts when entered, and heals when left."""
    must: tuple[str, ...]
    """The alerts that have to fire while the harm lasts."""
    after: tuple[str, ...] = ()
    """Those that fire while it lasts or soon after: rates count what is late when it is done."""
    may: frozenset[str] = frozenset()
    """Those that are also right: what else the harm does."""
    needs: Callable[[], bool] = lambda: True


@contextmanager
def _stopped(day: Installation, name: str) -> Iterator[None]:
    day.end(name)
    yield
    day.again(name)


def _no_evaluator(day: Installation) -> AbstractContextManager[None]:
    return _stopped(day, "worker0")


@contextmanager
def _no_sender(day: Installation) -> Iterator[None]:
    """Nobody sends, and more and more falls due."""
    with day.traffic.at(**{STEADY: day.busy_rate}), _stopped(day, "worker1"):
        yield


def _no_dispatcher(day: Installation) -> AbstractContextManager[None]:
    return _stopped(day, "pump0")


@contextmanager
def _stall(day: Installation) -> Iterator[None]:
    """The evaluator stops in its tracks, and soon nothing is published any more: the backlog does not grow."""
    with day.frozen(day.parts["worker0"].pid):
        day.rest(5)
        with day.traffic.at(**{STEADY: 0}):
            yield


@contextmanager
def _hang(day: Installation) -> Iterator[None]:
    """The process that sends stops in its tracks; its parent goes on, consumes and answers scrapes."""
    with day.frozen(*(child.pid for child in day.children("worker1"))):
        yield


def _hanging_api(day: Installation) -> AbstractContextManager[None]:
    return day.frozen(day.parts["api"].pid)


@contextmanager
def _cancelled_consumer(day: Installation) -> Iterator[None]:
    node = day.node("worker1")
    day.celery("control", "-t", "10", "-d", node, "cancel_consumer", "deliver")
    yield
    day.celery("control", "-t", "10", "-d", node, "add_consumer", "deliver")


@contextmanager
def _no_descriptors(day: Installation) -> Iterator[None]:
    """The process that sends may open nothing more, while each delivery needs a connection of its own."""
    with ExitStack() as stack:
        stack.enter_context(day.traffic.closing())
        for child in day.children("worker1"):
            stack.enter_context(day.limited_descriptors(child.pid))
        yield
    day.pass_time("attempts", "started_at", RECENT_SECONDS)


def _no_database(day: Installation) -> AbstractContextManager[None]:
    return day.without_database()


def _no_redis(day: Installation) -> AbstractContextManager[None]:
    return day.without_redis()


@contextmanager
def _evicting_redis(day: Installation) -> Iterator[None]:
    with day.redis_set(maxmemory="4gb", **{"maxmemory-policy": "allkeys-lru"}):
        yield


def _nearly_full(day: Installation) -> AbstractContextManager[None]:
    return day.filled(0.9)


def _full(day: Installation) -> AbstractContextManager[None]:
    return day.filled(1.05)


@contextmanager
def _transaction_pooler(day: Installation) -> Iterator[None]:
    """The dispatcher and the evaluator are started again behind a pooler that their settings do not fit."""
    with day.pooler() as url:
        for name in ("pump0", "worker0"):
            day.end(name)
            day.again(name, database_url=url)
        yield
        for name in ("pump0", "worker0"):
            day.end(name)
            day.again(name)


HURTS: tuple[tuple[Hurt, ...], ...] = (
    (
        Hurt("an endpoint refuses (422)", of_webhooks.refusing, ("HooklineDeadLetters",)),
        Hurt(
            "an endpoint is gone (410)",
            of_webhooks.gone,
            ("HooklineWebhookDisabled",),
            may=frozenset({"HooklineDeadLetters"}),
        ),
        Hurt("an endpoint answers 503", of_webhooks.broken, ("HooklineCircuitOpen",)),
        Hurt(
            "a webhook's URL is no URL",
            of_webhooks.unusable,
            ("HooklineWebhookUnusable",),
            may=frozenset({"HooklineDeliveriesOverdue"}),
        ),
        Hurt(
            "a secret of another key",
            of_webhooks.sealed,
            ("HooklineSecretKeyMissing",),
            may=WAITED,
        ),
        Hurt("an entry that is no event", of_webhooks.poison, ("HooklinePoisonEntries",)),
        Hurt("an API key ends in three days", of_webhooks.ending_key, ("HooklineKeysEnding",)),
        Hurt("Redis evicts", _evicting_redis, ("HooklineEnvironmentFault",)),
    ),
    (
        Hurt(
            "no evaluator (SIGTERM)",
            _no_evaluator,
            ("HooklineWorkerMissing", "HooklineTargetDown", "HooklineEvaluationBacklogGrows"),
            after=EVALUATION_BURNS,
            may=frozenset(ATTEMPT_BURNS),
        ),
    ),
    (
        Hurt(
            "no sender (SIGTERM), a growing backlog",
            _no_sender,
            ("HooklineWorkerMissing", "HooklineTargetDown", "HooklineDeliveryBacklogGrows"),
            after=ATTEMPT_BURNS,
            may=frozenset({"HooklineDeliveriesOverdue", "HooklineDeliveriesStalled"}),
        ),
    ),
    (
        Hurt(
            "a consumer is cancelled",
            _cancelled_consumer,
            ("HooklineWorkerMissing",),
            may=BURNS | {"HooklineDeliveriesStalled"},
        ),
    ),
    (
        Hurt(
            "a sending process hangs (SIGSTOP)",
            _hang,
            ("HooklineDeliveriesStalled", "HooklineDeliveriesOverdue"),
            may=BURNS | {"HooklineDeliveryBacklogGrows"},
        ),
    ),
    (
        Hurt(
            "the evaluator hangs, a backlog stalls",
            _stall,
            ("HooklineWorkerMissing", "HooklineTargetDown", "HooklineEvaluationBacklogGrows"),
            may=BURNS,
        ),
    ),
    (
        Hurt(
            "no descriptors for the sender",
            _no_descriptors,
            ("HooklineDescriptorsNearLimit", "HooklineInternalFaults", "HooklineInternalFaultsMany"),
            may=BURNS | {"HooklineEnvironmentFault"},
        ),
    ),
    (
        Hurt(
            "no dispatcher (SIGTERM)",
            _no_dispatcher,
            ("HooklineDispatcherMissing", "HooklineTargetDown"),
            may=BURNS | {"HooklineEvaluationBacklogGrows"},
        ),
    ),
    (
        Hurt(
            "the database is away (SIGKILL)",
            _no_database,
            ("HooklineDatabaseAway",),
            may=BURNS | {"HooklineDeliveriesStalled"},
        ),
    ),
    (
        Hurt(
            "Redis is away (SIGKILL)",
            _no_redis,
            ("HooklineRedisAway", "HooklineEventsRefused"),
            may=BURNS | {"HooklineDeliveriesStalled"},
        ),
    ),
    (Hurt("Redis is nearly full", _nearly_full, ("HooklineStreamNearBound",)),),
    (Hurt("Redis is full", _full, ("HooklineEventsRefused",), may=frozenset({"HooklineStreamNearBound"})),),
    (Hurt("the API hangs (SIGSTOP)", _hanging_api, ("HooklineTargetDown",)),),
    (
        Hurt(
            "PgBouncer in transaction mode",
            _transaction_pooler,
            ("HooklineDispatcherMissing", "HooklineWorkerMissing", "HooklineTargetDown"),
            may=BURNS | {"HooklineEvaluationBacklogGrows"},
            needs=Installation.has_pooler,
        ),
    ),
)
"""In the order of the day. The hurts of one group do not concern each other: a short day does them at the same time."""
