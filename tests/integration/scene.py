"""A scene: a worker's parts on real servers, with a receiver, driven drain by drain without Celery."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any, cast

import orjson
from redis import Redis
from sqlalchemy import Engine, select, update

from shared.domain.automations.model import Grants
from shared.domain.automations.parsing import parse_automation
from shared.domain.delivery.retries import DeliveryPolicy
from shared.domain.events.decoding import check_event
from shared.domain.events.partitioning import partition_of
from shared.messaging.celery_app import celery_app
from shared.messaging.streams import FIELD, stream_key
from shared.settings import Settings
from shared.storage.database.clock import DatabaseClock
from shared.storage.database.transactions import read_transaction, write_transaction
from shared.storage.definitions.automations import AutomationFields, insert_automation
from shared.storage.definitions.entities import find_entity, insert_entity
from shared.storage.definitions.revisions import next_revision
from shared.storage.definitions.secrets import insert_secret, replace_secret
from shared.storage.definitions.webhook_fields import WebhookFields
from shared.storage.definitions.webhooks import insert_webhook
from shared.storage.delivery.backlog import due_webhooks
from shared.storage.evaluation.new_deliveries import NewDelivery
from shared.storage.schema.tables import attempts, deliveries, pending_deliveries, webhooks
from tests.integration.processes import wait_until
from tests.integration.receiver import Receiver
from worker.bootstrap import WorkerProcess, build_process

_numbers = itertools.count(1)


def alias_event(alias: str = "prod", *, collection: str = "llm", event_id: str | None = None, **data: Any) -> Any:
    """An ADD_ARTIFACT_ALIAS event of the entity `acme`."""
    number = next(_numbers)
    return {
        "specversion": "1.0",
        "id": event_id or f"event-{number}",
        "source": "/test",
        "type": "ADD_ARTIFACT_ALIAS",
        "time": "2026-11-23T09:00:00Z",
        "data": {
            "entity": "acme",
            "project": "wandb-registry-model",
            "author": "alice",
            "collection": {"name": collection, "type": "model"},
            "artifact": {"id": f"artifact-{number}", "version": "v3", "aliases": ["v3"], "metadata": {"type": "llm"}},
            "alias": alias,
        }
        | data,
    }


def metric_event(
    step: int | None, *, run: str = "r1", event_id: str | None = None, **metrics: float | str | None
) -> Any:
    """A RUN_METRIC event of the entity `acme`."""
    return {
        "specversion": "1.0",
        "id": event_id or f"event-{next(_numbers)}",
        "source": "/test",
        "type": "RUN_METRIC",
        "data": {
            "entity": "acme",
            "project": "digits",
            "author": "alice",
            "run": {"id": run, "name": f"run {run}"},
            "step": step,
            "metrics": metrics,
        },
    }


def state_event(state: str, *, run: str = "r1", event_id: str | None = None, **data: Any) -> Any:
    """A RUN_STATE event of the entity `acme`."""
    about = {"entity": "acme", "project": "digits", "author": "alice", "run": {"id": run, "name": f"run {run}"}}
    number = event_id or f"event-{next(_numbers)}"
    event = {"specversion": "1.0", "id": number, "source": "/test", "type": "RUN_STATE"}
    return {**event, "data": about | {"state": state} | data}


class AdvancingClock(DatabaseClock):
    """The database's clock, and as much later as a test says."""

    def __init__(self, engine: Engine) -> None:
        super().__init__(engine)
        self._ahead = timedelta()

    def advance(self, seconds: float) -> None:
        """Let so much time pass at once."""
        self._ahead += timedelta(seconds=seconds)

    def advance_to(self, at: datetime) -> None:
        """Let time pass until then."""
        self._ahead += max(timedelta(), at - self.now())

    def estimate(self) -> datetime:
        """As the worker sees it."""
        return super().estimate() + self._ahead


