"""What `celery -A worker automations …` does to the storage: list, switch on or off, and explain without writing.

Functions on an open engine, that know nothing of click. Must not send anything.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime

from sqlalchemy import Connection, Engine

from shared.domain.errors import InvalidDefinition
from shared.domain.events.models import Event
from shared.domain.explain.dry_run import PageWanted
from shared.domain.explain.simulator import Simulator
from shared.domain.ids import IdKind, encode_id
from shared.dry_runs import service
from shared.dry_runs.run_series import RunSeries, SeriesWanted, prepare_series, read_series
from shared.dry_runs.service import DryRunAnswer
from shared.dry_runs.time_range import TimeRange, parse_time_range
from shared.messaging.redis_clients import open_redis
from shared.settings import Settings
from shared.storage.database.transactions import read_transaction, write_transaction
from shared.storage.definitions import automations as automation_store
from shared.storage.definitions import kept_revisions as revision_store
from shared.storage.definitions.automations import StoredAutomation, every_automation
from shared.storage.definitions.kept_revisions import RevisionKind
from shared.storage.definitions.revisions import lock_edits, next_revision
from worker.operations.audit import OPERATOR, Row, record_change
from worker.operations.lookup import resolve_automation, resolve_entity

PLOT_POINTS = 500
"""About as many as a terminal has columns, several times over."""


@dataclass(frozen=True, slots=True)
class ExplainRequest:
    """What an automation is explained on: given events, or a time range of the streams."""

    source: list[Event] | TimeRange
    with_state: bool
    """Whether given events find the windows and cooldowns that are stored now."""
    page: PageWanted
    today: bool = False
    """Whether a time range is judged by what the automation is now, and not by what it was and what was recorded."""


def list_automations(engine: Engine, entity: str | None) -> list[Row]:
    """List the automations of one entity, or of all. Raises InvalidDefinition for an entity that does not exist."""
    with read_transaction(engine) as connection:
        owner = None if entity is None else resolve_entity(connection, entity).id
        return [_row(stored) for stored in every_automation(connection, owner)]


def set_enabled(engine: Engine, automation: str, entity: str | None, *, enabled: bool) -> Row:
    """Switch an automation on or off, and note it in the audit log; `changed` says whether it was not so already.

    Raises:
        InvalidDefinition: when there is none of this id or name, or several entities have it.
    """
    with write_transaction(engine) as connection:
        lock_edits(connection)
        stored = resolve_automation(connection, automation, entity)
        changed = stored.definition["enabled"] is not enabled
        if changed:
            _switch(connection, stored, enabled=enabled, now=datetime.now(UTC))
        return {
            **_row(resolve_automation(connection, encode_id(IdKind.AUTOMATION, stored.id), stored.entity)),
            "changed": changed,
        }


def explain(
    settings: Settings, engine: Engine, automation: str, entity: str | None, trial: ExplainRequest
) -> DryRunAnswer:
    """Tell for each event whether an automation would fire, and why. Nothing is stored.

    Raises:
        InvalidDefinition: when there is no such entity or automation.
        redis.exceptions.RedisError: when the streams are needed and can't be read.
    """
    source = trial.source
    if isinstance(source, TimeRange) and not trial.today:
        return _explain_past(settings, engine, automation, entity, source, trial.page)
    with read_transaction(engine) as connection:
        subject = service.saved_subject(
            connection, resolve_automation(connection, automation, entity), settings.console_url
        )
        simulator = Simulator(subject)
        if trial.with_state and not isinstance(source, TimeRange):
            simulator = service.stored_simulator(connection, subject, source)
    if not isinstance(source, TimeRange):
        arrivals = service.arrivals_of(source, datetime.now(UTC), as_of_now=trial.with_state)
        return service.dry_run_events(simulator, arrivals, trial.page)
    with open_redis(settings) as redis:
        return service.dry_run_range(subject, redis, settings.partitions, source, trial.page)


def _explain_past(
    settings: Settings, engine: Engine, automation: str, entity: str | None, source: TimeRange, page: PageWanted
) -> DryRunAnswer:
    with read_transaction(engine) as connection:
        stored = resolve_automation(connection, automation, entity)
        past = service.prepare_past(connection, stored, source, settings, datetime.now(UTC))
    with open_redis(settings) as redis:
        return service.dry_run_past(past, redis, settings.partitions, engine, page)


@dataclass(frozen=True, slots=True)
class RunQuestion:
    """Of which run, of which time, what an automation's conditions saw is asked."""

    run: str
    project: str | None
    """None: that of the automation's scope."""
    since: str | None
    until: str | None
    today: bool
    """Whether by what the automation is now, and not by what it was then."""


def read_run_series(
    settings: Settings, engine: Engine, automation: str, entity: str | None, asked: RunQuestion
) -> RunSeries:
    """Read what the conditions of an automation saw of a run, from all that is kept or since a time.

    Raises:
        InvalidDefinition: when there is no such automation, it has no conditions, or the run's project is not known.
        redis.exceptions.RedisError: when the streams can't be read.
    """
    now = datetime.now(UTC)
    time_range = parse_time_range(asked.since or "1970-01-01T00:00:00Z", asked.until, now)
    with read_transaction(engine) as connection:
        stored = resolve_automation(connection, automation, entity)
        of_scope = stored.definition["scope"].get("project")
        if asked.project is None and of_scope is None:
            raise InvalidDefinition.at(("project",), "is required, since the automation watches more than one project")
        if not stored.definition.get("conditions"):
            raise InvalidDefinition.at(("automation",), "must be an automation with metric conditions")
        wanted = SeriesWanted(asked.project or of_scope, asked.run, PLOT_POINTS, asked.today)
        prepared = prepare_series(connection, stored, wanted, time_range, settings, now)
    with open_redis(settings) as redis:
        return read_series(prepared, wanted, redis, settings.partitions, engine)


def _switch(connection: Connection, stored: StoredAutomation, *, enabled: bool, now: datetime) -> None:
    automation_store.set_enabled(
        connection, stored, enabled=enabled, revision=next_revision(connection), now=now, by=OPERATOR
    )
    record_change(
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


def list_revisions(engine: Engine, automation: str, entity: str | None) -> list[Row]:
    """List the kept revisions of an automation, newest first.

    Raises:
        InvalidDefinition: when there is none of this id or name, or several entities have it.
    """
    with read_transaction(engine) as connection:
        stored = resolve_automation(connection, automation, entity)
        found = revision_store.list_revisions(connection, RevisionKind.AUTOMATION, stored.id)
    return [
        {
            "number": one.id,
            "at": one.at,
            "by": one.by,
            "change": one.change,
            "changed": one.changed,
            "revision": one.revision,
        }
        for one in found
    ]
