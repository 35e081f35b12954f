"""`/v1/entities/{entity}/apply` and `…/export`: definitions as a whole."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Query, Response
from pydantic import BaseModel

from dispatcher.api.answers import json_answer
from dispatcher.api.authentication import PrincipalDep
from dispatcher.api.bodies import ManifestJson, accepts
from dispatcher.api.idempotency import OnceDep
from dispatcher.api.resources import ResourcesDep
from dispatcher.control import manifest_export, manifests
from dispatcher.control.manifests import Change, ManifestBody
from shared.storage.database.transactions import read_transaction, write_transaction

router = APIRouter(prefix="/v1/entities/{entity}", tags=["manifests"])


class Changes(BaseModel):
    """The changes by a manifest."""

    changes: list[Change]


class Manifest(BaseModel):
    """A manifest for `apply`."""

    projects: list[dict[str, Any]] = []
    """With `projects=true`."""
    webhooks: list[dict[str, Any]]
    slack: list[dict[str, Any]] = []
    """Left out when there is none."""
    automations: list[dict[str, Any]]
    sources: list[dict[str, Any]] = []
    """Left out when there is none."""


@router.post("/apply", openapi_extra=accepts(ManifestBody))
async def apply(
    entity: str,
    body: ManifestJson,
    principal: PrincipalDep,
    resources: ResourcesDep,
    once: OnceDep,
    dry_run: Annotated[bool, Query(description="Only report what would change.")] = False,
) -> Changes:
    """Apply a manifest of projects, webhooks, Slack integrations, automations and sources: all of it, or nothing."""

    def write() -> Changes:
        with write_transaction(resources.engine) if dry_run else once.writing() as connection:
            changes = manifests.apply(connection, principal, entity, body, checks=resources.checks, dry_run=dry_run)
        return Changes(changes=changes)

    changes = await resources.threads.manifests.run(principal.user_id, write)
    resources.sources.clear()
    return changes


@router.get("/export", response_model=Manifest, response_model_exclude_unset=True)
async def export(
    entity: str,
    principal: PrincipalDep,
    resources: ResourcesDep,
    projects: Annotated[bool, Query(description="Also the projects and collections.")] = False,
) -> Response:
    """Export webhooks, automations and sources in the form that `apply` takes."""

    def read() -> Response:
        with read_transaction(resources.engine) as connection:
            manifest = Manifest(**manifest_export.export(connection, principal, entity, projects=projects))
        return json_answer(manifest, exclude_unset=True)

    return await resources.threads.manifests.run(principal.user_id, read)
