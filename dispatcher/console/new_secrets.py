"""A secret that is stored from inside another form, which goes on with what was typed into it.

A value that was typed is never shown again; one that was made here is shown this once.
"""

from __future__ import annotations

import base64
import secrets as random
from collections.abc import Mapping
from dataclasses import dataclass

from dispatcher.api.resources import ApiResources
from dispatcher.console.entities import EntityVisit
from dispatcher.console.forms import Faults, Form, faults_at
from dispatcher.control import secrets
from dispatcher.control.errors import Conflict
from shared.domain.errors import FieldError, InvalidDefinition
from shared.storage.database.transactions import write_transaction

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


def store_secret(resources: ApiResources, visit: EntityVisit, form: Form, uses: Mapping[str, str]) -> StoredNow:
    """Store the secret that the form has beside its own fields, and choose it where the form says.

    Args:
        uses: the fields that may take it.
    """
    name, use = form.text(FIELDS["name"]).strip(), form.text("new_secret_use")
    generated = generated_secret() if form.text("store_secret") == "generate" else ""
    kept = {key: values for key, values in form.fields.items() if key not in ("new_secret_value", "store_secret")}
    try:
        with write_transaction(resources.engine) as connection:
            view, is_new = secrets.put(
                connection,
                visit.principal,
                visit.entity,
                name,
                {"value": generated or form.text(FIELDS["value"])},
                vault=resources.vault,
                settings=resources.settings,
            )
            if not is_new:
                raise Conflict(_TAKEN, FieldError(("name",), _TAKEN))
    except (InvalidDefinition, Conflict) as exc:
        found = faults_at(exc.errors, FIELDS, str(exc))
        return StoredNow(Form(kept), Faults({FIELDS.get(key, key): said for key, said in found.by_field.items()}))
    field = use if use in uses else next(iter(uses))
    chosen = [*form.texts(field), name] if field == "secrets" else [name]
    return StoredNow(
        Form({**kept, field: chosen, "new_secret_name": [""]}),
        Faults(),
        name=name,
        generated=generated,
        is_short=bool(view.warning),
    )
