"""`/v1/entities/{entity}/slack`."""

from __future__ import annotations

from functools import partial

from fastapi import APIRouter, Response
from sqlalchemy import Connection

from dispatcher.api.authentication import PrincipalDep
from dispatcher.api.bodies import JsonBody, accepts
from dispatcher.api.etags import NOT_MODIFIED, IfMatch, Version
from dispatcher.api.idempotency import OnceDep
from dispatcher.api.list_queries import WebhookCriteria
from dispatcher.api.path_names import PathName
from dispatcher.api.resources import ApiResources, ResourcesDep
from dispatcher.control import definition_lists, slack, webhooks
from dispatcher.control.access import Action, require
from dispatcher.control.definition_lists import ListedSlackView
from dispatcher.control.paging import Page
from dispatcher.control.slack import SlackBody, SlackView
from shared.domain.ids import IdKind
from shared.storage.accounts.users import Principal
from shared.storage.database.transactions import read_transaction, write_transaction
from shared.storage.definitions.webhook_fields import WebhookKind

router = APIRouter(prefix="/v1/entities/{entity}/slack", tags=["slack"])


@router.get("")
def list_slack(
    entity: str, principal: PrincipalDep, resources: ResourcesDep, wanted: WebhookCriteria
) -> Page[ListedSlackView]:
    """The entity's Slack integrations that match; all of them without a filter."""
    with read_transaction(resources.engine) as connection:
        return definition_lists.list_slack(connection, principal, entity, wanted)


@router.post("", status_code=201, openapi_extra=accepts(SlackBody))
def create_slack(
    entity: str, body: JsonBody, principal: PrincipalDep, resources: ResourcesDep, once: OnceDep, response: Response
) -> SlackView:
    """Create a Slack integration; store the URL of Slack's incoming webhook as a secret first."""
    with once.writing() as connection:
        created = slack.create(connection, principal, entity, body, checks=resources.checks)
    return with_etag(response, created)


@router.get("/{slack_id}", responses=NOT_MODIFIED)
def get_slack(
    entity: str, slack_id: str, principal: PrincipalDep, resources: ResourcesDep, response: Response
) -> SlackView:
    """One Slack integration."""
    with read_transaction(resources.engine) as connection:
        return with_etag(response, slack.get(connection, principal, entity, slack_id))


@router.patch("/{slack_id}", openapi_extra=accepts(SlackBody, partly=True))
def change_slack(
    entity: str,
    slack_id: str,
    body: JsonBody,
    principal: PrincipalDep,
    resources: ResourcesDep,
    conditions: IfMatch,
    response: Response,
) -> SlackView:
    """Change a Slack integration by a JSON merge patch; null resets a member to its default."""
    with write_transaction(resources.engine) as connection:
        conditions.check(connection, partial(current_version, connection, principal, entity, slack_id))
        changed = slack.change(connection, principal, entity, slack_id, body, checks=resources.checks)
    resources.wake_if_open(IdKind.SLACK, changed)
    return with_etag(response, changed)


@router.delete("/{slack_id}", status_code=204)
def delete_slack(
    entity: str, slack_id: str, principal: PrincipalDep, resources: ResourcesDep, conditions: IfMatch
) -> None:
    """Delete a Slack integration that no automation uses; its pending deliveries become dead letters."""
    with write_transaction(resources.engine) as connection:
        conditions.check(connection, partial(current_version, connection, principal, entity, slack_id))
        slack.delete(connection, principal, entity, slack_id)


def _id_of(resources: ApiResources, principal: Principal, entity: str, name: str, action: Action) -> str:
    """The id of the one of this name, for who may do `action`: rights come before what there is."""
    with read_transaction(resources.engine) as connection:
        return webhooks.webhook_id_of(connection, principal, entity, name, action, kind=WebhookKind.SLACK)


@router.get("/by-name/{name}", responses=NOT_MODIFIED)
def get_slack_by_name(
    entity: str, name: PathName, principal: PrincipalDep, resources: ResourcesDep, response: Response
) -> SlackView:
    """The one of this name, also where the name looks like an id."""
    slack_id = _id_of(resources, principal, entity, name, Action.READ)
    return get_slack(entity, slack_id, principal, resources, response)


@router.patch("/by-name/{name}", openapi_extra=accepts(SlackBody, partly=True))
def change_slack_by_name(
    entity: str,
    name: PathName,
    body: JsonBody,
    principal: PrincipalDep,
    resources: ResourcesDep,
    conditions: IfMatch,
    response: Response,
) -> SlackView:
    """Change the one of this name, as by its id."""
    slack_id = _id_of(resources, principal, entity, name, Action.ADMINISTER)
    return change_slack(entity, slack_id, body, principal, resources, conditions, response)


@router.delete("/by-name/{name}", status_code=204)
def delete_slack_by_name(
    entity: str, name: PathName, principal: PrincipalDep, resources: ResourcesDep, conditions: IfMatch
) -> None:
    """Delete the one of this name, as by its id."""
    slack_id = _id_of(resources, principal, entity, name, Action.ADMINISTER)
    delete_slack(entity, slack_id, principal, resources, conditions)


def with_etag(response: Response, view: SlackView) -> SlackView:
    """The answer, with its ETag among the headers."""
    _version(view).put_on(response)
    return view


def current_version(connection: Connection, principal: Principal, entity: str, slack_id: str) -> Version:
    """The version that a change would replace. Raises NotFound."""
    require(connection, principal, entity, Action.ADMINISTER)
    return _version(slack.get(connection, principal, entity, slack_id))


def _version(view: SlackView) -> Version:
    """Workers change an endpoint's state without a new revision, so it is a part of the version."""
    circuit = view.circuit.opened_at and (view.circuit.opened_at, view.circuit.state)
    return Version(view.revision, (view.disabled_reason, view.failing_since, circuit))
