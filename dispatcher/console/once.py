"""Forms that take effect once, however often they are sent: each brings a token that is kept with where it led.

The token is claimed in the transaction of the change, so a second click waits for the first and is led to the same
page. Tokens are kept for a day beside the keys of `Idempotency-Key`, which forget them as they forget those.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, datetime

from sqlalchemy import Connection

from dispatcher.api.idempotency import KEPT, MAX_KEYS, REMOVED_IN_PASSING
from dispatcher.api.resources import ApiResources
from dispatcher.console.forms import Form
from dispatcher.console.rendering import ONCE
from shared.storage.accounts import idempotency_keys as store
from shared.storage.accounts.idempotency_keys import KeyClaim
from shared.storage.accounts.users import Principal
from shared.storage.database.transactions import write_transaction

_TOKEN = re.compile(r"[\w-]{22}", re.ASCII)
_PREFIX = "console "
"""No key of a client collides with a token by accident."""
_NO_DIGEST = b""
_SEE_OTHER = 303


def act_once(resources: ApiResources, principal: Principal, form: Form, act: Callable[[Connection], str]) -> str:
    """Carry out what a form is for, unless that was done before; returns where it leads either way.

    A form without a token is carried out each time. What the action raises changes nothing, and frees the token.
    """
    token = form.text(ONCE)
    with write_transaction(resources.engine) as connection:
        claim = None
        if _TOKEN.fullmatch(token):
            claim = KeyClaim(principal.user_id, _PREFIX + token, datetime.now(UTC))
            store.remove_requests_before(connection, claim.created_at - KEPT, limit=REMOVED_IN_PASSING)
            if store.count_keys(connection, claim.user_id, most=MAX_KEYS) >= MAX_KEYS:
                claim = None  # so many forms a day are no person's
        if claim is not None and not store.insert_claim(connection, claim, _NO_DIGEST):
            found = store.find_request(connection, claim.user_id, claim.key)
            if found is not None and found.body is not None:
                return resources.vault.decrypt(found.body)
        led_to = act(connection)
        if claim is not None and store.mark_effective(connection, claim):
            store.complete(connection, claim, status_code=_SEE_OTHER, body=resources.vault.encrypt(led_to))
    return led_to
