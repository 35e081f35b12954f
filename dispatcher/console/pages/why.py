"""Why did it not fire? What an automation made of the events of the last hours, and which term said no."""

from __future__ import annotations

from contextlib import closing
from datetime import UTC, datetime
from time import monotonic
from typing import Any

from fastapi import APIRouter, Request, Response
from redis.exceptions import RedisError

from dispatcher.api.resources import ApiResources
from dispatcher.console.entities import EntityDep, EntityVisit
from dispatcher.console.listing import list_url
from dispatcher.console.rendering import render
from dispatcher.console.visitors import ResourcesDep
from dispatcher.console.words import OUTCOMES, REASONS, STATUSES
from dispatcher.control import automations, dry_runs
from dispatcher.control.dry_runs import DryRunView
from shared.domain.errors import InvalidDefinition
from shared.domain.explain.dry_run import DryRunResult
from shared.domain.explain.simulator import DryRunOutcome, Reason
from shared.messaging.redis_clients import open_redis
from shared.storage.database.transactions import read_transaction

router = APIRouter(prefix="/e/{entity}/why")
SINCE = ("15m", "1h", "6h", "24h", "7d")
LOOKED_AT = 200
SHOWN = 30
MAX_CHOICES = 200
"""Of more automations one is chosen by typing its name, for which so many are proposed."""
MAX_SECONDS = 5.0
"""As long as the streams are read for an answer."""


@router.get("")
def why_page(request: Request, visit: EntityDep, resources: ResourcesDep) -> Response:
    """The question, and its answer once an automation is chosen."""
    url = list_url(request, ("automation", "event", "since"))
    chosen, event, since = url.filters["automation"], url.filters["event"], url.filters["since"] or "1h"
    one, answer, fault = None, None, ""
    with read_transaction(resources.engine) as connection:
        names = automations.list_names(connection, visit.principal, visit.entity, limit=MAX_CHOICES + 1)
        if chosen:
            one = automations.find(connection, visit.principal, visit.entity, chosen)
    if one is not None:
        try:
            answer = _explained(resources, visit, {"automation": one["id"], "since": since}, event)
        except InvalidDefinition as exc:
            fault = str(exc)
        except (RedisError, OSError):
            fault = "The server with the event streams can't be reached. Try again in a moment."
    return render(
        request,
        "why.html",
        status=422 if fault else 200,
        url=url,
        since=since,
        since_choices=SINCE,
        automation=one,
        names=names,
        is_short=len(names) <= MAX_CHOICES,
        fault=fault,
        answer=answer,
        results=[] if answer is None else _shown(answer, everything=bool(event)),
        outcome_words=OUTCOMES,
        reason_words=REASONS,
        statuses=STATUSES,
    )


def _explained(resources: ApiResources, visit: EntityVisit, question: dict[str, Any], event: str) -> DryRunView:
    """What came of the events; of one event also if it is of another type than the automation's."""
    asked = {**question, "limit": LOOKED_AT} | ({"event_id": event} if event else {})
    answer = _run(resources, visit, asked)
    return answer if answer.results or not event else _run(resources, visit, {**asked, "reason": Reason.EVENT_TYPE})


def _run(resources: ApiResources, visit: EntityVisit, asked: dict[str, Any]) -> DryRunView:
    settings, now = resources.settings, datetime.now(UTC)
    with read_transaction(resources.engine) as connection:
        prepared = dry_runs.prepare(connection, visit.principal, visit.entity, asked, now=now, settings=settings)
    with closing(open_redis(settings)) as redis:
        return dry_runs.run(prepared, redis, settings.partitions, resources.engine, until=monotonic() + MAX_SECONDS)


def _shown(answer: DryRunView, *, everything: bool) -> list[DryRunResult]:
    """The newest results, without events that are about something else unless one event is asked for."""
    wanted = [one for one in answer.results if everything or one.outcome is not DryRunOutcome.OUT_OF_SCOPE]
    return sorted(wanted, key=lambda one: one.event.received_at, reverse=True)[:SHOWN]
