"""A webhook's definition, checked before it is stored: its form, its URL, and the secrets that it names."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Annotated

from pydantic import AfterValidator, Field
from sqlalchemy import Connection

from dispatcher.control.bodies import Body, Timestamp, parse_body
from dispatcher.control.secrets import check_value
from shared.domain.automations.model import Grants
from shared.domain.delivery.request_parts import (
    header_faults,
    loose_references,
    sample_url,
    secrets_in_headers,
    secrets_in_url,
    under,
    url_faults,
    user_fault,
)
from shared.domain.delivery.retries import DeliveryPolicy
from shared.domain.delivery.signing import WandbSignature
from shared.domain.errors import FieldError, InvalidDefinition, Loc
from shared.domain.ids import IdKind, decode_id
from shared.http.egress import check_webhook_url
from shared.settings import Settings
from shared.storage.definitions.entities import StoredEntity
from shared.storage.definitions.secrets import SecretUses, ciphertexts, secret_ids
from shared.storage.definitions.webhook_fields import WebhookFields
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


class BasicBody(Body):
    """HTTP Basic (RFC 7617)."""

    user: Annotated[str, Field(description="Without a colon.")]
    password_secret: Annotated[str, Field(description="The secret that is the password.")]


class WebhookBody(Body):
    """A webhook's definition. It contains names of secrets, never their values."""

    name: WebhookName
    url: Annotated[
        str | None,
        Field(
            description="The URL that deliveries are POSTed to; granted secrets may stand in its path and query as "
            "`${NAME}`. Either it or `url_secret` is required."
        ),
    ] = None
    url_secret: Annotated[str | None, Field(description="The secret that is the whole URL, in place of `url`.")] = None
    access_token: Annotated[str | None, Field(description="The secret that is sent as `Authorization: Bearer …`.")] = (
        None
    )
    basic: Annotated[BasicBody | None, Field(description="User and password, sent as `Authorization: Basic …`.")] = None
    headers: Annotated[
        dict[str, str],
        Field(
            default_factory=dict,
            description="Headers of its own; granted secrets may stand in their values as `${NAME}`, `$$` is a `$`.",
        ),
    ]
    signing_secret: Annotated[str | None, Field(description="The secret that signs requests.")] = None
    former_signing_secret: Annotated[
        str | None,
        Field(description="The signing secret before it, which signs as well until `former_signing_until`."),
    ] = None
    former_signing_until: Annotated[
        Timestamp | None, Field(description="Until when the former signing secret signs as well.")
    ] = None
    wandb_signature: Annotated[
        WandbSignature, Field(strict=False, description="How `X-Wandb-Signature` is written.")
    ] = WandbSignature.BASE64
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
        self._unfit: dict[tuple[SecretUses, str], tuple[FieldError, ...]] = {}

    def missing(self, named: Iterable[tuple[Loc, str | None]]) -> list[FieldError]:
        """A fault at each place that names a secret which the entity does not have; None names none."""
        missing = [(loc, name) for loc, name in named if name is not None and name not in self._known]
        if not missing:
            return []
        available = ", ".join(self._known) or "none yet; PUT one first"
        # Not what was sent: somebody who takes the member for the secret itself would find it in logs of the refusal.
        form = f"must be the name of a secret of {self._entity.name!r}; available: {available}"
        return [FieldError(loc, form) for loc, _ in missing]

    def unfit(self, used: Iterable[tuple[Loc, str | None, SecretUses]]) -> list[FieldError]:
        """A fault at each place that names a secret whose value can't be used in this way."""
        return [fault.under(*loc) for loc, name, uses in used if name is not None for fault in self._faults(uses, name)]

    def not_https(self, url_secret: str) -> list[FieldError]:
        """A fault at the client certificate where the secret is a URL without TLS, in which none can be shown."""
        stored = ciphertexts(self._connection, self._entity.id, [url_secret])[url_secret]
        is_https = self._checks.vault.decrypt(stored)[:6].lower() == "https:"
        return [] if is_https else [FieldError(("client_certificate",), _NEEDS_TLS)]

    def _faults(self, uses: SecretUses, name: str) -> tuple[FieldError, ...]:
        key = (uses, name)
        if key not in self._unfit:
            stored = ciphertexts(self._connection, self._entity.id, [name])[name]
            try:
                check_value(self._checks.vault.decrypt(stored), uses, settings=self._checks.settings, loc=())
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
    before: WebhookFields | None = None,
) -> WebhookFields:
    """A whole definition, checked; `known` is for those who check many.

    `before` is the webhook as it is stored: a signing secret that it keeps was taken by the rules of its time.

    Raises:
        InvalidDefinition: naming each fault.
    """
    try:
        body = parse_body(WebhookBody, raw)
    except InvalidDefinition as exc:
        raise InvalidDefinition(*exc.errors, *_missing_url(raw)) from None
    password = None if body.basic is None else body.basic.password_secret
    named: list[tuple[Loc, str | None]] = [
        (("url_secret",), body.url_secret),
        (("access_token",), body.access_token),
        (("basic", "password_secret"), password),
        (("signing_secret",), body.signing_secret),
        (("former_signing_secret",), body.former_signing_secret),
        (("client_certificate",), body.client_certificate),
        *((("secrets", index), name) for index, name in enumerate(body.secrets)),
    ]
    known = known or KnownSecrets(connection, entity, checks)
    faults = [*_url_faults(body, checks.settings, before), *_authentication_faults(body), *known.missing(named)]
    if not faults:
        faults += known.unfit(_uses(body, before))
    if not faults and body.url_secret is not None and body.client_certificate is not None:
        faults += known.not_https(body.url_secret)
    if faults:
        raise InvalidDefinition(*faults)
    return WebhookFields(
        name=body.name,
        url=body.url or "",
        url_secret=body.url_secret,
        access_token=body.access_token,
        basic_user=None if body.basic is None else body.basic.user,
        basic_password=password,
        headers=dict(body.headers),
        signing_secret=body.signing_secret,
        former_signing_secret=body.former_signing_secret,
        former_signing_until=body.former_signing_until,
        wandb_signature=body.wandb_signature,
        client_certificate=body.client_certificate,
        secrets=tuple(sorted(set(body.secrets))),
        policy=body.policy.stored_form(),
        enabled=body.enabled,
        paused=body.paused,
    )


