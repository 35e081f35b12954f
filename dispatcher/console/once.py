"""Forms that take effect once, however often they are sent: each brings a token that is kept with what came of it.

The token is claimed in the transaction of the change, so a second click waits for the first and gets the same page. A
page that shows a new key or secret is shown again only as long as a second click may follow: a browser's Back button
sends the form again too, for whoever sits there by then. A form that was changed since, as one that the Back button
shows again, is another one: it is carried out. Tokens are kept for a day beside the keys of `Idempotency-Key`, which
forget them as they forget those. What came of a form is kept encrypted, since it may be a new key or secret, and is
given to the same user alone.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

from sqlalchemy import Connection

from dispatcher.api.idempotency import KEPT, MAX_KEYS, REMOVED_IN_PASSING
from dispatcher.api.resources import ApiResources
from dispatcher.console.forms import Form, key_expiry
from dispatcher.console.rendering import ONCE
from dispatcher.control import identity
from dispatcher.control.errors import Conflict
from dispatcher.control.identity import NewKey
from shared.storage.accounts import idempotency_keys as store
from shared.storage.accounts.idempotency_keys import KeyClaim
from shared.storage.accounts.users import Principal
from shared.storage.database.transactions import write_transaction

_TOKEN = re.compile(r"[\w-]{22}", re.ASCII)
_PREFIX = "console "
"""No key of a client collides with a token by accident."""
_NO_DIGEST = b""
_SEE_OTHER = 303
SHOWN_AGAIN = timedelta(seconds=5)
"""How long a page with a new key or secret is shown again to who sends its form again."""
_MAX_CHANGED = 20
"""How many contents of a page's form take effect once each; a further one is carried out as without a token."""


def act_once(
    resources: ApiResources, principal: Principal, form: Form, act: Callable[[Connection], str], *, makes: str = ""
) -> str:
    """Carry out what a form is for, unless that was done before; returns what came of it either way.

    A form without a token is carried out each time. What the action raises changes nothing, and frees the token.

    Args:
        act: does it, and returns where the form leads, or what it made.
        makes: what it makes, where that is what `act` returns: a form that leads somewhere never gets it.

    Raises:
        Conflict: when what it made was shown a while ago.
    """
    token, sent, now = form.text(ONCE), _digest(form), datetime.now(UTC)
    with write_transaction(resources.engine) as connection:
        claim = None
        if _TOKEN.fullmatch(token):
            claim = _claim(resources, connection, KeyClaim(principal.user_id, f"{_PREFIX}{makes}{token}", now), sent)
        if isinstance(claim, _Done):
            if makes and now - claim.at > SHOWN_AGAIN:
                raise Conflict("this was done already, and what it made was shown once: open the form anew for another")
            return claim.came
        came = act(connection)
        if claim is not None and store.mark_effective(connection, claim):
            store.complete(connection, claim, status_code=_SEE_OTHER, body=resources.vault.encrypt(sent + came))
    return came


@dataclass(frozen=True, slots=True)
class _Done:
    """What came of a form, and when."""

    came: str
    at: datetime


def _claim(resources: ApiResources, connection: Connection, first: KeyClaim, sent: str) -> KeyClaim | _Done | None:
    """Claim a token for what was sent, unless that was done; None where the form is carried out as without a token."""
    store.remove_requests_before(connection, first.created_at - KEPT, limit=REMOVED_IN_PASSING)
    if store.count_keys(connection, first.user_id, most=MAX_KEYS) >= MAX_KEYS:
        return None  # so many forms a day are no person's
    for number in range(_MAX_CHANGED):
        claim = first if number == 0 else replace(first, key=f"{first.key} {number}")
        if store.insert_claim(connection, claim, _NO_DIGEST):
            return claim
        found = store.find_request(connection, claim.user_id, claim.key)
        if found is None or found.body is None:
            continue
        kept = resources.vault.decrypt(found.body)
        if kept.startswith(sent):
            return _Done(kept.removeprefix(sent), found.claim.created_at)
    return None


def _digest(form: Form) -> str:
    """What tells one form from another. It is kept encrypted only, since a short secret could be found by it."""
    return hashlib.sha256(json.dumps(form.fields, sort_keys=True).encode()).hexdigest()


def make_key_once(resources: ApiResources, principal: Principal, form: Form, body: Mapping[str, str]) -> NewKey:
    """Make a key once: a second click shows the same one, whose text nobody has seen yet.

    Raises:
        InvalidDefinition: for what the form says, also of when the key ends.
        And as `identity.create_key`.
    """

    def act(connection: Connection) -> str:
        wanted = {**body, **key_expiry(form, datetime.now(UTC))}
        return identity.create_key(connection, principal, wanted).model_dump_json()

    return NewKey.model_validate_json(act_once(resources, principal, form, act, makes="key "))
