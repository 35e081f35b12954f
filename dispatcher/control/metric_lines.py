"""The metrics that a project's runs logged, for those who may read the entity."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from redis import Redis
from sqlalchemy import Engine

from dispatcher.control.access import Action, require
from shared.domain.errors import InvalidDefinition
from shared.dry_runs.kept_entries import KeptEntries
from shared.dry_runs.metric_lines import MetricLines, read_metric_lines
from shared.dry_runs.time_range import parse_moment, unix_ms
from shared.settings import Settings
from shared.storage.accounts.users import Principal
from shared.storage.database.transactions import read_transaction
from shared.storage.evaluation.event_log import EventLog


@dataclass(frozen=True, slots=True)
class MetricQuery:
    """Which metrics are meant."""

    project: str
    metric: str | None = None
    run: str | None = None
    since: str | None = None
    """RFC 3339, or how long ago, such as `1h`; None for all that is kept."""


def list_metric_lines(
    engine: Engine,
    principal: Principal,
    entity_name: str,
    query: MetricQuery,
    redis: Redis,
    settings: Settings,
    now: datetime,
) -> MetricLines:
    """The lines of a project's metrics, newest first.

    Raises:
        InvalidDefinition: for a time that can't be understood.
        redis.exceptions.RedisError: when the streams can't be read.
    """
    with read_transaction(engine) as connection:
        entity = require(connection, principal, entity_name, Action.READ)
    if not query.project:
        raise InvalidDefinition.at(("project",), "is required: the name of a project")
    since_ms = 0 if query.since is None else unix_ms(parse_moment("since", query.since, now))
    return read_metric_lines(
        KeptEntries(redis, settings.partitions, EventLog(engine)),
        entity.name,
        query.project,
        since_ms=since_ms,
        metric=query.metric,
        run=query.run,
    )
