"""The resources of one API process, opened when it starts and closed when it ends; handlers get them injected."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import Annotated

from fastapi import Depends, Request
from kombu.exceptions import OperationalError as BrokerError
from redis import Redis as SyncRedis
from redis.asyncio import Redis
from redis.exceptions import RedisError
from sqlalchemy import Engine

from dispatcher.api.caller_cache import CallerCache
from dispatcher.api.health_cache import HealthCache
from dispatcher.api.identity_provider import IdentityProvider, open_identity_provider
from dispatcher.api.source_cache import SourceCache
from dispatcher.api.threads import Threads, run_in
from dispatcher.control.slack import SlackView
from dispatcher.control.webhook_checks import Checks
from dispatcher.control.webhooks import WebhookView
from dispatcher.publishing.event_rates import EventRates
from dispatcher.publishing.publisher import Publisher
from shared.config.descriptors import descriptor_limit
from shared.domain.ids import IdKind, decode_id
from shared.health.environment import (
    EnvironmentFault,
    clock_faults,
    descriptor_faults,
    descriptors_needed,
    redis_faults,
)
from shared.health.presence import Presence
from shared.health.snapshot import take_snapshot
from shared.http.client import WebhookClient
from shared.messaging.celery_app import celery_app
from shared.messaging.edits import announce_edits
from shared.messaging.redis_clients import open_async_redis, open_redis
from shared.messaging.wakeups import Waker
from shared.observability.logs import get_logger
from shared.observability.tracing import open_tracing
from shared.settings import Settings
from shared.storage.database.engine import open_engine
from shared.storage.database.transactions import read_transaction
from shared.storage.definitions.quotas import event_rate_limits
from shared.vault import Vault

log = get_logger("hookline.api")


@dataclass(frozen=True, slots=True)
class ApiResources:
    """Everything a handler may need besides its request."""

    settings: Settings
    engine: Engine
    redis: Redis
    vault: Vault
    publisher: Publisher
    sender: WebhookClient
    waker: Waker
    callers: CallerCache
    sources: SourceCache
    threads: Threads
    event_rates: EventRates
    presence: Presence
    health: HealthCache
    identity_provider: IdentityProvider | None

    @property
    def checks(self) -> Checks:
        """The keys and settings that a check of a webhook needs."""
        return Checks(self.settings, self.vault)

    def wake(self, webhook_ids: Iterable[int]) -> None:
        """Wake the drains of webhooks after a commit; if that fails, the pump finds the work within a sweep."""
        try:
            self.waker.wake_webhooks(webhook_ids)
        except (RedisError, BrokerError, OSError) as exc:
            log.warning("wake.failed", error=type(exc).__name__)

    def wake_if_open(self, kind: IdKind, view: WebhookView | SlackView) -> None:
        """Wake the drain of a webhook or Slack integration that may send again after an edit."""
        if view.enabled and not view.paused and (number := decode_id(kind, view.id)):
            self.wake([number])


@asynccontextmanager
async def open_resources(settings: Settings) -> AsyncIterator[ApiResources]:
    """Open the resources on the running event loop, and close them in reverse order.

    Raises:
        InvalidSetting: when there is no usable key for secrets, tracing is on and not installed, or the identity
            provider is not configured as a whole.
    """
    threads = Threads()
    threads.bound_ordinary()
    async with AsyncExitStack() as stack:
        engine = open_engine(settings)
        stack.callback(engine.dispose)
        callers = CallerCache(engine)
        stack.callback(callers.close)
        redis = open_async_redis(settings)
        stack.push_async_callback(redis.aclose)
        waking = open_redis(settings)
        stack.callback(waking.close)
        presence = Presence(settings, "api", partial(_environment_faults, settings, engine, waking))
        presence.start()
        stack.callback(presence.stop)
        vault = Vault.open(settings)
        stack.callback(announce_edits(engine, settings).close)
        broker = celery_app(settings)
        stack.callback(broker.close)
        sender = WebhookClient(settings)
        stack.push_async_callback(sender.aclose)
        tracing = open_tracing(settings, "api")
        if tracing is not None:
            stack.callback(tracing.close)
        yield ApiResources(
            settings=settings,
            engine=engine,
            redis=redis,
            vault=vault,
            publisher=Publisher(
                redis, settings.partitions, max_stream_bytes=settings.max_stream_bytes, tracing=tracing
            ),
            sender=sender,
            waker=Waker(broker, waking),
            callers=callers,
            sources=SourceCache(engine, vault),
            threads=threads,
            event_rates=EventRates(redis, partial(run_in, threads.publishing, partial(_event_rates, engine))),
            presence=presence,
            identity_provider=open_identity_provider(settings),
            health=HealthCache(partial(take_snapshot, settings, engine, vault)),
        )


def _event_rates(engine: Engine) -> dict[str, int]:
    with read_transaction(engine) as connection:
        return event_rate_limits(connection)


def _environment_faults(settings: Settings, engine: Engine, redis: SyncRedis) -> list[EnvironmentFault]:
    needed = descriptors_needed(settings.api_connections, settings.database_connections)
    return [*descriptor_faults(descriptor_limit(), needed), *redis_faults(redis), *clock_faults(engine)]


# `async` although it waits for nothing: FastAPI runs other dependencies in a thread, which takes longer.
async def _of_request(request: Request) -> ApiResources:
    resources: ApiResources = request.app.state.resources
    return resources


ResourcesDep = Annotated[ApiResources, Depends(_of_request)]
