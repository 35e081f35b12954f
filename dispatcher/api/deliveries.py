"""`/v1/entities/{entity}/deliveries`."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query, Request, Response
from fastapi.responses import StreamingResponse
from pydantic import BaseModel, WithJsonSchema
from sqlalchemy import Engine

from dispatcher.api.answers import json_answer
from dispatcher.api.authentication import PrincipalDep
from dispatcher.api.bodies import HEAD_ONLY, JsonBody, TwoWayPaging, accepts
from dispatcher.api.idempotency import OnceDep
from dispatcher.api.list_queries import EventTypeName
from dispatcher.api.resources import ApiResources, ResourcesDep
from dispatcher.control import deliveries, exports, replays
from dispatcher.control.deliveries import ReplayPreview, ReplayQuery, Selection
from dispatcher.control.delivery_views import DeliveryDetail, DeliveryView
from dispatcher.control.exports import MEDIA_TYPES, ExportFormat
from dispatcher.control.paging import TwoWayPage
from dispatcher.control.replays import ReplayView
from shared.domain.errors import InvalidDefinition
from shared.storage.accounts.users import Principal
from shared.storage.database.transactions import read_transaction
from shared.storage.delivery.history import DeliveryStatus

router = APIRouter(prefix="/v1/entities/{entity}/deliveries", tags=["deliveries"])

EXPORT_PAGE = 500
"""Rows that an export reads in one query and holds in memory."""
EXPORTED: dict[str, Any] = {
    "description": "The file.",
    "content": {media_type: {"schema": {"type": "string"}} for media_type in MEDIA_TYPES.values()},
}


class ReplayCount(BaseModel):
    """The number of deliveries that were replayed."""

    replayed: int
    last_due_at: datetime | None
    """When the last of them is due; null when there are none."""
    id: str | None = None
    """Of this replay, to see how far it has come and to stop it; null when there are none."""


_STATUS = WithJsonSchema({"type": "string", "enum": [str(status) for status in DeliveryStatus]})


async def _criteria(
    *,
    status: Annotated[
        list[Annotated[str, _STATUS]] | None, Query(description="Given several times: any will do.")
    ] = None,
    automation: Annotated[str | None, Query(description="An automation's id or name.")] = None,
    webhook: Annotated[str | None, Query(description="A webhook's or Slack integration's id or name.")] = None,
    event: Annotated[str | None, Query(description="An event's id.")] = None,
    event_type: Annotated[list[EventTypeName] | None, Query(description="Given several times: any will do.")] = None,
    project: Annotated[str | None, Query(description="The project or registry of the event.")] = None,
    run: Annotated[str | None, Query(description="The id of the event's run.")] = None,
    collection: Annotated[str | None, Query(description="The collection of the event, such as a model's name.")] = None,
    response_code: Annotated[
        list[int] | None, Query(description="An attempt was answered with it. Given several times: any will do.")
    ] = None,
    min_attempts: Annotated[int | None, Query(description="At least so many attempts.")] = None,
    max_attempts: Annotated[int | None, Query(description="At most so many attempts.")] = None,
    reason: Annotated[str | None, Query(description="A part of the reason, in any case.")] = None,
    since: Annotated[
        str | None, Query(description="Created at this time or later (RFC 3339), or so long ago: 1h.")
    ] = None,
    until: Annotated[str | None, Query(description="Created before this time (RFC 3339), or longer ago: 1h.")] = None,
) -> dict[str, Any]:
    given = locals()
    return {name: value for name, value in given.items() if value is not None}


Criteria = Annotated[dict[str, Any], Depends(_criteria)]


@router.get("", response_model=TwoWayPage[DeliveryView])
def list_deliveries(
    entity: str, principal: PrincipalDep, resources: ResourcesDep, page: TwoWayPaging, wanted: Criteria
) -> Response:
    """List the deliveries that match, newest first.

    A page may have fewer deliveries than `limit`, or none, while there are more: only `next` says so.
    """
    with read_transaction(resources.engine) as connection:
        found = deliveries.list_deliveries(connection, principal, entity, wanted, page)
    return json_answer(found)


@router.get("/export", response_class=Response, responses={200: EXPORTED})
async def export_deliveries(
    request: Request,
    entity: str,
    principal: PrincipalDep,
    resources: ResourcesDep,
    wanted: Criteria,
    form: Annotated[str, Query(alias="format", description="csv or jsonl.", examples=["csv"])] = ExportFormat.CSV,
) -> Response:
    """Export all deliveries that match, newest first, without payloads. An answer that breaks off is incomplete."""
    only_head = getattr(request.state, HEAD_ONLY, False)
    return await export_answer(resources, principal, entity, wanted, form, only_head=only_head)


async def export_answer(
    resources: ApiResources,
    principal: Principal,
    entity: str,
    wanted: dict[str, Any],
    form: str,
    *,
    only_head: bool = False,
) -> Response:
    """A file with all deliveries that match. Raises InvalidDefinition for a query or form that is none."""
    chosen = _form(form)
    threads, user_id = resources.threads.exports, principal.user_id
    export = await threads.run(user_id, _begin_export, resources.engine, principal, entity, wanted, chosen)
    headers = {"Content-Disposition": f'attachment; filename="deliveries.{chosen}"'}
    if only_head:
        return StreamingResponse(iter(()), headers=headers, media_type=MEDIA_TYPES[chosen])
    return StreamingResponse(
        _stream_export(export, partial(threads.run, user_id, _go_on, export)),
        headers=headers,
        media_type=MEDIA_TYPES[chosen],
    )


def _form(text: str) -> ExportFormat:
    try:
        return ExportFormat(text)
    except ValueError:
        raise InvalidDefinition.at(("format",), f"must be {' or '.join(ExportFormat)}") from None


@dataclass(slots=True)
class _Export:
    """An export that was begun: its next piece, and where the one after it goes on."""

    engine: Engine
    selection: Selection
    form: ExportFormat
    piece: str
    before: int | None


def _begin_export(
    engine: Engine, principal: Principal, entity: str, wanted: dict[str, str | None], form: ExportFormat
) -> _Export:
    with read_transaction(engine) as connection:
        selection = deliveries.select_deliveries(connection, principal, entity, wanted)
        views, before = deliveries.read_next(connection, selection, before=None, limit=EXPORT_PAGE)
    return _Export(engine, selection, form, exports.format_header(form) + exports.format_page(views, form), before)


def _go_on(export: _Export) -> None:
    """Read the next page, in a transaction of its own, so that a slow reader keeps none open."""
    with read_transaction(export.engine) as connection:
        views, export.before = deliveries.read_next(
            connection, export.selection, before=export.before, limit=EXPORT_PAGE
        )
    export.piece = exports.format_page(views, export.form)


async def _stream_export(export: _Export, go_on: Callable[[], Awaitable[None]]) -> AsyncIterator[str]:
    yield export.piece
    while export.before is not None:
        await go_on()
        yield export.piece


@router.post("/replay", status_code=202, openapi_extra=accepts(ReplayQuery))
def replay_deliveries(
    entity: str, body: JsonBody, principal: PrincipalDep, resources: ResourcesDep, once: OnceDep
) -> ReplayCount:
    """Replay all deliveries that match, as new deliveries with the same payloads. At least one filter is required.

    With `rate` they are spread over time, in the order in which the old ones were created.
    """
    with once.writing() as connection:
        replayed = deliveries.replay_matching(connection, principal, entity, body)
        number = replays.replay_id(connection, replayed.ids)
    resources.wake(replayed.webhook_ids)
    return ReplayCount(replayed=len(replayed.ids), last_due_at=replayed.last_due_at, id=number)


@router.get("/replays/{replay_id}")
def get_replay(entity: str, replay_id: str, principal: PrincipalDep, resources: ResourcesDep) -> ReplayView:
    """How far a replay of many deliveries has come."""
    with read_transaction(resources.engine) as connection:
        return replays.get(connection, principal, entity, replay_id)


@router.post("/replays/{replay_id}/stop")
def stop_replay(
    entity: str, replay_id: str, principal: PrincipalDep, resources: ResourcesDep, once: OnceDep
) -> ReplayView:
    """Hold back what waits of a replay. Requests that are underway go on."""
    with once.writing() as connection:
        return replays.stop(connection, principal, entity, replay_id)


@router.get("/replayable")
def preview_replay(
    entity: str,
    principal: PrincipalDep,
    resources: ResourcesDep,
    wanted: Criteria,
    unreplayed: Annotated[bool, Query(description="Leave out deliveries that were replayed before.")] = False,
) -> ReplayPreview:
    """Count the deliveries that a replay with these filters would send. Nothing is changed."""
    with read_transaction(resources.engine) as connection:
        return deliveries.preview_replay(connection, principal, entity, wanted, unreplayed=unreplayed)


@router.get("/{delivery_id}")
def get_delivery(entity: str, delivery_id: str, principal: PrincipalDep, resources: ResourcesDep) -> DeliveryDetail:
    """Get one delivery with its payload, secrets masked, and its attempts."""
    with read_transaction(resources.engine) as connection:
        return deliveries.get(connection, principal, entity, delivery_id)


@router.post("/{delivery_id}/replay", status_code=202)
def replay_delivery(
    entity: str, delivery_id: str, principal: PrincipalDep, resources: ResourcesDep, once: OnceDep
) -> DeliveryDetail:
    """Replay one delivery. The answer is the new delivery, which names the old one."""
    with once.writing() as connection:
        replayed = deliveries.replay_one(connection, principal, entity, delivery_id)
        new = deliveries.get(connection, principal, entity, replayed.ids[0])
    resources.wake(replayed.webhook_ids)
    return new
