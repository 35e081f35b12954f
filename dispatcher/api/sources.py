"""`/v1/entities/{entity}/sources`."""

from __future__ import annotations

from functools import partial

from fastapi import APIRouter, Response
from sqlalchemy import Connection

from dispatcher.api.authentication import PrincipalDep
from dispatcher.api.bodies import JsonBody, Paging, accepts
from dispatcher.api.etags import NOT_MODIFIED, IfMatch, Version
from dispatcher.api.idempotency import OnceDep
from dispatcher.api.path_names import PathName
from dispatcher.api.resources import ApiResources, ResourcesDep
from dispatcher.control import source_trials, sources
from dispatcher.control.access import Action, require
from dispatcher.control.paging import Page
from dispatcher.control.source_checks import SourceBody
from dispatcher.control.source_trials import SourceTrialBody, SourceTrialView
from dispatcher.control.sources import RequestView, SourceView
from shared.storage.accounts.users import Principal
from shared.storage.database.transactions import read_transaction, write_transaction

router = APIRouter(prefix="/v1/entities/{entity}/sources", tags=["sources"])


@router.get("")
def list_sources(entity: str, principal: PrincipalDep, resources: ResourcesDep, page: Paging) -> Page[SourceView]:
    """The entity's sources: services whose webhooks become its events."""
    with read_transaction(resources.engine) as connection:
        return sources.list_sources(connection, principal, entity, page)


@router.post("", status_code=201, openapi_extra=accepts(SourceBody))
def create_source(
    entity: str, body: JsonBody, principal: PrincipalDep, resources: ResourcesDep, once: OnceDep, response: Response
) -> SourceView:
    """Create a source. The answer's `path` is where the service sends to."""
    with once.writing() as connection:
        created = sources.create(connection, principal, entity, body, checks=resources.checks)
    return _with_etag(response, created)


@router.get("/{source_id}", responses=NOT_MODIFIED)
def get_source(
    entity: str, source_id: str, principal: PrincipalDep, resources: ResourcesDep, response: Response
) -> SourceView:
    """One source."""
    with read_transaction(resources.engine) as connection:
        return _with_etag(response, sources.get(connection, principal, entity, source_id))


@router.patch("/{source_id}", openapi_extra=accepts(SourceBody, partly=True))
def change_source(
    entity: str,
    source_id: str,
    body: JsonBody,
    principal: PrincipalDep,
    resources: ResourcesDep,
    conditions: IfMatch,
    response: Response,
) -> SourceView:
    """Change a source by a JSON merge patch; null resets a member to its default. Its URL stays."""
    with write_transaction(resources.engine) as connection:
        conditions.check(connection, partial(_current_version, connection, principal, entity, source_id))
        changed = sources.change(connection, principal, entity, source_id, body, checks=resources.checks)
    resources.sources.clear()
    return _with_etag(response, changed)


@router.delete("/{source_id}", status_code=204)
def delete_source(
    entity: str, source_id: str, principal: PrincipalDep, resources: ResourcesDep, conditions: IfMatch
) -> None:
    """Delete a source with its history. Its URL takes nothing from then on."""
    with write_transaction(resources.engine) as connection:
        conditions.check(connection, partial(_current_version, connection, principal, entity, source_id))
        sources.delete(connection, principal, entity, source_id)
    resources.sources.clear()


@router.get("/{source_id}/requests")
def list_source_requests(
    entity: str, source_id: str, principal: PrincipalDep, resources: ResourcesDep, page: Paging
) -> Page[RequestView]:
    """The last requests to a source, newest first, with why one became no event. Secrets are masked."""
    with read_transaction(resources.engine) as connection:
        return sources.list_requests(connection, principal, entity, source_id, page)


@router.post("/{source_id}/test", openapi_extra=accepts(SourceTrialBody))
def try_source(
    entity: str, source_id: str, body: JsonBody, principal: PrincipalDep, resources: ResourcesDep
) -> SourceTrialView:
    """Show what would become of a request. Nothing is published or stored, and its proof is not checked."""
    with read_transaction(resources.engine) as connection:
        return source_trials.try_request(connection, principal, entity, source_id, body)


def _id_of(resources: ApiResources, principal: Principal, entity: str, name: str, action: Action) -> str:
    with read_transaction(resources.engine) as connection:
        return sources.source_id_of(connection, principal, entity, name, action)


@router.get("/by-name/{name}", responses=NOT_MODIFIED)
def get_source_by_name(
    entity: str, name: PathName, principal: PrincipalDep, resources: ResourcesDep, response: Response
) -> SourceView:
    """The one of this name."""
    return get_source(entity, _id_of(resources, principal, entity, name, Action.READ), principal, resources, response)


@router.patch("/by-name/{name}", openapi_extra=accepts(SourceBody, partly=True))
def change_source_by_name(
    entity: str,
    name: PathName,
    body: JsonBody,
    principal: PrincipalDep,
    resources: ResourcesDep,
    conditions: IfMatch,
    response: Response,
) -> SourceView:
    """Change the one of this name, as by its id."""
    source_id = _id_of(resources, principal, entity, name, Action.ADMINISTER)
    return change_source(entity, source_id, body, principal, resources, conditions, response)


@router.delete("/by-name/{name}", status_code=204)
def delete_source_by_name(
    entity: str, name: PathName, principal: PrincipalDep, resources: ResourcesDep, conditions: IfMatch
) -> None:
    """Delete the one of this name, as by its id."""
    source_id = _id_of(resources, principal, entity, name, Action.ADMINISTER)
    delete_source(entity, source_id, principal, resources, conditions)


def _with_etag(response: Response, view: SourceView) -> SourceView:
    Version(view.revision).put_on(response)
    return view


def _current_version(connection: Connection, principal: Principal, entity: str, source_id: str) -> Version:
    """The version that a change would replace. Raises NotFound."""
    owner = require(connection, principal, entity, Action.ADMINISTER)
    return Version(sources.load_source(connection, owner, source_id).revision)
