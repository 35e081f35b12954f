"""`/v1/entities/{entity}/apply` and `…/export`: definitions as a whole."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter
from pydantic import BaseModel

from dispatcher.api.authentication import PrincipalDep
from dispatcher.api.bodies import ManifestJson, accepts
from dispatcher.api.parts import PartsDep
from dispatcher.control import manifests
from dispatcher.control.manifests import Change, ManifestBody
from shared.storage.engine import reading, writing

router = APIRouter(prefix="/v1/entities/{entity}", tags=["manifests"])


class Changes(BaseModel):
    """What applying a manifest did, or would do."""

    changes: list[Change]


@router.post("/apply", openapi_extra=accepts(ManifestBody))
def apply(entity: str, body: ManifestJson, principal: PrincipalDep, parts: PartsDep, dry_run: bool = False) -> Changes:
    """Bring webhooks and automations to what a manifest says, all of it or nothing."""
    with writing(parts.engine) as connection:
        changes = manifests.apply(connection, principal, entity, body, checks=parts.checks, dry_run=dry_run)
    return Changes(changes=changes)


@router.get("/export")
def export(entity: str, principal: PrincipalDep, parts: PartsDep) -> dict[str, list[dict[str, Any]]]:
    """Webhooks and automations in the form that `apply` takes."""
    with reading(parts.engine) as connection:
        return manifests.export(connection, principal, entity)
