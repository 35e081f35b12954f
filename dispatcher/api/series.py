"""`GET /v1/entities/{entity}/automations/{automation_id}/series`."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated

from fastapi import APIRouter, Query

from dispatcher.api.authentication import PrincipalDep
from dispatcher.api.event_log import streams
from dispatcher.api.resources import ApiResources, ResourcesDep
from dispatcher.control import series
from dispatcher.control.series import DEFAULT_POINTS, SeriesQuery, SeriesView
from shared.domain.explain.series import MAX_POINTS
from shared.storage.accounts.users import Principal
from shared.storage.database.transactions import read_transaction

router = APIRouter(prefix="/v1/entities/{entity}/automations", tags=["automations"])


@router.get("/{automation_id}/series")
async def get_series(
    entity: str,
    automation_id: str,
    principal: PrincipalDep,
    resources: ResourcesDep,
    run: Annotated[str | None, Query(description="The run's id; it is required.")] = None,
    project: Annotated[str | None, Query(description="The run's project; that of the scope by default.")] = None,
    since: Annotated[str | None, Query(description="From this time on: RFC 3339, or `1h`; all by default.")] = None,
    until: Annotated[str | None, Query(description="Before this time: RFC 3339, or `1h`; now by default.")] = None,
    points: Annotated[int, Query(ge=4, le=MAX_POINTS, description="How many points a series has, about.")] = (
        DEFAULT_POINTS
    ),
    today: Annotated[bool, Query(description="By what the automation is now, not by what it was then.")] = False,
) -> SeriesView:
    """Get the numbers that each metric condition saw of a run: value, what was compared, bound and outcome.

    Long series are thinned out: of each stretch the least and greatest values and numbers compared stay, and all points
    that fired.
    """
    query = SeriesQuery(run, project, since, until, points, today)
    return await resources.threads.dry_runs.run(
        principal.user_id, _get_series, entity, automation_id, principal, resources, query
    )


def _get_series(
    entity: str, automation_id: str, principal: Principal, resources: ApiResources, query: SeriesQuery
) -> SeriesView:
    with read_transaction(resources.engine) as connection:
        prepared = series.prepare(
            connection,
            principal,
            entity,
            automation_id,
            query,
            settings=resources.settings,
            now=datetime.now(UTC),
        )
    with streams(resources) as redis:
        return series.read(prepared, redis, resources.settings.partitions, resources.engine)