@dataclass
class Scene:
    """An entity with webhooks and automations, a stream to publish to, and the drains that work it."""

    settings: Settings
    process: WorkerProcess
    redis: Redis
    receiver: Receiver
    entity_id: int
    consumed: set[str] = field(default_factory=set)
    """The queues that this worker takes messages of: with a queue of deliveries it sends on the fast path."""
    secret_ids: dict[str, int] = field(default_factory=dict)

    @property
    def clock(self) -> AdvancingClock:
        """The process's."""
        assert isinstance(self.process.clock, AdvancingClock)
        return self.process.clock

    def secret(self, name: str, value: str) -> None:
        """Store a secret."""
        with write_transaction(self.process.engine) as connection:
            self.secret_ids[name] = insert_secret(
                connection,
                self.entity_id,
                name=name,
                ciphertext=self.process.vault.encrypt(value),
                revision=next_revision(connection),
                now=datetime.now(UTC),
            )

    def new_value(self, name: str, value: str) -> None:
        """Replace the value of a secret."""
        with write_transaction(self.process.engine) as connection:
            replace_secret(
                connection,
                self.secret_ids[name],
                ciphertext=self.process.vault.encrypt(value),
                revision=next_revision(connection),
                now=datetime.now(UTC),
            )

    def webhook(self, name: str = "hook", **fields: Any) -> int:
        """Define a webhook on the receiver; without retries unless the policy says otherwise."""
        policy = DeliveryPolicy(**{"schedule_seconds": (), **fields.pop("policy", {})})
        values: dict[str, Any] = {
            "name": name,
            "url": f"{self.receiver.url}/{name}",
            "access_token": None,
            "signing_secret": None,
            "secrets": (),
            "enabled": True,
            "paused": False,
            "policy": policy.model_dump(mode="json"),
        }
        with write_transaction(self.process.engine) as connection:
            return insert_webhook(
                connection,
                self.entity_id,
                WebhookFields(**{**values, **fields}),
                secret_ids=self.secret_ids,
                revision=next_revision(connection),
                now=datetime.now(UTC),
            )

    def automation(self, webhook_id: int | None, *, secrets: Sequence[str] = (), **members: Any) -> int:
        """Define an automation; on any alias unless the members say otherwise."""
        action: dict[str, Any] = {"no_op": True} if webhook_id is None else {"webhook": f"wh_{webhook_id}"}
        action = members.pop("action", action)
        if (payload := members.pop("payload", None)) is not None:
            action["payload"] = payload
        raw = {"name": f"automation-{next(_numbers)}", "event": "ADD_ARTIFACT_ALIAS", "action": action, **members}
        grants = Grants(frozenset(secrets), has_access_token=True)
        checked = parse_automation(raw, lambda _name: grants, lambda _name: True)
        with write_transaction(self.process.engine) as connection:
            revision = next_revision(connection)
            return insert_automation(
                connection,
                self.entity_id,
                AutomationFields(
                    name=checked.name,
                    enabled=checked.enabled,
                    event_type=str(checked.event),
                    scope_project=checked.scope.project,
                    scope_collection=checked.scope.collection,
                    webhook_id=webhook_id,
                    definition=checked.to_json(),
                    epoch=revision,
                ),
                revision=revision,
                now=datetime.now(UTC),
            )

    def publish(self, *events: Any) -> None:
        """Append events to their streams, as a backend that XADDs by itself does."""
        for event in events:
            partition = partition_of(check_event(event), self.settings.partitions)
            self.redis.xadd(stream_key(partition), {FIELD: orjson.dumps(event)})

    def evaluate(self) -> None:
        """Drain every partition."""
        for partition in range(self.settings.partitions):
            self.process.partitions.drain(partition)

    def deliver(self) -> None:
        """Drain every webhook that has something due."""
        while True:
            with read_transaction(self.process.engine) as connection:
                due = due_webhooks(connection, datetime.now(UTC))
            if not due:
                return
            for webhook in due:
                self.process.webhooks.drain(webhook.id)
            self.settle()

    def settle(self) -> None:
        """Wait until what drains left in flight has been recorded."""
        wait_until(lambda: self.process.limiter.in_flight() == 0, "end of what is in flight")

    def rows(self) -> list[Any]:
        """All deliveries, oldest first."""
        with read_transaction(self.process.engine) as connection:
            return list(connection.execute(select(deliveries).order_by(deliveries.c.seq)))

    def attempts(self) -> list[Any]:
        """All attempts, in order."""
        with read_transaction(self.process.engine) as connection:
            return list(connection.execute(select(attempts).order_by(attempts.c.delivery_seq, attempts.c.number)))

    def pending(self) -> list[Any]:
        """What is left to do."""
        with read_transaction(self.process.engine) as connection:
            return list(connection.execute(select(pending_deliveries).order_by(pending_deliveries.c.seq)))


def delivery_row(scene: Scene, number: int, webhook_id: int | None, *, at: datetime, **fields: Any) -> NewDelivery:
    """A new delivery as evaluation stores it, pending unless `fields` say otherwise."""
    row: dict[str, Any] = {
        "id": f"dlv_{number}",
        "entity_id": scene.entity_id,
        "automation_id": 1,
        "webhook_id": webhook_id,
        "status": "pending",
        "reason": None,
        "payload": "{}",
        "event_id": f"event-{number}",
        "event_source": "/test",
        "event_type": "ADD_ARTIFACT_ALIAS",
        "event_received_at": at,
        "created_at": at,
        "finished_at": None,
    }
    return cast("NewDelivery", row | fields)


def webhook_with(**values: object) -> Callable[[Scene, int], None]:
    """What sets columns of a webhook's row, as workers do, and not as an edit."""

    def change(scene: Scene, hook: int) -> None:
        with write_transaction(scene.process.engine) as connection:
            connection.execute(update(webhooks).where(webhooks.c.id == hook).values(**values))

    return change


@contextmanager
def opened_scene(settings: Settings, redis: Redis, receiver: Receiver, *, new: bool = True) -> Iterator[Scene]:
    """An entity `acme` on the settings' database, which has none yet unless it is not `new`."""
    with another_process(settings) as (process, consumed):
        with write_transaction(process.engine) as connection:
            if new:
                insert_entity(connection, name="acme", kind="team", parent_id=None, now=datetime.now(UTC))
            entity = find_entity(connection, "acme")
        assert entity is not None
        yield Scene(settings, process, redis, receiver, entity.id, consumed)


@contextmanager
def another_process(settings: Settings) -> Iterator[tuple[WorkerProcess, set[str]]]:
    """A worker process's parts, and the queues that it takes messages of: none at first."""
    consumed: set[str] = set()
    process = build_process(
        settings, celery_app(settings), consumes=lambda queue: queue in consumed, clock=AdvancingClock
    )
    try:
        yield process, consumed
    finally:
        process.close()


@contextmanager
def beside(scene: Scene, **changes: Any) -> Iterator[Scene]:
    """The same entity, worked by another process with other settings."""
    settings = scene.settings.model_copy(update=changes)
    with another_process(settings) as (process, consumed):
        yield replace(scene, settings=settings, process=process, consumed=consumed)
