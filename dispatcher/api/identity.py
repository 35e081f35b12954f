"""`/v1/keys` and `/v1/users`."""

from __future__ import annotations

from fastapi import APIRouter

from dispatcher.api.authentication import PrincipalDep
from dispatcher.api.bodies import JsonBody, Paging, accepts
from dispatcher.api.idempotency import OnceDep
from dispatcher.api.resources import ResourcesDep
from dispatcher.control import identity, users
from dispatcher.control.identity import KeyBody, KeyView, NewKey, UserBody, UserView
from dispatcher.control.paging import Page
from dispatcher.control.users import UserPatch
from shared.domain.ids import IdKind, encode_id
from shared.storage.database.transactions import read_transaction, write_transaction

router = APIRouter(prefix="/v1", tags=["identity"])


@router.get("/me")
def get_me(principal: PrincipalDep, resources: ResourcesDep) -> UserView:
    """Get the user of this key, with its roles."""
    with read_transaction(resources.engine) as connection:
        return users.get(connection, principal, encode_id(IdKind.USER, principal.user_id))


@router.get("/keys")
def list_keys(principal: PrincipalDep, resources: ResourcesDep, page: Paging) -> Page[KeyView]:
    """List the keys that this key may revoke, without their texts."""
    with read_transaction(resources.engine) as connection:
        return identity.list_keys(connection, principal, page)


@router.post("/keys", status_code=201, openapi_extra=accepts(KeyBody))
def create_key(body: JsonBody, principal: PrincipalDep, resources: ResourcesDep, once: OnceDep) -> NewKey:
    """Create a key. Its text is shown only in this answer, and in answers to the same `Idempotency-Key`."""
    with once.writing() as connection:
        key = identity.create_key(connection, principal, body)
    resources.callers.clear()
    return key


@router.delete("/keys/{key_id}", status_code=204)
def revoke_key(key_id: str, principal: PrincipalDep, resources: ResourcesDep) -> None:
    """Revoke a key. Other API processes may accept it for five more seconds."""
    with write_transaction(resources.engine) as connection:
        identity.revoke_key(connection, principal, key_id)
    resources.callers.clear()


@router.get("/users")
def list_users(principal: PrincipalDep, resources: ResourcesDep, page: Paging) -> Page[UserView]:
    """List users and their roles. Without an instance administrator's key, only the key's own user."""
    with read_transaction(resources.engine) as connection:
        return identity.list_users(connection, principal, page)


@router.post("/users", status_code=201, openapi_extra=accepts(UserBody))
def create_user(body: JsonBody, principal: PrincipalDep, once: OnceDep) -> UserView:
    """Create a user with roles in entities. For instance administrators."""
    with once.writing() as connection:
        return identity.create_user(connection, principal, body)


@router.get("/users/{user}")
def get_user(user: str, principal: PrincipalDep, resources: ResourcesDep) -> UserView:
    """Get one user, by id or name. Without an instance administrator's key, only the key's own user."""
    with read_transaction(resources.engine) as connection:
        return users.get(connection, principal, user)


@router.patch("/users/{user}", openapi_extra=accepts(UserPatch))
def change_user(user: str, body: JsonBody, principal: PrincipalDep, resources: ResourcesDep) -> UserView:
    """Change a user's address, roles or whether it administers the instance. For instance administrators."""
    with write_transaction(resources.engine) as connection:
        changed = users.change(connection, principal, user, body)
    resources.callers.clear()
    return changed


@router.delete("/users/{user}", status_code=204)
def delete_user(user: str, principal: PrincipalDep, resources: ResourcesDep) -> None:
    """Delete a user with all keys and roles. For instance administrators."""
    with write_transaction(resources.engine) as connection:
        users.delete(connection, principal, user)
    resources.callers.clear()
