"""`/v1/entities`, and the projects and collections in them."""

from __future__ import annotations

from typing import Annotated, Literal

from fastapi import APIRouter, Query, Response

from dispatcher.api.authentication import PrincipalDep
from dispatcher.api.bodies import JsonBody, Paging, accepts
from dispatcher.api.path_names import PathName
from dispatcher.api.resources import ResourcesDep
from dispatcher.control import catalog, removal
from dispatcher.control.catalog import (
    CollectionBody,
    CollectionView,
    EntityBody,
    EntityDetail,
    EntityPatchBody,
    EntityView,
    ProjectBody,
    ProjectView,
)
from dispatcher.control.paging import Page
from shared.storage.database.transactions import read_transaction, write_transaction

router = APIRouter(prefix="/v1/entities", tags=["catalog"])

NamePart = Annotated[str | None, Query(min_length=1, max_length=512, description="A part of the name, in any case.")]


@router.get("")
def list_entities(principal: PrincipalDep, resources: ResourcesDep, page: Paging) -> Page[EntityView]:
    """List the entities in which the key has a role."""
    with read_transaction(resources.engine) as connection:
        return catalog.list_entities(connection, principal, page)


@router.get("/{entity}")
def get_entity(entity: str, principal: PrincipalDep, resources: ResourcesDep) -> EntityDetail:
    """One entity, with its quotas: how much it may have, and how much it has."""
    with read_transaction(resources.engine) as connection:
        return catalog.get_entity(connection, principal, entity)


@router.put("/{entity}", openapi_extra=accepts(EntityBody), responses={201: {"model": EntityDetail}})
def put_entity(
    entity: str, body: JsonBody, principal: PrincipalDep, resources: ResourcesDep, response: Response
) -> EntityDetail:
    """Create an entity (201) or change it (200); its quotas stay. For instance administrators."""
    with write_transaction(resources.engine) as connection:
        view, created = catalog.put_entity(connection, principal, entity, body)
    response.status_code = 201 if created else 200
    return view


@router.patch("/{entity}", openapi_extra=accepts(EntityPatchBody, partly=True))
def change_entity(entity: str, body: JsonBody, principal: PrincipalDep, resources: ResourcesDep) -> EntityDetail:
    """Change settings of an entity, for its administrators, or its quotas, for instance administrators."""
    with write_transaction(resources.engine) as connection:
        changed = catalog.change_entity(connection, principal, entity, body)
    resources.event_rates.forget()
    return changed


@router.delete("/{entity}", status_code=204)
def delete_entity(entity: str, principal: PrincipalDep, resources: ResourcesDep) -> None:
    """Delete an entity that was never used. For instance administrators."""
    with write_transaction(resources.engine) as connection:
        removal.delete_entity(connection, principal, entity)
    resources.callers.clear()


@router.get("/{entity}/projects")
def list_projects(
    entity: str,
    principal: PrincipalDep,
    resources: ResourcesDep,
    page: Paging,
    text: NamePart = None,
    kind: Annotated[
        Literal["project", "registry"] | None, Query(description="Only registries, or only other projects.")
    ] = None,
) -> Page[ProjectView]:
    """The entity's projects and registries."""
    registries = None if kind is None else kind == "registry"
    with read_transaction(resources.engine) as connection:
        return catalog.list_projects(connection, principal, entity, page, text=text, registries=registries)


@router.put("/{entity}/projects/{project}", openapi_extra=accepts(ProjectBody))
def put_project(
    entity: str, project: PathName, body: JsonBody, principal: PrincipalDep, resources: ResourcesDep
) -> ProjectView:
    """Create a project, or change its description."""
    with write_transaction(resources.engine) as connection:
        return catalog.put_project(connection, principal, entity, project, body)


@router.get("/{entity}/projects/{project}/collections")
def list_project_collections(
    entity: str, project: PathName, principal: PrincipalDep, resources: ResourcesDep, page: Paging
) -> Page[CollectionView]:
    """The collections of one project."""
    with read_transaction(resources.engine) as connection:
        return catalog.list_collections(connection, principal, entity, project, page)


@router.put("/{entity}/projects/{project}/collections/{collection}", openapi_extra=accepts(CollectionBody))
def put_collection(
    entity: str,
    project: PathName,
    collection: PathName,
    body: JsonBody,
    principal: PrincipalDep,
    resources: ResourcesDep,
) -> CollectionView:
    """Create a collection, or set its type."""
    with write_transaction(resources.engine) as connection:
        return catalog.put_collection(connection, principal, entity, project, collection, body)


@router.get("/{entity}/collections")
def list_collections(
    entity: str, principal: PrincipalDep, resources: ResourcesDep, page: Paging, text: NamePart = None
) -> Page[CollectionView]:
    """All collections of the entity."""
    with read_transaction(resources.engine) as connection:
        return catalog.list_collections(connection, principal, entity, None, page, text=text)
