"""`/v1/entities/{entity}/webhooks`."""

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
from dispatcher.control import definition_lists, webhooks
from dispatcher.control.access import Action, require
from dispatcher.control.definition_lists import ListedWebhookView
from dispatcher.control.paging import Page
from dispatcher.control.webhook_checks import WebhookBody
from dispatcher.control.webhooks import WebhookView
from shared.domain.ids import IdKind
from shared.storage.accounts.users import Principal
from shared.storage.database.transactions import read_transaction, write_transaction
from shared.vault import Vault

router = APIRouter(prefix="/v1/entities/{entity}/webhooks", tags=["webhooks"])


@router.get("")
def list_webhooks(
    entity: str, principal: PrincipalDep, resources: ResourcesDep, wanted: WebhookCriteria
) -> Page[ListedWebhookView]:
    """The entity's webhooks that match; all of them without a filter."""
    with read_transaction(resources.engine) as connection:
        return definition_lists.list_webhooks(connection, principal, entity, wanted, vault=resources.vault)


@router.post("", status_code=201, openapi_extra=accepts(WebhookBody))
def create_webhook(
    entity: str, body: JsonBody, principal: PrincipalDep, resources: ResourcesDep, once: OnceDep, response: Response
) -> WebhookView:
    """Create a webhook."""
    with once.writing() as connection:
        created = webhooks.create(connection, principal, entity, body, checks=resources.checks)
    return with_etag(response, created)


@router.get("/{webhook_id}", responses=NOT_MODIFIED)
def get_webhook(
    entity: str, webhook_id: str, principal: PrincipalDep, resources: ResourcesDep, response: Response
) -> WebhookView:
    """One webhook."""
    with read_transaction(resources.engine) as connection:
        return with_etag(response, webhooks.get(connection, principal, entity, webhook_id, vault=resources.vault))


@router.patch("/{webhook_id}", openapi_extra=accepts(WebhookBody, partly=True))
def change_webhook(
    entity: str,
    webhook_id: str,
    body: JsonBody,
    principal: PrincipalDep,
    resources: ResourcesDep,
    conditions: IfMatch,
    response: Response,
) -> WebhookView:
    """Change a webhook by a JSON merge patch; null resets a member to its default."""
    with write_transaction(resources.engine) as connection:
        conditions.check(
            connection, partial(current_version, connection, principal, entity, webhook_id, resources.vault)
        )
        changed = webhooks.change(connection, principal, entity, webhook_id, body, checks=resources.checks)
    resources.wake_if_open(IdKind.WEBHOOK, changed)
    return with_etag(response, changed)


@router.delete("/{webhook_id}", status_code=204)
def delete_webhook(
    entity: str, webhook_id: str, principal: PrincipalDep, resources: ResourcesDep, conditions: IfMatch
) -> None:
    """Delete a webhook that no automation uses; its pending deliveries become dead letters."""
    with write_transaction(resources.engine) as connection:
        conditions.check(
            connection, partial(current_version, connection, principal, entity, webhook_id, resources.vault)
        )
        webhooks.delete(connection, principal, entity, webhook_id)


def _id_of(resources: ApiResources, principal: Principal, entity: str, name: str, action: Action) -> str:
    """The id of the one of this name, for who may do `action`: rights come before what there is."""
    with read_transaction(resources.engine) as connection:
        return webhooks.webhook_id_of(connection, principal, entity, name, action)


@router.get("/by-name/{name}", responses=NOT_MODIFIED)
def get_webhook_by_name(
    entity: str, name: PathName, principal: PrincipalDep, resources: ResourcesDep, response: Response
) -> WebhookView:
    """The one of this name, also where the name looks like an id."""
    webhook_id = _id_of(resources, principal, entity, name, Action.READ)
    return get_webhook(entity, webhook_id, principal, resources, response)


@router.patch("/by-name/{name}", openapi_extra=accepts(WebhookBody, partly=True))
def change_webhook_by_name(
    entity: str,
    name: PathName,
    body: JsonBody,
    principal: PrincipalDep,
    resources: ResourcesDep,
    conditions: IfMatch,
    response: Response,
) -> WebhookView:
    """Change the one of this name, as by its id."""
    webhook_id = _id_of(resources, principal, entity, name, Action.ADMINISTER)
    return change_webhook(entity, webhook_id, body, principal, resources, conditions, response)


@router.delete("/by-name/{name}", status_code=204)
def delete_webhook_by_name(
    entity: str, name: PathName, principal: PrincipalDep, resources: ResourcesDep, conditions: IfMatch
) -> None:
    """Delete the one of this name, as by its id."""
    webhook_id = _id_of(resources, principal, entity, name, Action.ADMINISTER)
    delete_webhook(entity, webhook_id, principal, resources, conditions)


def with_etag(response: Response, view: WebhookView) -> WebhookView:
    """The answer, with its ETag among the headers."""
    _version(view).put_on(response)
    return view


def current_version(
    connection: Connection, principal: Principal, entity: str, webhook_id: str, vault: Vault
) -> Version:
    """The version that a change would replace. Raises NotFound."""
    owner = require(connection, principal, entity, Action.ADMINISTER)
    stored = webhooks.load_webhook(connection, owner, webhook_id)
    return _version(webhooks.webhook_view(connection, owner, stored, vault=vault))


def _version(view: WebhookView) -> Version:
    """Workers change an endpoint's state without a new revision, so it is a part of the version."""
    circuit = view.circuit.opened_at and (view.circuit.opened_at, view.circuit.state)
    return Version(view.revision, (view.disabled_reason, view.failing_since, circuit, *view.unreadable_secrets))
