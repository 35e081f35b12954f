"""`GET /v1/entities/{entity}/events` and `GET /v1/events`: the events that are kept."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from typing import Annotated

from fastapi import APIRouter, Depends, Query
from redis import Redis
from redis.exceptions import RedisError

from dispatcher.api.authentication import PrincipalDep
from dispatcher.api.bodies import Paging
from dispatcher.api.problems import RETRY_AFTER_SECONDS, Problem
from dispatcher.api.resources import ApiResources, ResourcesDep
from dispatcher.control import event_log
from dispatcher.control.event_log import EventQuery
from dispatcher.control.event_views import EntryPage, EventDetail, EventPage
from dispatcher.control.paging import DEFAULT_LIMIT, MAX_LIMIT, PageRequest
from shared.domain.events.types import EventType
from shared.dry_runs.event_search import EntryKind
from shared.messaging.redis_clients import open_redis
from shared.storage.accounts.users import Principal

router = APIRouter(prefix="/v1", tags=["events"])


async def _query(
    type: Annotated[EventType | None, Query(description="Events of this type.")] = None,
    project: Annotated[str | None, Query(description="Events of this project or registry.")] = None,
    run: Annotated[str | None, Query(description="Events about the run with this id.")] = None,
    collection: Annotated[str | None, Query(description="Events about the collection of this name.")] = None,
    author: Annotated[str | None, Query(description="Events by this author.")] = None,
    source: Annotated[str | None, Query(description="Events of this source.")] = None,
    id: Annotated[str | None, Query(description="Events with this id.")] = None,
    since: Annotated[str | None, Query(description="Received at this time or later: RFC 3339, or `1h`.")] = None,
    until: Annotated[str | None, Query(description="Received before this time: RFC 3339, or `1h`.")] = None,
    limit: Annotated[int, Query(ge=1, le=MAX_LIMIT)] = DEFAULT_LIMIT,
    cursor: Annotated[str | None, Query(description="The `next` or `previous` of another page.")] = None,
) -> EventQuery:
    return EventQuery(**locals())


Wanted = Annotated[EventQuery, Depends(_query)]


@router.get("/entities/{entity}/events")
async def list_events(entity: str, principal: PrincipalDep, resources: ResourcesDep, wanted: Wanted) -> EventPage:
    """List the kept events of the entity and of its teams, newest first. `previous` leads to those that come later.

    A page looks at 20,000 entries at most; if it ends there, `complete` is false and `next` goes on.
    """
    return await resources.threads.dry_runs.run(principal.user_id, _list_events, entity, principal, resources, wanted)


def _list_events(entity: str, principal: Principal, resources: ApiResources, wanted: EventQuery) -> EventPage:
    with streams(resources) as redis:
        return event_log.list_events(
            resources.engine, principal, entity, wanted, redis, resources.settings, datetime.now(UTC)
        )


@router.get("/entities/{entity}/events/one")
async def get_event(
    entity: str,
    principal: PrincipalDep,
    resources: ResourcesDep,
    page: Paging,
    entry: Annotated[str | None, Query(description="The `entry` of an event in the list.")] = None,
    id: Annotated[str | None, Query(description="Instead: the event's id; the newest that has it.")] = None,
    source: Annotated[str | None, Query(description="With `id`: the event's source.")] = None,
) -> EventDetail:
    """Get one event, and what each automation of the entity made of it: what fired, what was skipped, which term said
    no, and which automations were disabled or not there. `limit` and `cursor` page through the automations.
    """
    return await resources.threads.dry_runs.run(
        principal.user_id, _get_event, entity, principal, resources, page, entry, id, source
    )


def _get_event(
    entity: str,
    principal: Principal,
    resources: ApiResources,
    page: PageRequest,
    entry: str | None,
    event_id: str | None,
    source: str | None,
) -> EventDetail:
    with streams(resources) as redis:
        return event_log.get_event(
            resources.engine,
            principal,
            entity,
            entry=entry,
            event_id=event_id,
            source=source,
            page=page,
            redis=redis,
            settings=resources.settings,
            now=datetime.now(UTC),
        )


@router.get("/events")
async def list_entries(
    principal: PrincipalDep,
    resources: ResourcesDep,
    wanted: Wanted,
    kind: Annotated[EntryKind | None, Query(description="Only entries of this kind.")] = None,
) -> EntryPage:
    """List the entries of the streams of all entities, newest first: events, events of entities that do not exist, and
    poison entries, which are no events. For instance administrators.
    """
    return await resources.threads.dry_runs.run(principal.user_id, _list_entries, principal, resources, wanted, kind)


def _list_entries(
    principal: Principal, resources: ApiResources, wanted: EventQuery, kind: EntryKind | None
) -> EntryPage:
    with streams(resources) as redis:
        return event_log.list_entries(
            resources.engine, principal, wanted, kind, redis, resources.settings, datetime.now(UTC)
        )


@contextmanager
def streams(resources: ApiResources) -> Iterator[Redis]:
    """A client of the server with the streams. Raises Problem (503) when it is away."""
    with closing(open_redis(resources.settings)) as redis:
        try:
            yield redis
        except (RedisError, OSError) as exc:
            detail = "the server with the event streams can't be reached: try again"
            raise Problem(503, "unavailable", detail, headers={"Retry-After": RETRY_AFTER_SECONDS}) from exc
