"""`/v1/entities/{entity}/deliveries`."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query, Request
from pydantic import BaseModel

from dispatcher.api.authentication import PrincipalDep
from dispatcher.api.bodies import JsonBody, Paging, accepts
from dispatcher.api.parts import PartsDep
from dispatcher.control import deliveries
from dispatcher.control.deliveries import DeliveryDetail, DeliveryQuery, DeliveryView
from dispatcher.control.paging import Page
from shared.storage.engine import reading, writing

router = APIRouter(prefix="/v1/entities/{entity}/deliveries", tags=["deliveries"])

_OfPage = frozenset({"limit", "cursor"})


class ReplayCount(BaseModel):
    """How many deliveries were put into the queue again."""

    replayed: int


@router.get("")
def list_deliveries(
    request: Request,
    entity: str,
    principal: PrincipalDep,
    parts: PartsDep,
    page: Paging,
    status: Annotated[str | None, Query(description="pending, delivered, dead, refused or skipped.")] = None,
    automation: Annotated[str | None, Query(description="An automation's id or name.")] = None,
    webhook: Annotated[str | None, Query(description="A webhook's id or name.")] = None,
    event: Annotated[str | None, Query(description="An event's id.")] = None,
    since: Annotated[str | None, Query(description="Made at this time or later (RFC 3339).")] = None,
    until: Annotated[str | None, Query(description="Made before this time (RFC 3339).")] = None,
) -> Page[DeliveryView]:
    """The entity's deliveries that match, newest first."""
    wanted = {
        "status": status,
        "automation": automation,
        "webhook": webhook,
        "event": event,
        "since": since,
        "until": until,
    }
    # A misspelt criterion must not list everything.
    misspelt = {name: None for name in request.query_params if name not in wanted and name not in _OfPage}
    with reading(parts.engine) as connection:
        return deliveries.listed(connection, principal, entity, {**wanted, **misspelt}, page)


@router.post("/replay", status_code=202, openapi_extra=accepts(DeliveryQuery))
def replay_deliveries(entity: str, body: JsonBody, principal: PrincipalDep, parts: PartsDep) -> ReplayCount:
    """Deliver again all that match at least one criterion, as new deliveries with the same payloads."""
    with writing(parts.engine) as connection:
        replayed = deliveries.replay_matching(connection, principal, entity, body)
    parts.wake(replayed.webhook_ids)
    return ReplayCount(replayed=len(replayed.ids))


@router.get("/{delivery_id}")
def get_delivery(entity: str, delivery_id: str, principal: PrincipalDep, parts: PartsDep) -> DeliveryDetail:
    """One delivery with its payload, secrets masked, and its attempts."""
    with reading(parts.engine) as connection:
        return deliveries.get(connection, principal, entity, delivery_id)


@router.post("/{delivery_id}/replay", status_code=202)
def replay_delivery(entity: str, delivery_id: str, principal: PrincipalDep, parts: PartsDep) -> DeliveryDetail:
    """Deliver one again; answers with the new delivery, which names the old one."""
    with writing(parts.engine) as connection:
        replayed = deliveries.replay_one(connection, principal, entity, delivery_id)
        new = deliveries.get(connection, principal, entity, replayed.ids[0])
    parts.wake(replayed.webhook_ids)
    return new
