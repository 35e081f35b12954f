"""Signing in to the console with an API key or an account of an identity provider, and out again.

A session may do what its user may do at that moment: it ends with the key or the account behind it, and sees a change
of role at once.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from sqlalchemy import Connection

from dispatcher.control.access import Action, entities_with
from dispatcher.control.audit import record_change
from dispatcher.control.bodies import View
from dispatcher.control.errors import Forbidden, NotFound
from dispatcher.control.identities import Account, user_of_account
from shared.domain.ids import IdKind, decode_id, encode_id
from shared.storage.accounts import sessions as store
from shared.storage.accounts.api_keys import hash_key
from shared.storage.accounts.sessions import OpenSession, StoredSession
from shared.storage.accounts.users import Principal, find_principal, find_user_as_principal

IDLE = timedelta(hours=12)
"""A session that is not used for so long ends."""
LONGEST = timedelta(days=7)
"""No session lasts longer than this, however often it is used."""
TOUCHED = timedelta(minutes=10)
"""How often the time of a session's last use is stored: a write for each page would be dear."""
MAX_LISTED = 100


class SessionView(View):
    """A session of one's own."""

    id: str
    browser: str
    """What the browser said it is."""
    key_hint: str | None
    """How the key begins that it was made with; null if it was made with an account of an identity provider."""
    created_at: datetime
    seen_at: datetime
    ends_at: datetime


@dataclass(frozen=True, slots=True)
class NewSession:
    """A session that was just made. Its token is the only copy."""

    token: str
    ends_at: datetime


def sign_in(connection: Connection, key: str, *, browser: str, presented: str | None) -> NewSession | None:
    """Make a session of an API key, and end the one whose token was presented; None for a key that is not valid.

    Raises:
        Forbidden: when the key can't read anything.
    """
    digest = hash_key(key)
    principal = find_principal(connection, digest, now=datetime.now(UTC))
    if principal is None:
        return None
    return _begin(connection, principal, browser=browser, presented=presented, key_digest=digest)


def sign_in_with_account(
    connection: Connection, account: Account, *, claim: str, browser: str, presented: str | None
) -> NewSession:
    """Make a session of an account that an identity provider vouches for, and end the one that was presented.

    Raises:
        Forbidden: when the account is nobody's here, or its user can't read anything.
    """
    identity = user_of_account(connection, account, claim=claim)
    principal = find_user_as_principal(connection, identity.user_id)
    assert principal is not None  # noqa: S101 - read in this transaction
    return _begin(connection, principal, browser=browser, presented=presented, identity_id=identity.id)


def _begin(
    connection: Connection,
    principal: Principal,
    *,
    browser: str,
    presented: str | None,
    key_digest: bytes | None = None,
    identity_id: int | None = None,
) -> NewSession:
    if not principal.is_admin and not entities_with(principal, Action.READ):
        what = "this key can publish events only" if key_digest else "you have no role that may look at anything"
        raise Forbidden(f"{what}: sign in as a member or administrator of an entity")
    now, token = datetime.now(UTC), store.new_token()
    store.delete_ended(connection, now=now)
    if presented:
        store.delete_by_token(connection, presented)
    number = store.insert_session(
        connection,
        token=token,
        key_digest=key_digest,
        identity_id=identity_id,
        browser=browser,
        now=now,
        ends_at=now + IDLE,
    )
    session_id = encode_id(IdKind.SESSION, number)
    record_change(connection, principal, "session.create", entity=None, target_id=session_id, name="")
    return NewSession(token, now + IDLE)


def find_session(connection: Connection, token: str) -> OpenSession | None:
    """Who is signed in with a token; None when nobody is any more."""
    return store.find_session(connection, token, now=datetime.now(UTC))


def is_due(session: StoredSession) -> bool:
    """Whether `touch` should be called for a session that is being used."""
    return datetime.now(UTC) - session.seen_at >= TOUCHED


def touch(connection: Connection, session: StoredSession) -> None:
    """Store that a session is used, which prolongs it within `LONGEST`."""
    now = datetime.now(UTC)
    ends_at = min(now + IDLE, session.created_at + LONGEST)
    store.touch_session(connection, session.id, now=now, ends_at=ends_at)


def sign_out(connection: Connection, opened: OpenSession) -> None:
    """End the session that is used."""
    _end(connection, opened.principal, opened.session.id)


def end_session(connection: Connection, principal: Principal, session_id: str) -> None:
    """End one of one's own sessions. Raises NotFound."""
    number = decode_id(IdKind.SESSION, session_id)
    if number is None or not _end(connection, principal, number):
        raise NotFound("you have no session of this id")


def _end(connection: Connection, principal: Principal, number: int) -> bool:
    if not store.delete_session(connection, number, user_id=principal.user_id):
        return False
    session_id = encode_id(IdKind.SESSION, number)
    record_change(connection, principal, "session.delete", entity=None, target_id=session_id, name="")
    return True


def list_sessions(connection: Connection, principal: Principal) -> list[SessionView]:
    """One's own sessions, the newest first."""
    rows = store.list_sessions(connection, principal.user_id, now=datetime.now(UTC), limit=MAX_LISTED)
    return [
        SessionView(
            id=encode_id(IdKind.SESSION, row.id),
            browser=row.browser,
            key_hint=row.key_hint,
            created_at=row.created_at,
            seen_at=row.seen_at,
            ends_at=row.ends_at,
        )
        for row in rows
    ]
