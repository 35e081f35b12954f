"""Accounts of an identity provider, and whose they are here.

An account is known by issuer and subject, which the provider never gives to anybody else. The first time, a claim tells
which user it is; from then on names and addresses may change at the provider, and nobody who gets an old one gets in.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Connection

from dispatcher.control.access import require_instance_admin
from dispatcher.control.audit import new_change, record_change
from dispatcher.control.bodies import View
from dispatcher.control.errors import Forbidden
from dispatcher.control.members import load_user
from shared.domain.ids import IdKind, encode_id
from shared.storage.accounts import identities as store
from shared.storage.accounts.audit_log import insert_changes
from shared.storage.accounts.identities import MAX_SUBJECT_CHARS, StoredIdentity
from shared.storage.accounts.users import Principal, StoredUser, find_user

EMAIL = "email"
"""The claim that is compared with users' addresses instead of their names, if the provider has verified it."""


@dataclass(frozen=True, slots=True)
class Account:
    """What a provider says of somebody, in an ID token that was checked."""

    issuer: str
    subject: str
    claims: Mapping[str, Any]


class IdentityView(View):
    """An account with which a user signs in."""

    issuer: str
    subject: str
    created_at: datetime
    """When it was used first."""


def user_of_account(connection: Connection, account: Account, *, claim: str) -> StoredIdentity:
    """Whose account it is, by the claim if it has not been used before.

    Raises:
        Forbidden: when it is nobody's.
    """
    if not account.subject or len(account.subject) > MAX_SUBJECT_CHARS or "\0" in account.subject:
        raise Forbidden("the identity provider names nobody")
    known = store.find_identity(connection, account.issuer, account.subject)
    if known is not None:
        return known
    user, now = _user_of_claim(connection, account, claim), datetime.now(UTC)
    linked = store.link_identity(connection, user.id, issuer=account.issuer, subject=account.subject, now=now)
    if linked is None:
        raise Forbidden(
            "your user here belongs to another account of the provider: an instance administrator can take it away"
        )
    itself = Principal(user.id, user.name, user.is_admin)
    number = encode_id(IdKind.USER, user.id)
    insert_changes(connection, [new_change(itself, "user.link", entity=None, target_id=number, name=user.name)])
    return linked


def _user_of_claim(connection: Connection, account: Account, claim: str) -> StoredUser:
    value = account.claims.get(claim)
    if not isinstance(value, str) or not value or "\0" in value:
        raise Forbidden(f"the identity provider does not tell the claim {claim!r}, by which users are found")
    if claim == EMAIL:
        if account.claims.get("email_verified") is not True:
            raise Forbidden("the identity provider has not verified your address")
        found = store.users_with_email(connection, value)
        if len(found) > 1:
            raise Forbidden("several users here have your address: an instance administrator can change that")
        user = found[0] if found else None
    else:
        user = find_user(connection, value)
    if user is None or "/" in user.name:  # programs' users sign in with keys only
        raise Forbidden(f"there is no user here for your {claim}: an instance administrator can add one")
    return user


def list_of(connection: Connection, principal: Principal, user: str) -> list[IdentityView]:
    """A user's accounts. For instance administrators. Raises NotFound."""
    require_instance_admin(principal)
    stored = load_user(connection, user)
    return [
        IdentityView(issuer=one.issuer, subject=one.subject, created_at=one.created_at)
        for one in store.list_identities(connection, stored.id)
    ]


def unlink(connection: Connection, principal: Principal, user: str) -> None:
    """Take a user's accounts away, and end their sessions; the next sign-in finds the user by the claim again.

    For instance administrators. Raises NotFound.
    """
    require_instance_admin(principal)
    stored = load_user(connection, user)
    if store.unlink_identities(connection, stored.id):
        number = encode_id(IdKind.USER, stored.id)
        record_change(connection, principal, "user.unlink", entity=None, target_id=number, name=stored.name)
