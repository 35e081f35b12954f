"""What `celery -A worker automations …` does to the storage: list, switch on or off, and try without writing.

Functions on an open engine, that know nothing of click. Must not send anything.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime

from sqlalchemy import Connection, Engine

from shared.domain.events.models import Event
from shared.domain.explain.dry_run import PageWanted
from shared.domain.explain.simulator import Simulator
from shared.domain.ids import IdKind, encode_id
from shared.dry_runs import service
from shared.dry_runs.service import DryRunAnswer
from shared.dry_runs.time_range import Span
from shared.messaging.redis_clients import open_redis
from shared.settings import Settings
from shared.storage.database.transactions import reading, writing
from shared.storage.definitions.automations import StoredAutomation, every_automation, set_enabled
from shared.storage.definitions.revisions import lock_edits, next_revision
from worker.operations.audit import Row, note
from worker.operations.lookup import entity_named, found_automation


@dataclass(frozen=True, slots=True)
class Trial:
    """What an automation is tried on: given events, perhaps from the stored state, or a span of the streams."""

    source: list[Event] | Span
    with_state: bool
    page: PageWanted


def listed(engine: Engine, entity: str | None) -> list[Row]:
    """The automations of one entity, or of all. Raises InvalidDefinition for an entity that there is not."""
    with reading(engine) as connection:
        owner = None if entity is None else entity_named(connection, entity).id
        return [_row(stored) for stored in every_automation(connection, owner)]


def switched(engine: Engine, automation: str, entity: str | None, *, enabled: bool) -> Row:
    """Switch an automation on or off, and note it in the audit log; `changed` says whether it was not so already.

    Raises:
        InvalidDefinition: when there is none of this id or name, or several entities have it.
    """
    with writing(engine) as connection:
        lock_edits(connection)
        stored = found_automation(connection, automation, entity)
        changed = stored.definition["enabled"] is not enabled
        if changed:
            _switch(connection, stored, enabled=enabled, now=datetime.now(UTC))
        return {
            **_row(found_automation(connection, encode_id(IdKind.AUTOMATION, stored.id), stored.entity)),
            "changed": changed,
        }


def tried(settings: Settings, engine: Engine, automation: str, entity: str, trial: Trial) -> DryRunAnswer:
    """What the automation would make of the events.

    Raises:
        InvalidDefinition: when there is no such entity or automation.
        redis.exceptions.RedisError: when the streams are needed and can't be read.
    """
    source = trial.source
    with reading(engine) as connection:
        subject = service.saved_subject(connection, found_automation(connection, automation, entity))
        simulator = Simulator(subject)
        if trial.with_state and not isinstance(source, Span):
            simulator = service.stored_simulator(connection, subject, source)
    if not isinstance(source, Span):
        arrivals = service.arrivals_of(source, datetime.now(UTC), as_of_now=trial.with_state)
        return service.over_events(simulator, arrivals, trial.page)
    with open_redis(settings) as redis:
        return service.over_span(subject, redis, settings.partitions, source, trial.page)


def _switch(connection: Connection, stored: StoredAutomation, *, enabled: bool, now: datetime) -> None:
    set_enabled(connection, stored, enabled=enabled, revision=next_revision(connection), now=now)
    note(
        connection,
        "automation.update",
        entity_id=stored.entity_id,
        target=encode_id(IdKind.AUTOMATION, stored.id),
        detail={"name": stored.name, "changed": ["enabled"]},
        now=now,
    )


def _row(stored: StoredAutomation) -> Row:
    return {
        "id": encode_id(IdKind.AUTOMATION, stored.id),
        "entity": stored.entity,
        "name": stored.name,
        "enabled": stored.definition["enabled"],
        "event": stored.definition["event"],
        "webhook": stored.webhook_name,
        "revision": stored.revision,
        "updated_at": stored.updated_at,
    }
