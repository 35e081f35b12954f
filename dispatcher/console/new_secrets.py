"""A secret that is stored from inside another form, which goes on with what was typed into it.

A value that was typed is never shown again; one that was made here is shown this once.
"""

from __future__ import annotations

import base64
import hashlib
import json
import secrets as random
from collections.abc import Mapping
from dataclasses import dataclass

from sqlalchemy import Connection

from dispatcher.api.resources import ApiResources
from dispatcher.console.entities import EntityVisit
from dispatcher.console.forms import Faults, Form, faults_at
from dispatcher.console.once import act_once
from dispatcher.control import secrets
from dispatcher.control.errors import Conflict
from shared.domain.errors import FieldError, InvalidDefinition

GENERATED_BYTES = 32
_TAKEN = "must be a new name: the value of a secret that is there is replaced on the page of secrets"
FIELDS = {"name": "new_secret_name", "value": "new_secret_value"}


@dataclass(frozen=True, slots=True)
class StoredNow:
    """The form with the secret chosen in it, or with what was refused."""

    form: Form
    faults: Faults
    name: str = ""
    """The secret's; blank when it was refused."""
    generated: str = ""
    is_short: bool = False


def generated_secret() -> str:
    """A new signing secret, in the form that Standard Webhooks asks for."""
    return "whsec_" + base64.b64encode(random.token_bytes(GENERATED_BYTES)).decode()


def making(name: str) -> str:
    """What the form of a secret makes: a secret of this name, so that one of another name is another one."""
    return f"secret {hashlib.sha256(name.encode('utf-8', 'replace')).hexdigest()[:16]} "


def store_secret(resources: ApiResources, visit: EntityVisit, form: Form, uses: Mapping[str, str]) -> StoredNow:
    """Store the secret that the form has beside its own fields, and choose it where the form says.

    Args:
        uses: the fields that may take it.
    """
    name, use = form.text(FIELDS["name"]).strip(), form.text("new_secret_use")
    generated = generated_secret() if form.text("store_secret") == "generate" else ""
    kept = {key: values for key, values in form.fields.items() if key not in ("new_secret_value", "store_secret")}

    def act(connection: Connection) -> str:
        value = {"value": generated or form.text(FIELDS["value"])}
        view, is_new = secrets.put(
            connection,
            visit.principal,
            visit.entity,
            name,
            value,
            vault=resources.vault,
            settings=resources.settings,
        )
        if not is_new:
            raise Conflict(_TAKEN, FieldError(("name",), _TAKEN))
        return json.dumps({"generated": generated, "short": bool(view.warning)})

    try:
        stored = json.loads(act_once(resources, visit.principal, form, act, makes=making(name)))
    except (InvalidDefinition, Conflict) as exc:
        found = faults_at(exc.errors, FIELDS, str(exc))
        return StoredNow(Form(kept), Faults({FIELDS.get(key, key): said for key, said in found.by_field.items()}))
    field = use if use in uses else next(iter(uses))
    if stored["generated"] and field == "access_token" and "signing_secret" in uses:
        field = "signing_secret"  # the form's first choice, for a value that was made to sign
    chosen = [*form.texts(field), name] if field == "secrets" else [name]
    return StoredNow(
        Form({**kept, field: chosen, "new_secret_name": [""]}),
        Faults(),
        name=name,
        generated=stored["generated"],
        is_short=stored["short"],
    )
