"""Previews for people who edit an automation: `shared.dry_runs.preview`, for those who may dry-run it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from time import monotonic
from typing import Any

from redis import Redis
from sqlalchemy import Connection

from dispatcher.control import dry_runs
from shared.domain.errors import InvalidDefinition
from shared.domain.explain.simulator import Subject
from shared.dry_runs.preview import Preview, preview
from shared.dry_runs.time_range import TimeRange
from shared.settings import Settings
from shared.storage.accounts.users import Principal

SHOWN = 20
MAX_SECONDS = 3.0
"""As long as a preview reads: somebody types meanwhile, and waits for it."""


@dataclass(frozen=True, slots=True)
class PreparedPreview:
    """A checked definition and a time range: nothing but the streams is left to be read."""

    subject: Subject
    time_range: TimeRange


def prepare(
    connection: Connection,
    principal: Principal,
    entity_name: str,
    definition: dict[str, Any],
    since: str,
    *,
    now: datetime,
    settings: Settings,
) -> PreparedPreview:
    """Check a definition. Raises InvalidDefinition, at the definition's own members."""
    raw = {"definition": definition, "since": since}
    try:
        prepared = dry_runs.prepare(connection, principal, entity_name, raw, now=now, settings=settings)
    except InvalidDefinition as exc:
        own = ((error.loc[1:] if error.loc[:1] == ("definition",) else error.loc, error.msg) for error in exc.errors)
        raise InvalidDefinition(*(type(exc.errors[0])(loc, msg) for loc, msg in own)) from None
    assert prepared.subject is not None and isinstance(prepared.source, TimeRange)  # noqa: S101 - a draft's
    return PreparedPreview(prepared.subject, prepared.source)


def run(prepared: PreparedPreview, redis: Redis, partitions: int) -> Preview:
    """Read the streams. Raises `redis.exceptions.RedisError`."""
    return preview(
        prepared.subject, redis, partitions, prepared.time_range, shown=SHOWN, until=monotonic() + MAX_SECONDS
    )
