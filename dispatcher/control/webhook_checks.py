"""A webhook's definition, checked before it is stored: its form, its URL, and the secrets that it names."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Annotated

from pydantic import AfterValidator, Field
from sqlalchemy import Connection

from dispatcher.control.bodies import Body, parse_body
from dispatcher.control.secrets import check_value
from shared.domain.automations.model import Grants
from shared.domain.delivery.retries import DeliveryPolicy
from shared.domain.errors import FieldError, InvalidDefinition, Loc
from shared.domain.ids import IdKind, decode_id
from shared.http.egress import check_webhook_url
from shared.settings import Settings
from shared.storage.definitions.entities import StoredEntity
from shared.storage.definitions.secrets import SecretUses, ciphertexts, secret_ids
from shared.storage.definitions.webhooks import WebhookFields
from shared.vault import Vault

MAX_NAME_LENGTH = 64
MAX_GRANTED_SECRETS = 100
# W&B's rule for a webhook's name (the SDK's CreateGenericWebhookIntegration).
_NAME = re.compile(r"[-\w]+( +[-\w]+)*")


def _check_name(name: str) -> str:
    if len(name) > MAX_NAME_LENGTH or not _NAME.fullmatch(name):
        raise ValueError(f"must be 1 to {MAX_NAME_LENGTH} letters, digits, - and _, with spaces only inside")
    if any(decode_id(kind, name) is not None for kind in (IdKind.WEBHOOK, IdKind.SLACK)):
        raise ValueError("must not look like a webhook's id")
    return name


WebhookName = Annotated[
    str, AfterValidator(_check_name), Field(description="Unique among the entity's webhooks and Slack integrations.")
]


class WebhookBody(Body):
    """A webhook's definition. It contains names of secrets, never their values."""

    name: WebhookName
    url: Annotated[str, Field(description="The URL that deliveries are POSTed to.")]
    access_token: Annotated[str | None, Field(description="The secret that is sent as `Authorization: Bearer …`.")] = (
        None
    )
    signing_secret: Annotated[str | None, Field(description="The secret that signs requests.")] = None
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
    """The parts that a check of a webhook needs besides the database."""

    settings: Settings
    vault: Vault


def grants_of(fields: WebhookFields) -> Grants:
    """The secrets that the webhook lets payloads use."""
    return Grants(frozenset(fields.secrets), fields.access_token is not None)


class KnownSecrets:
    """An entity's secrets for the checks of one edit: names are read once, and each value is checked once for each use.

    It belongs to one transaction, on one thread.
    """

    def __init__(self, connection: Connection, entity: StoredEntity, checks: Checks) -> None:
        self._connection = connection
        self._entity = entity
        self._checks = checks
        self._known = secret_ids(connection, entity.id)
        self._unfit: dict[tuple[str, SecretUses, str], tuple[FieldError, ...]] = {}

    def missing(self, named: Iterable[tuple[Loc, str | None]]) -> list[FieldError]:
        """A fault at each place that names a secret which the entity does not have; None names none."""
        missing = [(loc, name) for loc, name in named if name is not None and name not in self._known]
        if not missing:
            return []
        available = ", ".join(self._known) or "none yet; PUT one first"
        # Not what was sent: somebody who takes the member for the secret itself would find it in logs of the refusal.
        form = f"must be the name of a secret of {self._entity.name!r}; available: {available}"
        return [FieldError(loc, form) for loc, _ in missing]

    def unfit(self, members: Mapping[str, tuple[str | None, SecretUses]]) -> list[FieldError]:
        """A fault at each member whose secret has a value that can't be used in this way."""
        return [
            fault
            for member, (name, uses) in members.items()
            if name is not None
            for fault in self._faults(member, uses, name)
        ]

    def _faults(self, member: str, uses: SecretUses, name: str) -> tuple[FieldError, ...]:
        key = (member, uses, name)
        if key not in self._unfit:
            stored = ciphertexts(self._connection, self._entity.id, [name])[name]
            try:
                check_value(self._checks.vault.decrypt(stored), uses, settings=self._checks.settings, loc=(member,))
                self._unfit[key] = ()
            except InvalidDefinition as exc:
                self._unfit[key] = exc.errors
        return self._unfit[key]


def check_webhook(
    connection: Connection,
    entity: StoredEntity,
    raw: object,
    *,
    checks: Checks,
    known: KnownSecrets | None = None,
) -> WebhookFields:
    """A whole definition, checked; `known` is for those who check many.

    Raises:
        InvalidDefinition: naming each fault.
    """
    body = parse_body(WebhookBody, raw)
    named: list[tuple[Loc, str | None]] = [
        (("access_token",), body.access_token),
        (("signing_secret",), body.signing_secret),
        (("client_certificate",), body.client_certificate),
        *((("secrets", index), name) for index, name in enumerate(body.secrets)),
    ]
    known = known or KnownSecrets(connection, entity, checks)
    faults = [*_url_faults(body, checks.settings), *known.missing(named)]
    if not faults:
        faults += known.unfit(
            {
                "access_token": (body.access_token, SecretUses(as_access_token=True)),
                "signing_secret": (body.signing_secret, SecretUses(as_signing_secret=True)),
                "client_certificate": (body.client_certificate, SecretUses(as_client_certificate=True)),
            }
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
        policy=body.policy.stored_form(),
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
