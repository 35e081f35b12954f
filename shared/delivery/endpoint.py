"""A webhook made ready for sending: its secrets decrypted, its headers and signer prepared once for many requests.

Must not send, and must not show a secret: not in a `repr`, an error or an outcome.
"""

from __future__ import annotations

import re
import ssl
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from types import MappingProxyType
from typing import Any, Protocol
from urllib.parse import parse_qsl, urlsplit

from pydantic import ValidationError

from shared.delivery.answers import mask_outcome, sent_secrets
from shared.domain.delivery.outcomes import Outcome
from shared.domain.delivery.request_parts import (
    basic_credentials,
    fill_header,
    fill_url,
    mask_header,
    mask_url,
    secrets_in_headers,
    secrets_in_url,
)
from shared.domain.delivery.retries import DeliveryPolicy
from shared.domain.delivery.signing import (
    SIGNATURE_HEADERS,
    FormerKey,
    Signer,
    WandbSignature,
    check_signing_secret,
    unsigned_headers,
)
from shared.domain.errors import EndpointUnusable, InvalidDefinition
from shared.domain.payloads.content_types import JSON, header_of
from shared.domain.payloads.sealed import ACCESS_TOKEN, content_type_of, open_payload
from shared.http.request import USER_AGENT, Request, check_header, check_target
from shared.http.tls import TlsContexts
from shared.storage.definitions.webhook_fields import WebhookKind, public_id
from shared.storage.delivery.webhook_snapshots import SealedSecrets, WebhookSnapshot
from shared.vault import Vault

SHORTEST_PART = 8
"""The shortest part of a secret URL that is masked by itself: a shorter one would be found in innocent text."""
SHORTEST_SEGMENT = 16
"""The same for a segment of its path that is not the last: those before it are mostly words, such as `webhooks`."""
SECRET_URLS = {WebhookKind.SLACK: "***SLACK_URL***", WebhookKind.WEBHOOK: "***URL***"}
"""What is shown in place of a URL that is a secret as a whole."""
_NOTHING: Mapping[str, str] = MappingProxyType({})
_SHOWN_TOKEN: Mapping[str, str] = MappingProxyType({"Authorization": f"Bearer ***{ACCESS_TOKEN}***"})
_SHOWN_BASIC: Mapping[str, str] = MappingProxyType({"Authorization": "Basic ***BASIC***"})


class Deliverable(Protocol):
    """A delivery, as far as a request needs it."""

    @property
    def id(self) -> str:
        """The delivery's public id, sent as `webhook-id`."""

    @property
    def payload(self) -> str:
        """The sealed payload."""

    @property
    def attempts(self) -> int:
        """How many attempts were made before."""


@dataclass(frozen=True, slots=True)
class Endpoint:
    """An opened webhook. It holds secrets in the clear, so its `repr` shows the webhook's id and policy only.

    It never changes, so any thread may use it.
    """

    webhook: str
    """The webhook's public id."""
    url: str = field(repr=False)
    policy: DeliveryPolicy
    headers: dict[str, str] = field(repr=False)
    secrets: dict[str, str] = field(repr=False)
    signer: Signer | None = field(repr=False)
    always_sent: dict[str, str] = field(repr=False)
    """The secrets that each request carries, whatever its payload: the access token or password, those in headers and
    URL, a secret URL and its parts."""
    shown_url: str
    """The URL as people may see it."""
    shown_of_headers: Mapping[str, str]
    """The headers with secrets in them as people may see them, by name."""
    tls: ssl.SSLContext | None = None

    def request(self, delivery: Deliverable, now: datetime, *, keep_exchange: bool = False) -> Request:
        """The request of a delivery's next attempt, signed at `now`; `keep_exchange` as in `Request`.

        Raises:
            SecretUnavailable, SecretsTooLarge: as `open_payload`.
        """
        body = open_payload(delivery.payload, self.secrets)
        if self.signer is None:
            identified = unsigned_headers(message_id=delivery.id, timestamp=now)
        else:
            identified = self.signer.headers(message_id=delivery.id, timestamp=now, body=body)
        headers = {**self.headers, **identified, "hookline-attempt": str(delivery.attempts + 1)}
        if (content_type := content_type_of(delivery.payload)) != JSON:
            headers["Content-Type"] = header_of(content_type)
        return Request(
            url=self.url,
            body=body,
            headers=headers,
            timeout_seconds=self.policy.timeout_seconds,
            connect_timeout_seconds=self.policy.connect_timeout_seconds,
            keep_exchange=keep_exchange or delivery.attempts > 0,
            tls=self.tls,
            webhook=self.webhook,
            success=self.policy.success,
        )

    def mask_headers(self, headers: Mapping[str, str], *, signatures: bool = True) -> dict[str, str]:
        """The headers of a request as people may see them, without secrets.

        With `signatures` these are left out too: whoever has them and the body can try signing secrets.
        """
        shown = {name: self.shown_of_headers.get(name, value) for name, value in headers.items()}
        if signatures:
            shown.update((name, "***SIGNATURE***") for name in SIGNATURE_HEADERS if name in headers)
        return shown

    def mask_outcome(self, outcome: Outcome, payload: str) -> Outcome:
        """The outcome of a request with this sealed payload, without the secrets that the request carried.

        The endpoint may have repeated its request, and an error may name the URL.
        """
        return mask_outcome(outcome, self.always_sent | sent_secrets(payload, self.secrets))


