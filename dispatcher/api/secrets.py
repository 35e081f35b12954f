"""`/v1/entities/{entity}/secrets`."""

from __future__ import annotations

from fastapi import APIRouter, Response

from dispatcher.api.authentication import PrincipalDep
from dispatcher.api.bodies import JsonBody, Paging, accepts
from dispatcher.api.parts import PartsDep
from dispatcher.control import secrets
from dispatcher.control.paging import Page
from dispatcher.control.secrets import SecretBody, SecretView
from shared.storage.engine import reading, writing

router = APIRouter(prefix="/v1/entities/{entity}/secrets", tags=["secrets"])


@router.get("")
def list_secrets(entity: str, principal: PrincipalDep, parts: PartsDep, page: Paging) -> Page[SecretView]:
    """Names and dates of the secrets, and which webhooks use them."""
    with reading(parts.engine) as connection:
        return secrets.listed(connection, principal, entity, page)


@router.get("/{name}")
def get_secret(entity: str, name: str, principal: PrincipalDep, parts: PartsDep) -> SecretView:
    """One secret, without its value."""
    with reading(parts.engine) as connection:
        return secrets.get(connection, principal, entity, name)


@router.put("/{name}", openapi_extra=accepts(SecretBody))
def put_secret(
    entity: str, name: str, body: JsonBody, principal: PrincipalDep, parts: PartsDep, response: Response
) -> SecretView:
    """Create a secret (201) or replace its value (200)."""
    with writing(parts.engine) as connection:
        secret, created = secrets.put(connection, principal, entity, name, body, vault=parts.vault)
    response.status_code = 201 if created else 200
    return secret


@router.delete("/{name}", status_code=204)
def delete_secret(entity: str, name: str, principal: PrincipalDep, parts: PartsDep) -> None:
    """Delete a secret that no webhook uses."""
    with writing(parts.engine) as connection:
        secrets.delete(connection, principal, entity, name)
