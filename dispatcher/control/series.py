"""The numbers that the metric conditions of an automation saw of a run."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from redis import Redis
from sqlalchemy import Connection, Engine

from dispatcher.control.access import Action, require
from dispatcher.control.automations import load_automation
from dispatcher.control.bodies import View
from shared.domain.errors import FieldError, InvalidDefinition
from shared.domain.explain.series import MAX_POINTS, Series
from shared.dry_runs.run_series import SeriesWanted, prepare_series, read_series
from shared.dry_runs.service import PastRun
from shared.dry_runs.time_range import parse_time_range
from shared.settings import Settings
from shared.storage.accounts.users import Principal

DEFAULT_POINTS = 500


class SeriesView(View):
    """What the conditions saw of a run."""

    automation: str
    run: str
    project: str
    series: list[Series]
    """One for each condition that had a sample; also of conditions that an edit has removed since."""
    events: int
    """How many metric events of the run were read."""
    windows_began_at: datetime | None
    """When the first of them came: windows begin empty there."""
    truncated: bool
    """Whether reading stopped before the end of the time range."""
    read_until: datetime | None
    """When the last entry came that was read: `since` of the request that goes on from there."""


@dataclass(frozen=True, slots=True)
class SeriesQuery:
    """What a client asks for."""

    run: str | None
    project: str | None
    since: str | None
    until: str | None
    points: int
    today: bool


@dataclass(frozen=True, slots=True)
class PreparedSeries:
    """A checked request: nothing but the streams is left to be read."""

    automation: str
    wanted: SeriesWanted
    run: PastRun


def prepare(
    connection: Connection,
    principal: Principal,
    entity_name: str,
    automation_id: str,
    query: SeriesQuery,
    *,
    settings: Settings,
    now: datetime,
) -> PreparedSeries:
    """Check a request, and read what it needs from the database.

    Raises:
        NotFound: when there is no such automation.
        InvalidDefinition: naming each fault.
    """
    entity = require(connection, principal, entity_name, Action.READ)
    stored = load_automation(connection, entity, automation_id)
    faults: list[FieldError] = []
    of_scope = stored.definition["scope"].get("project")
    run, project, points = query.run, query.project, query.points
    if project is None and of_scope is None:
        faults.append(FieldError(("project",), "is required, since the automation watches more than one project"))
    if not stored.definition.get("conditions"):
        faults.append(FieldError(("automation_id",), "must be an automation with metric conditions"))
    if not 4 <= points <= MAX_POINTS:
        faults.append(FieldError(("points",), f"must be between 4 and {MAX_POINTS}"))
    if not run:
        faults.append(FieldError(("run",), "is required: the run's id"))
    if faults or not run:
        raise InvalidDefinition(*faults)
    time_range = parse_time_range(query.since or "1970-01-01T00:00:00Z", query.until, now)
    wanted = SeriesWanted(project or of_scope, run, points, query.today)
    return PreparedSeries(automation_id, wanted, prepare_series(connection, stored, wanted, time_range, settings, now))


def read(prepared: PreparedSeries, redis: Redis, partitions: int, engine: Engine) -> SeriesView:
    """Read the series. Raises `redis.exceptions.RedisError`."""
    found = read_series(prepared.run, prepared.wanted, redis, partitions, engine)
    return SeriesView(
        automation=prepared.automation,
        run=prepared.wanted.run,
        project=prepared.wanted.project,
        series=list(found.series),
        events=found.events,
        windows_began_at=found.windows_began_at,
        truncated=found.truncated,
        read_until=found.read_until,
    )