def _missing_url(raw: object) -> list[FieldError]:
    """The fault of a definition without any URL, told beside its other faults."""
    is_named = not isinstance(raw, Mapping) or any(raw.get(name) is not None for name in ("url", "url_secret"))
    return [] if is_named else [FieldError(("url",), _NO_URL)]


def _uses(body: WebhookBody, before: WebhookFields | None) -> list[tuple[Loc, str | None, SecretUses]]:
    """How the secrets of a definition are used: where each is named, its name, and how."""
    is_kept = before is not None and body.signing_secret in (before.signing_secret, before.former_signing_secret)
    signing = SecretUses(as_kept_signing_secret=True) if is_kept else SecretUses(as_signing_secret=True)
    password = None if body.basic is None else body.basic.password_secret
    return [
        (("url_secret",), body.url_secret, SecretUses(as_url=True)),
        (("access_token",), body.access_token, SecretUses(as_access_token=True)),
        (("basic", "password_secret"), password, SecretUses(as_basic_password=True)),
        (("signing_secret",), body.signing_secret, signing),
        (("former_signing_secret",), body.former_signing_secret, SecretUses(as_kept_signing_secret=True)),
        (("client_certificate",), body.client_certificate, SecretUses(as_client_certificate=True)),
        *(
            (("headers", header), name, SecretUses(in_header=True))
            for header, value in body.headers.items()
            for name in sorted(secrets_in_headers({header: value}))
        ),
        *((("url",), name, SecretUses(in_url=True)) for name in sorted(secrets_in_url(body.url or ""))),
    ]


def _authentication_faults(body: WebhookBody) -> list[FieldError]:
    """What does not go together, and what no request could carry."""
    granted = frozenset(body.secrets)
    faults = under(("headers",), header_faults(body.headers, granted))
    own = next((name for name in body.headers if name.lower() == "authorization"), None)
    if body.access_token is not None and (body.basic is not None or own is not None):
        faults.append(FieldError(("access_token",), _ONE_AUTHORIZATION))
    elif body.basic is not None and own is not None:
        faults.append(FieldError(("basic",), _ONE_AUTHORIZATION))
    if body.basic is not None and (fault := user_fault(body.basic.user)):
        faults.append(FieldError(("basic", "user"), fault))
    if (body.former_signing_secret is None) is not (body.former_signing_until is None):
        missing = "former_signing_until" if body.former_signing_until is None else "former_signing_secret"
        faults.append(FieldError((missing,), "is required: a former signing secret and its end go together"))
    if body.former_signing_secret is not None and body.signing_secret is None:
        faults.append(FieldError(("signing_secret",), "is required where there is a former one"))
    if body.former_signing_secret is not None and body.former_signing_secret == body.signing_secret:
        faults.append(FieldError(("former_signing_secret",), "must be another secret than signing_secret"))
    return faults


_NO_URL = "is required, or url_secret"
_NEEDS_TLS = "is shown in TLS only: the webhook's url must be https"
_ONE_AUTHORIZATION = "must be the only one of access_token, basic and an Authorization header: a request has one"


def _url_faults(body: WebhookBody, settings: Settings, before: WebhookFields | None = None) -> list[FieldError]:
    if body.url_secret is not None:
        if body.url is not None:
            return [FieldError(("url",), "must be left out where url_secret names the URL")]
        return []
    if body.url is None:
        return [FieldError(("url",), _NO_URL)]
    granted = frozenset(body.secrets)
    faults = url_faults(body.url, granted)
    if not faults and (before is None or before.url != body.url):
        faults = loose_references(body.url, granted)
    if faults:
        return under(("url",), faults)
    try:
        check_webhook_url(sample_url(body.url) if secrets_in_url(body.url) else body.url, settings)
    except InvalidDefinition as exc:
        return list(exc.under("url").errors)
    if body.client_certificate is not None and body.url[:6].lower() != "https:":
        return [FieldError(("client_certificate",), _NEEDS_TLS)]
    return []
