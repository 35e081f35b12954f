"""`/v1/entities/{entity}/automations`."""

from __future__ import annotations

from functools import partial

from fastapi import APIRouter, Response
from sqlalchemy import Connection

from dispatcher.api.answers import json_answer
from dispatcher.api.authentication import PrincipalDep
from dispatcher.api.bodies import JsonBody, accepts
from dispatcher.api.described_forms import AUTOMATION_SCHEMA
from dispatcher.api.etags import NOT_MODIFIED, IfMatch, Version
from dispatcher.api.idempotency import OnceDep
from dispatcher.api.list_queries import AutomationCriteria
from dispatcher.api.path_names import PathName
from dispatcher.api.resources import ApiResources, ResourcesDep
from dispatcher.control import automations, definition_lists
from dispatcher.control.access import Action, require
from dispatcher.control.automations import AutomationView
from dispatcher.control.paging import Page
from shared.storage.accounts.users import Principal
from shared.storage.database.transactions import read_transaction, write_transaction

router = APIRouter(prefix="/v1/entities/{entity}/automations", tags=["automations"])


@router.get("", response_model=Page[AutomationView])
def list_automations(
    entity: str, principal: PrincipalDep, resources: ResourcesDep, wanted: AutomationCriteria
) -> Response:
    """The entity's automations that match; all of them without a filter."""
    with read_transaction(resources.engine) as connection:
        found = definition_lists.list_automations(connection, principal, entity, wanted)
    return json_answer(found)


@router.post("", status_code=201, openapi_extra=accepts(AUTOMATION_SCHEMA))
def create_automation(
    entity: str, body: JsonBody, principal: PrincipalDep, once: OnceDep, response: Response
) -> AutomationView:
    """Create an automation; it applies to events that are evaluated from now on."""
    with once.writing() as connection:
        created = automations.create(connection, principal, entity, body)
    return with_etag(response, created)


@router.get("/{automation_id}", responses=NOT_MODIFIED)
def get_automation(
    entity: str, automation_id: str, principal: PrincipalDep, resources: ResourcesDep, response: Response
) -> AutomationView:
    """One automation."""
    with read_transaction(resources.engine) as connection:
        return with_etag(response, automations.get(connection, principal, entity, automation_id))


@router.patch("/{automation_id}", openapi_extra=accepts(AUTOMATION_SCHEMA, partly=True))
def change_automation(
    entity: str,
    automation_id: str,
    body: JsonBody,
    principal: PrincipalDep,
    resources: ResourcesDep,
    conditions: IfMatch,
    response: Response,
) -> AutomationView:
    """Change some members of an automation; the result is checked as a whole."""
    with write_transaction(resources.engine) as connection:
        conditions.check(connection, partial(current_version, connection, principal, entity, automation_id))
        return with_etag(response, automations.change(connection, principal, entity, automation_id, body))


@router.delete("/{automation_id}", status_code=204)
def delete_automation(
    entity: str, automation_id: str, principal: PrincipalDep, resources: ResourcesDep, conditions: IfMatch
) -> None:
    """Delete an automation; its deliveries stay in the history."""
    with write_transaction(resources.engine) as connection:
        conditions.check(connection, partial(current_version, connection, principal, entity, automation_id))
        automations.delete(connection, principal, entity, automation_id)


def _id_of(resources: ApiResources, principal: Principal, entity: str, name: str, action: Action) -> str:
    """The id of the one of this name, for who may do `action`: rights come before what there is."""
    with read_transaction(resources.engine) as connection:
        return automations.automation_id_of(connection, principal, entity, name, action)


@router.get("/by-name/{name}", responses=NOT_MODIFIED)
def get_automation_by_name(
    entity: str, name: PathName, principal: PrincipalDep, resources: ResourcesDep, response: Response
) -> AutomationView:
    """The one of this name, also where the name looks like an id."""
    automation_id = _id_of(resources, principal, entity, name, Action.READ)
    return get_automation(entity, automation_id, principal, resources, response)


@router.patch("/by-name/{name}", openapi_extra=accepts(AUTOMATION_SCHEMA, partly=True))
def change_automation_by_name(
    entity: str,
    name: PathName,
    body: JsonBody,
    principal: PrincipalDep,
    resources: ResourcesDep,
    conditions: IfMatch,
    response: Response,
) -> AutomationView:
    """Change the one of this name, as by its id."""
    automation_id = _id_of(resources, principal, entity, name, Action.AUTOMATE)
    return change_automation(entity, automation_id, body, principal, resources, conditions, response)


@router.delete("/by-name/{name}", status_code=204)
def delete_automation_by_name(
    entity: str, name: PathName, principal: PrincipalDep, resources: ResourcesDep, conditions: IfMatch
) -> None:
    """Delete the one of this name, as by its id."""
    automation_id = _id_of(resources, principal, entity, name, Action.AUTOMATE)
    delete_automation(entity, automation_id, principal, resources, conditions)


def with_etag(response: Response, view: AutomationView) -> AutomationView:
    """The answer, with its ETag among the headers."""
    _version(view).put_on(response)
    return view


def current_version(connection: Connection, principal: Principal, entity: str, automation_id: str) -> Version:
    """The version that a change would replace. Raises NotFound."""
    require(connection, principal, entity, Action.AUTOMATE)
    return _version(automations.get(connection, principal, entity, automation_id))


def _version(view: AutomationView) -> Version:
    """The webhook is stored by its id, and shown by the name that it has now."""
    told = tuple(view[one] and view[one]["at"] for one in ("unmatched", "ignored_sample"))
    return Version(view["revision"], (view["action"].get("webhook") or view["action"].get("slack"), *told))
