"""`/v1/poison` and `/v1/dead-letters`: what went wrong in all entities, for instance administrators."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query

from dispatcher.api.authentication import PrincipalDep
from dispatcher.api.resources import ResourcesDep
from dispatcher.control import dead_letters, poison
from dispatcher.control.dead_letters import DeadLetters
from dispatcher.control.paging import DEFAULT_LIMIT, MAX_LIMIT, Page
from dispatcher.control.poison import PoisonDetail, PoisonView
from shared.storage.database.transactions import read_transaction

router = APIRouter(prefix="/v1", tags=["instance"])


@router.get("/poison")
def list_poison(
    principal: PrincipalDep,
    resources: ResourcesDep,
    limit: Annotated[int, Query(ge=1, le=MAX_LIMIT)] = DEFAULT_LIMIT,
    cursor: Annotated[str | None, Query(description="The `next` of the previous page.")] = None,
) -> Page[PoisonView]:
    """List stream entries that were set aside, the newest first. For instance administrators."""
    with read_transaction(resources.engine) as connection:
        return poison.list_poison(connection, principal, limit=limit, cursor=cursor)


@router.get("/poison/{partition}/{entry_id}")
def get_poison(partition: int, entry_id: str, principal: PrincipalDep, resources: ResourcesDep) -> PoisonDetail:
    """Get one of them with its body. For instance administrators."""
    with read_transaction(resources.engine) as connection:
        return poison.get_poison(connection, principal, partition, entry_id)


@router.get("/dead-letters")
def count_dead_letters(principal: PrincipalDep, resources: ResourcesDep) -> DeadLetters:
    """Count dead letters by webhook, most first. For instance administrators."""
    with read_transaction(resources.engine) as connection:
        return dead_letters.count_dead_letters(connection, principal)