_SCHEME = re.compile(r"bearer +(?=[^ ])", re.IGNORECASE)


def _without_scheme(token: str) -> str:
    """A token that was stored as it stands in a header, `Bearer <token>`: the header must not say it twice."""
    return _SCHEME.sub("", token, count=1) if _SCHEME.match(token) else token


def open_endpoint(row: WebhookSnapshot, stored: SealedSecrets, vault: Vault, contexts: TlsContexts) -> Endpoint:
    """Decrypt a webhook's secrets and check that requests can be made with them.

    They were checked when the webhook was saved, but perhaps by another release or another OpenSSL, or not at all if
    somebody wrote to the database. An unusable webhook is found here, before a delivery is claimed for it.

    Raises:
        SecretUnreadable: when the vault lacks the key of a secret.
        EndpointUnusable: when no request can be made with a secret, the URL or the policy.
    """
    granted = {name: vault.decrypt(ciphertext) for name, ciphertext in stored.granted.items()}
    headers = {"Content-Type": JSON, "User-Agent": USER_AGENT}
    secrets, always_sent, shown = dict(granted), dict[str, str](), _NOTHING
    if stored.access_token is not None:
        token = _without_scheme(vault.decrypt(stored.access_token))
        _check("access token", check_header, token)
        headers["Authorization"] = f"Bearer {token}"
        secrets[ACCESS_TOKEN] = always_sent[ACCESS_TOKEN] = token
        shown = _SHOWN_TOKEN
    if stored.basic_password is not None:
        password = vault.decrypt(stored.basic_password)
        credentials = basic_credentials(row.basic_user or "", password)
        headers["Authorization"] = f"Basic {credentials}"
        always_sent |= {"PASSWORD": password, "BASIC": credentials}
        shown = _SHOWN_BASIC
    if row.headers:
        named = secrets_in_headers(row.headers)
        always_sent |= _granted(named, granted, "a header")
        for name, template in row.headers.items():
            headers[name] = fill_header(template, granted)
            _check(f"header {name}", check_header, headers[name])
        shown = {**shown, **{name: mask_header(template) for name, template in row.headers.items()}}
    url, shown_url = _url(row, stored, granted, vault)
    _check("URL", check_target, url)
    if stored.url is not None:
        always_sent |= _parts_of_url(url)
    elif url is not row.url:
        always_sent |= {name: granted[name] for name in secrets_in_url(row.url) & granted.keys()}
    certificate = stored.client_certificate
    return Endpoint(
        webhook=public_id(row.kind, row.id),
        url=url,
        policy=_policy(row.policy),
        headers=headers,
        secrets=secrets,
        signer=_signer(row, stored, vault),
        always_sent=always_sent,
        shown_url=shown_url,
        shown_of_headers=shown,
        tls=None if certificate is None else contexts.with_certificate(row.id, vault.decrypt(certificate)),
    )


def _granted(named: frozenset[str], granted: Mapping[str, str], where: str) -> dict[str, str]:
    """The values of secrets. Raises EndpointUnusable for one that was not granted: somebody wrote to the database."""
    if missing := sorted(named - granted.keys()):
        raise EndpointUnusable(f"{where} has the secret {missing[0]!r}, which the webhook was not granted")
    return {name: granted[name] for name in named}


def _url(row: WebhookSnapshot, stored: SealedSecrets, granted: Mapping[str, str], vault: Vault) -> tuple[str, str]:
    """The webhook's URL, and as people may see it."""
    if stored.url is not None:
        return vault.decrypt(stored.url), SECRET_URLS[WebhookKind(row.kind)]
    return fill_url(row.url, granted), mask_url(row.url, frozenset(granted))


def _signer(row: WebhookSnapshot, stored: SealedSecrets, vault: Vault) -> Signer | None:
    if stored.signing_secret is None:
        return None
    secret, former = vault.decrypt(stored.signing_secret), None
    _check("signing secret", check_signing_secret, secret)
    if stored.former_signing_secret is not None and row.former_signing_until is not None:
        former = FormerKey(vault.decrypt(stored.former_signing_secret), row.former_signing_until)
        _check("former signing secret", check_signing_secret, former.secret)
    return Signer(secret, former=former, wandb=WandbSignature(row.wandb_signature or WandbSignature.BASE64))


def _policy(stored: dict[str, Any]) -> DeliveryPolicy:
    try:
        return DeliveryPolicy.model_validate(stored)
    except ValidationError:
        raise EndpointUnusable("this version does not know the policy") from None


def _check(what: str, check: Callable[[str], None], value: str) -> None:
    try:
        check(value)
    except InvalidDefinition as exc:
        raise EndpointUnusable(f"the {what} {exc}") from None


def _parts_of_url(url: str) -> dict[str, str]:
    """The parts of a secret URL that must not be shown: all of it, path and query, and what in them is like a token."""
    parts = urlsplit(url)
    before, _, token = parts.path.rpartition("/")
    found = {"URL": url, "URL_PATH": parts.path, "URL_TOKEN": token, "URL_QUERY": parts.query}
    for number, (_name, value) in enumerate(parse_qsl(parts.query), 1):
        found[f"URL_QUERY_{number}"] = value
    shown = {name: part for name, part in found.items() if len(part) >= SHORTEST_PART}
    for number, segment in enumerate(before.split("/"), 1):
        if len(segment) >= SHORTEST_SEGMENT:
            shown[f"URL_PATH_{number}"] = segment
    return shown
