"""`/v1/entities/{entity}/secrets`."""

from __future__ import annotations

from functools import partial

from fastapi import APIRouter, Response
from sqlalchemy import Connection

from dispatcher.api.authentication import PrincipalDep
from dispatcher.api.bodies import JsonBody, Paging, accepts
from dispatcher.api.etags import NOT_MODIFIED, IfMatch, IfMatchOrNew, Version
from dispatcher.api.resources import ResourcesDep
from dispatcher.control import secrets
from dispatcher.control.access import Action, require
from dispatcher.control.paging import Page
from dispatcher.control.secrets import SecretBody, SecretView
from shared.storage.accounts.users import Principal
from shared.storage.database.transactions import read_transaction, write_transaction
from shared.storage.definitions.secrets import secret_revision

router = APIRouter(prefix="/v1/entities/{entity}/secrets", tags=["secrets"])


@router.get("")
def list_secrets(entity: str, principal: PrincipalDep, resources: ResourcesDep, page: Paging) -> Page[SecretView]:
    """List the secrets: names, dates, and which webhooks use them."""
    with read_transaction(resources.engine) as connection:
        return secrets.list_secrets(connection, principal, entity, page)


@router.get("/{name}", responses=NOT_MODIFIED)
def get_secret(
    entity: str, name: str, principal: PrincipalDep, resources: ResourcesDep, response: Response
) -> SecretView:
    """Get one secret, without its value."""
    with read_transaction(resources.engine) as connection:
        found = secrets.get(connection, principal, entity, name)
        _version(connection, principal, entity, found).put_on(response)
    return found


@router.put("/{name}", openapi_extra=accepts(SecretBody), responses={201: {"model": SecretView}})
def put_secret(
    entity: str,
    name: str,
    body: JsonBody,
    principal: PrincipalDep,
    resources: ResourcesDep,
    conditions: IfMatchOrNew,
    response: Response,
) -> SecretView:
    """Create a secret (201) or replace its value (200)."""
    with write_transaction(resources.engine) as connection:
        conditions.check(connection, partial(_current, connection, principal, entity, name))
        secret, created = secrets.put(
            connection, principal, entity, name, body, vault=resources.vault, settings=resources.settings
        )
        _version(connection, principal, entity, secret).put_on(response)
    response.status_code = 201 if created else 200
    return secret


@router.delete("/{name}", status_code=204)
def delete_secret(
    entity: str, name: str, principal: PrincipalDep, resources: ResourcesDep, conditions: IfMatch
) -> None:
    """Delete a secret that no webhook uses."""
    with write_transaction(resources.engine) as connection:
        conditions.check(connection, partial(_current, connection, principal, entity, name))
        secrets.delete(connection, principal, entity, name)


def _current(connection: Connection, principal: Principal, entity: str, name: str) -> Version:
    require(connection, principal, entity, Action.ADMINISTER)
    return _version(connection, principal, entity, secrets.get(connection, principal, entity, name))


def _version(connection: Connection, principal: Principal, entity: str, view: SecretView) -> Version:
    """The webhooks that use a secret change without a new revision of it, so they are a part of the version."""
    owner = require(connection, principal, entity, Action.READ)
    return Version(secret_revision(connection, owner.id, view.name), tuple(view.used_by))
