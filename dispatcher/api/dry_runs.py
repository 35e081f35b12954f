"""`POST /v1/entities/{entity}/automations/dry-run`."""

from __future__ import annotations

from contextlib import closing
from datetime import UTC, datetime
from time import monotonic
from typing import Any

from fastapi import APIRouter, Response
from redis.exceptions import RedisError

from dispatcher.api.answers import json_answer
from dispatcher.api.authentication import PrincipalDep
from dispatcher.api.bodies import ManifestJson, accepts
from dispatcher.api.problems import RETRY_AFTER_SECONDS, Problem
from dispatcher.api.resources import ApiResources, ResourcesDep
from dispatcher.control import dry_runs
from dispatcher.control.dry_runs import DryRunBody, DryRunView
from shared.messaging.redis_clients import open_redis
from shared.storage.accounts.users import Principal
from shared.storage.database.transactions import read_transaction

router = APIRouter(prefix="/v1/entities/{entity}/automations", tags=["automations"])

MAX_SECONDS = 10.0
"""As long as a GraphQL document may take."""


@router.post("/dry-run", response_model=DryRunView, openapi_extra=accepts(DryRunBody))
async def dry_run(entity: str, body: ManifestJson, principal: PrincipalDep, resources: ResourcesDep) -> Response:
    """Dry-run an automation: what would fire, and why. Nothing is stored or sent.

    Given events are tried in order, starting with empty metric windows; each counts as received at its own `time`. A
    time range is tried from its start, without state from before. For a saved automation it is explained by what the
    automation and its webhook were at the time of each event, and by what was recorded; with `today` by what they are
    now.
    """
    return await resources.threads.dry_runs.run(principal.user_id, _dry_run, entity, body, principal, resources)


def _dry_run(entity: str, body: Any, principal: Principal, resources: ApiResources) -> Response:
    with read_transaction(resources.engine) as connection:
        prepared = dry_runs.prepare(
            connection, principal, entity, body, now=datetime.now(UTC), settings=resources.settings
        )
    with closing(open_redis(resources.settings)) as redis:
        try:
            view = dry_runs.run(
                prepared, redis, resources.settings.partitions, resources.engine, until=monotonic() + MAX_SECONDS
            )
        except (RedisError, OSError) as exc:
            detail = "the server with the event streams can't be reached: try again"
            raise Problem(503, "unavailable", detail, headers={"Retry-After": RETRY_AFTER_SECONDS}) from exc
    return json_answer(view)
