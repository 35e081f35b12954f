"""The composition root: makes the parts of one worker process, gives each what it needs, and closes them in reverse.

Only this module knows the concrete classes on both sides of a subsystem's border; nobody below it may import it. The
parts are made at the first drain of a process, so that a prefork child never shares its parent's connections.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass

from celery import Celery
from redis import Redis
from sqlalchemy import Engine

from shared.http.client import WebhookClient
from shared.messaging.edits import announce_edits
from shared.messaging.redis_clients import open_redis
from shared.messaging.wakeups import Waker
from shared.observability.tracing import Tracing, open_tracing
from shared.settings import Settings
from shared.storage.database.clock import DatabaseClock
from shared.storage.database.engine import open_engine
from shared.storage.schema.gate import SchemaGate
from shared.vault import Vault
from worker.coordination.lease_keeper import LeaseKeeper
from worker.coordination.wakeups import DrainWakeups
from worker.delivery.attempt_executor import AttemptExecutor
from worker.delivery.background_recorder import BackgroundRecorder
from worker.delivery.drain import DrainLimits, WebhookDrainer
from worker.delivery.due_check import DueCheck
from worker.delivery.endpoint_cache import EndpointCache
from worker.delivery.fast_path import FastPath
from worker.delivery.in_flight import InFlightLimiter
from worker.delivery.joint_drain import JointDrainer
from worker.delivery.joint_recorder import JointRecorder
from worker.delivery.payload_budget import PayloadBudget
from worker.delivery.recorder import RecorderFactory, RecordingPolicy
from worker.delivery.request_scheduler import RequestScheduler
from worker.delivery.sessions import WebhookSessions
from worker.evaluation.automation_cache import AutomationCache
from worker.evaluation.catalog_discovery import CatalogDiscovery
from worker.evaluation.commit import BatchCommitter
from worker.evaluation.drain import PartitionDrainer
from worker.evaluation.evaluator import BatchEvaluator
from worker.evaluation.ignored_samples import IgnoredSampleReporter
from worker.evaluation.report import BatchReporter
from worker.evaluation.run_watches import RunWatches
from worker.evaluation.unmatched import UnmatchedReporter
from worker.evaluation.webhook_cache import WebhookCache
from worker.process.event_loop import EventLoopThread
from worker.process.scoreboard import Scoreboard

CLOSE_SECONDS = 5
"""How long open connections may take to close when a process ends."""


@dataclass(frozen=True, slots=True)
class WorkerProcess:
    """One worker process's parts, for tasks and tests. No part is given this object."""

    partitions: PartitionDrainer
    webhooks: WebhookDrainer
    joint: JointDrainer
    schema: SchemaGate
    settings: Settings
    engine: Engine
    redis: Redis
    clock: DatabaseClock
    vault: Vault
    tracing: Tracing | None
    automations: AutomationCache
    committer: BatchCommitter
    evaluator: BatchEvaluator
    limiter: InFlightLimiter
    payloads: PayloadBudget
    endpoints: EndpointCache
    fast_path: FastPath
    background: BackgroundRecorder
    _closing: ExitStack

    def close(self) -> None:
        """Wait for what is in flight, for `HOOKLINE_SHUTDOWN_GRACE` at most, and let everything go."""
        self._closing.close()


