"""A webhook's definition, checked before it is stored: its form, its URL, and the secrets that it names."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Annotated

from pydantic import AfterValidator, Field
from sqlalchemy import Connection

from dispatcher.control.bodies import Body, parsed
from dispatcher.control.secrets import check_value
from shared.domain.automations import Grants
from shared.domain.errors import FieldError, InvalidDefinition, Loc
from shared.domain.ids import IdKind, decode_id
from shared.domain.retries import DeliveryPolicy
from shared.guard import check_webhook_url
from shared.settings import Settings
from shared.storage.entities import StoredEntity
from shared.storage.secrets import SecretUses, ciphertexts, secret_ids
from shared.storage.webhooks import WebhookFields
from shared.vault import Vault

MAX_NAME_LENGTH = 64
MAX_GRANTED_SECRETS = 100
# W&B's rule for a webhook's name (the SDK's CreateGenericWebhookIntegration).
_NAME = re.compile(r"[-\w]+( +[-\w]+)*")


def _well_named(name: str) -> str:
    if len(name) > MAX_NAME_LENGTH or not _NAME.fullmatch(name):
        raise ValueError(f"must be 1 to {MAX_NAME_LENGTH} letters, digits, - and _, with spaces only inside")
    if any(decode_id(kind, name) is not None for kind in (IdKind.WEBHOOK, IdKind.SLACK)):
        raise ValueError("must not look like a webhook's id")
    return name


WebhookName = Annotated[
    str, AfterValidator(_well_named), Field(description="Unique among the entity's webhooks and Slack integrations.")
]


class WebhookBody(Body):
    """A webhook as it is defined; secrets are named, never spelled out."""

    name: WebhookName
    url: Annotated[str, Field(description="Where deliveries are POSTed to.")]
    access_token: Annotated[str | None, Field(description="The secret that is sent as `Authorization: Bearer …`.")] = (
        None
    )
    signing_secret: Annotated[str | None, Field(description="The secret that requests are signed with.")] = None
    client_certificate: Annotated[
        str | None,
        Field(
            description="The secret with the client certificate that is shown to the endpoint (mutual TLS): the "
            "certificate, those that it is signed with, and its private key, in PEM."
        ),
    ] = None
    secrets: list[str] = Field(
        default=[], max_length=MAX_GRANTED_SECRETS, description="The secrets that payloads may use."
    )
    policy: DeliveryPolicy = DeliveryPolicy()
    enabled: Annotated[bool, Field(description="A disabled webhook's firings are skipped.")] = True
    paused: Annotated[bool, Field(description="A paused webhook's deliveries wait.")] = False


@dataclass(frozen=True, slots=True)
class Checks:
    """What checking a webhook takes besides the database."""

    settings: Settings
    vault: Vault


def grants_of(fields: WebhookFields) -> Grants:
    """What the webhook lets payloads use."""
    return Grants(frozenset(fields.secrets), fields.access_token is not None)


def check(connection: Connection, entity: StoredEntity, raw: object, *, checks: Checks) -> WebhookFields:
    """A whole definition, checked.

    Raises:
        InvalidDefinition: naming each fault.
    """
    body = parsed(WebhookBody, raw)
    named: list[tuple[Loc, str | None]] = [
        (("access_token",), body.access_token),
        (("signing_secret",), body.signing_secret),
        (("client_certificate",), body.client_certificate),
        *((("secrets", index), name) for index, name in enumerate(body.secrets)),
    ]
    faults = [*_url_faults(body, checks.settings), *secret_faults(connection, entity, named)]
    if not faults:
        faults += value_faults(
            connection,
            entity,
            {
                "access_token": (body.access_token, SecretUses(as_access_token=True)),
                "signing_secret": (body.signing_secret, SecretUses(as_signing_secret=True)),
                "client_certificate": (body.client_certificate, SecretUses(as_client_certificate=True)),
            },
            checks=checks,
        )
    if faults:
        raise InvalidDefinition(*faults)
    return WebhookFields(
        name=body.name,
        url=body.url,
        access_token=body.access_token,
        signing_secret=body.signing_secret,
        client_certificate=body.client_certificate,
        secrets=tuple(sorted(set(body.secrets))),
        policy=body.policy.model_dump(mode="json"),
        enabled=body.enabled,
        paused=body.paused,
    )


def _url_faults(body: WebhookBody, settings: Settings) -> list[FieldError]:
    try:
        check_webhook_url(body.url, settings)
    except InvalidDefinition as exc:
        return list(exc.under("url").errors)
    if body.client_certificate is not None and body.url[:6].lower() != "https:":
        return [FieldError(("client_certificate",), "is shown in TLS only: the webhook's url must be https")]
    return []


def secret_faults(
    connection: Connection, entity: StoredEntity, named: Iterable[tuple[Loc, str | None]]
) -> list[FieldError]:
    """A fault at each place that names a secret which the entity does not have; None names none."""
    known = secret_ids(connection, entity.id)
    available = ", ".join(known) or "none yet; PUT one first"
    return [
        FieldError(loc, f"{entity.name!r} has no secret {name!r}; available: {available}")
        for loc, name in named
        if name is not None and name not in known
    ]


def value_faults(
    connection: Connection,
    entity: StoredEntity,
    members: Mapping[str, tuple[str | None, SecretUses]],
    *,
    checks: Checks,
) -> list[FieldError]:
    """A fault at each member whose secret, which the entity has, can't do what it is to be used for."""
    faults: list[FieldError] = []
    for member, (name, uses) in members.items():
        if name is None:
            continue
        value = checks.vault.decrypt(ciphertexts(connection, entity.id, [name])[name])
        try:
            check_value(value, uses, settings=checks.settings, loc=(member,))
        except InvalidDefinition as exc:
            faults += exc.errors
    return faults
