"""A webhook made ready for sending: its secrets decrypted, its headers and signer prepared once for many requests.

Must not send, and must not show a secret: not in a `repr`, an error or an outcome.
"""

from __future__ import annotations

import re
import ssl
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Protocol
from urllib.parse import urlsplit

from pydantic import ValidationError

from shared.delivery.answers import mask_outcome, sent_secrets
from shared.domain.delivery.outcomes import Outcome
from shared.domain.delivery.retries import DeliveryPolicy
from shared.domain.delivery.signing import SIGNATURE_HEADERS, Signer, check_signing_secret, unsigned_headers
from shared.domain.errors import EndpointUnusable, InvalidDefinition
from shared.domain.payloads.sealed import ACCESS_TOKEN, open_payload
from shared.http.request import USER_AGENT, Request, check_header, check_target
from shared.http.tls import TlsContexts
from shared.storage.definitions.webhooks import public_id
from shared.storage.delivery.webhook_snapshots import SealedSecrets, WebhookSnapshot
from shared.vault import Vault

SLACK_URL = "SLACK_URL"
SHORTEST_PART = 8
"""The shortest part of a secret URL that is masked by itself: a shorter one would be found in innocent text."""


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
    """The secrets that each request carries, whatever its payload: the access token, a secret URL and its parts."""
    shown_url: str
    """The URL as people may see it."""
    tls: ssl.SSLContext | None = None

    def request(self, delivery: Deliverable, now: datetime, *, all_headers: bool = False) -> Request:
        """The request of a delivery's next attempt, signed at `now`; `all_headers` as in `Request`.

        Raises:
            SecretUnavailable, SecretsTooLarge: as `open_payload`.
        """
        body = open_payload(delivery.payload, self.secrets)
        if self.signer is None:
            identified = unsigned_headers(message_id=delivery.id, timestamp=now)
        else:
            identified = self.signer.headers(message_id=delivery.id, timestamp=now, body=body)
        return Request(
            url=self.url,
            body=body,
            headers={**self.headers, **identified, "hookline-attempt": str(delivery.attempts + 1)},
            timeout_seconds=self.policy.timeout_seconds,
            connect_timeout_seconds=self.policy.connect_timeout_seconds,
            all_headers=all_headers or delivery.attempts > 0,
            tls=self.tls,
            success=self.policy.success,
        )

    def mask_headers(self, headers: Mapping[str, str], *, signatures: bool = True) -> dict[str, str]:
        """The headers of a request as people may see them, without secrets.

        With `signatures` these are left out too: whoever has them and the body can try signing secrets.
        """
        hidden = _HIDDEN if signatures else _HIDDEN_TOKEN
        return {name: hidden.get(name, value) for name, value in headers.items()}

    def mask_outcome(self, outcome: Outcome, payload: str) -> Outcome:
        """The outcome of a request with this sealed payload, without the secrets that the request carried.

        The endpoint may have repeated its request, and an error may name the URL.
        """
        return mask_outcome(outcome, self.always_sent | sent_secrets(payload, self.secrets))


_HIDDEN_TOKEN = {"Authorization": f"Bearer ***{ACCESS_TOKEN}***"}
_HIDDEN = _HIDDEN_TOKEN | dict.fromkeys(SIGNATURE_HEADERS, "***SIGNATURE***")

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
    secrets = {name: vault.decrypt(ciphertext) for name, ciphertext in stored.granted.items()}
    always_sent = {}
    headers = {"Content-Type": "application/json", "User-Agent": USER_AGENT}
    if stored.access_token is not None:
        token = _without_scheme(vault.decrypt(stored.access_token))
        _check("access token", check_header, token)
        headers["Authorization"] = f"Bearer {token}"
        secrets[ACCESS_TOKEN] = always_sent[ACCESS_TOKEN] = token
    signer = None
    if stored.signing_secret is not None:
        signing_secret = vault.decrypt(stored.signing_secret)
        _check("signing secret", check_signing_secret, signing_secret)
        signer = Signer(signing_secret)
    url = row.url
    if stored.url is not None:
        url = vault.decrypt(stored.url)
    _check("URL", check_target, url)
    if stored.url is not None:
        always_sent |= _parts_of_url(url)
    certificate = stored.client_certificate
    return Endpoint(
        webhook=public_id(row.kind, row.id),
        url=url,
        policy=_policy(row.policy),
        headers=headers,
        secrets=secrets,
        signer=signer,
        always_sent=always_sent,
        shown_url=url if stored.url is None else f"***{SLACK_URL}***",
        tls=None if certificate is None else contexts.with_certificate(row.id, vault.decrypt(certificate)),
    )


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
    """The parts of a secret URL that must not be shown: all of it, its path, and the path's last segment, a token."""
    path = urlsplit(url).path
    token = path.rpartition("/")[2]
    parts = {"URL": url, "URL_PATH": path, "URL_TOKEN": token}
    return {name: part for name, part in parts.items() if len(part) >= SHORTEST_PART}
