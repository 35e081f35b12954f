"""A webhook made ready for sending: its secrets decrypted, its headers and signer prepared once for a whole drain."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime

from shared.domain.payloads import ACCESS_TOKEN, open_payload
from shared.domain.retries import DeliveryPolicy
from shared.domain.signing import Signer, unsigned_headers
from shared.sender import USER_AGENT, Request
from shared.storage.queue import Claimed, EndpointRow
from shared.vault import Vault


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where deliveries go and with what. It holds secrets in the clear, so it has no telling `repr`."""

    url: str
    policy: DeliveryPolicy
    headers: dict[str, str] = field(repr=False)
    secrets: dict[str, str] = field(repr=False)
    signer: Signer | None = field(repr=False)

    def request(self, delivery: Claimed, now: datetime) -> Request:
        """The request of a delivery's next attempt. Raises SecretUnavailable when the payload lacks a secret."""
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
        )


def open_endpoint(row: EndpointRow, vault: Vault) -> Endpoint:
    """The endpoint with its secrets in the clear. Raises SecretUnreadable when the vault lacks their key."""
    secrets = {name: vault.decrypt(stored) for name, stored in row.granted.items()}
    headers = {"Content-Type": "application/json", "User-Agent": USER_AGENT}
    if row.access_token is not None:
        token = vault.decrypt(row.access_token)
        headers["Authorization"] = f"Bearer {token}"
        secrets[ACCESS_TOKEN] = token
    signer = None if row.signing_secret is None else Signer(vault.decrypt(row.signing_secret))
    return Endpoint(
        url=row.url, policy=DeliveryPolicy.model_validate(row.policy), headers=headers, secrets=secrets, signer=signer
    )