def build_process(
    settings: Settings,
    app: Celery,
    scoreboard: Scoreboard | None = None,
    *,
    consumes: Callable[[str], bool] | None = None,
    clock: Callable[[Engine], DatabaseClock] = DatabaseClock,
) -> WorkerProcess:
    """Make a process's parts. Where one cannot be made, those made before it are closed.

    Args:
        settings: the worker's.
        app: its Celery application.
        scoreboard: where it shows what is in flight; one of its own by default.
        consumes: whether this worker takes messages of a queue; by default, as Celery is told by `-Q` and `-X`.
        clock: makes the clock; for tests that let time pass.
    """
    scoreboard = scoreboard or Scoreboard()
    with ExitStack() as closing:
        # It closes in reverse: first the recorder, which waits for requests in flight and needs all the others; then
        # the client and the loop, tracing, Redis and the database.
        engine = open_engine(settings, ping=False)  # a drain that fails is woken again
        closing.callback(engine.dispose)
        redis = open_redis(settings)
        closing.callback(redis.close)
        closing.callback(announce_edits(engine, settings).close)
        tracing = open_tracing(settings, "worker")
        if tracing is not None:
            closing.callback(tracing.close)
        database_clock = clock(engine)
        loop = EventLoopThread()
        closing.callback(loop.stop)
        client = loop.run(_open_client(settings, database_clock))
        closing.callback(lambda: loop.run(client.aclose(), timeout_seconds=CLOSE_SECONDS))
        keeper = LeaseKeeper()
        closing.callback(keeper.close)
        vault = Vault.open_at_first_use(settings)
        waker = Waker(app, redis)
        wakeups = DrainWakeups(waker)
        limiter = InFlightLimiter(
            total=settings.max_connections,
            per_webhook=settings.max_in_flight,
            on_change=scoreboard.open_row().show,
            on_admitted=wakeups.request_all,
        )
        payloads = PayloadBudget()
        endpoints = EndpointCache(engine=engine, clock=database_clock, vault=vault, contexts=client.contexts)
        executor = AttemptExecutor(
            loop=loop,
            scheduler=RequestScheduler(total=settings.max_connections, per_webhook=settings.max_in_flight),
            send=client.send,
            now=database_clock.estimate,
            traced=tracing is not None,
        )
        policy = RecordingPolicy(
            retry_for=settings.lease_margin,
            disable_after=settings.disable_after,
            metrics_per_webhook=settings.metrics_per_webhook,
        )
        recorders = RecorderFactory(engine=engine, policy=policy)
        joint = JointRecorder(engine=engine, clock=database_clock, tracing=tracing, policy=policy)
        due_check = DueCheck(engine=engine, clock=database_clock, limiter=limiter, wakeups=wakeups)
        background = BackgroundRecorder(recorder=joint, slots=limiter, payloads=payloads, due_check=due_check)
        closing.callback(background.close, settings.shutdown_grace.total_seconds())
        sessions = WebhookSessions(endpoints=endpoints, executor=executor, recorders=recorders, background=background)
        webhooks = WebhookDrainer(
            redis=redis,
            engine=engine,
            clock=database_clock,
            endpoints=endpoints,
            limiter=limiter,
            payloads=payloads,
            executor=executor,
            recorders=recorders,
            joint=joint,
            background=background,
            due_check=due_check,
            wakeups=wakeups,
            limits=DrainLimits(
                drains_per_webhook=settings.drains_per_webhook,
                slice_seconds=settings.drain_slice.total_seconds(),
                max_in_flight=settings.max_in_flight,
                claim_batch=settings.claim_batch,
                lease_margin=settings.lease_margin,
            ),
        )
        joint_drainer = JointDrainer(
            redis=redis,
            engine=engine,
            clock=database_clock,
            endpoints=endpoints,
            limiter=limiter,
            payloads=payloads,
            sessions=sessions,
            wakeups=wakeups,
            lease_margin=settings.lease_margin,
        )
        fast_path = FastPath(
            limiter=limiter,
            payloads=payloads,
            endpoints=endpoints,
            sessions=sessions,
            now=database_clock.estimate,
            consumes=consumes or (lambda queue: queue in app.amqp.queues.consume_from),
            lease_margin=settings.lease_margin,
        )
        unmatched = UnmatchedReporter(engine=engine, clock=database_clock)
        automations = AutomationCache(
            engine,
            settings.reload_interval.total_seconds(),
            on_unreadable=unmatched.unreadable,
            reloads=scoreboard.reloads,
        )
        committer = BatchCommitter(
            engine=engine,
            clock=database_clock,
            webhooks=WebhookCache(),
            catalog=CatalogDiscovery(),
            fast_path=fast_path,
            traced=tracing is not None,
            console=settings.console_url,
        )
        evaluator = BatchEvaluator(
            redis=redis,
            engine=engine,
            automations=automations,
            committer=committer,
            reporter=BatchReporter(waker=waker, tracing=tracing),
            unmatched=unmatched,
            watches=RunWatches(engine=engine, clock=database_clock),
            ignored=IgnoredSampleReporter(engine=engine, clock=database_clock),
            endpoints=fast_path,
            batch_entries=settings.evaluate_batch,
        )
        partitions = PartitionDrainer(
            redis=redis,
            evaluator=evaluator,
            waker=waker,
            keeper=keeper,
            slice_seconds=settings.drain_slice.total_seconds(),
            batch_entries=settings.evaluate_batch,
        )
        return WorkerProcess(
            partitions=partitions,
            webhooks=webhooks,
            joint=joint_drainer,
            schema=SchemaGate(engine),
            settings=settings,
            engine=engine,
            redis=redis,
            clock=database_clock,
            vault=vault,
            tracing=tracing,
            automations=automations,
            committer=committer,
            evaluator=evaluator,
            limiter=limiter,
            payloads=payloads,
            endpoints=endpoints,
            fast_path=fast_path,
            background=background,
            _closing=closing.pop_all(),
        )


async def _open_client(settings: Settings, clock: DatabaseClock) -> WebhookClient:
    """Runs on the event loop, to which the client's connections then belong."""
    return WebhookClient(settings, now=clock.estimate)
