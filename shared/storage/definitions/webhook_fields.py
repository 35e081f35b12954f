"""What a webhook or Slack integration is made of: the fields that an edit writes, and how a revision keeps them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any

from shared.domain.delivery.signing import WandbSignature
from shared.domain.ids import IdKind, encode_id


class WebhookKind(StrEnum):
    """The kinds of rows in the webhooks' table."""

    #: An endpoint of the entity's own.
    WEBHOOK = "webhook"
    #: A Slack incoming webhook: its URL is always a secret.
    SLACK = "slack"


ID_KINDS = {WebhookKind.WEBHOOK: IdKind.WEBHOOK, WebhookKind.SLACK: IdKind.SLACK}


def public_id(kind: WebhookKind | str, number: int) -> str:
    """The public id of a webhook or Slack integration."""
    return encode_id(ID_KINDS[WebhookKind(kind)], number)


@dataclass(frozen=True, slots=True)
class WebhookFields:
    """The columns that an edit writes, with secrets by their names in the entity."""

    name: str
    url: str
    """Blank where `url_secret` names the URL. Granted secrets may stand in its path and query as `${NAME}`."""
    access_token: str | None
    signing_secret: str | None
    secrets: tuple[str, ...]
    policy: dict[str, Any]
    enabled: bool
    paused: bool
    kind: WebhookKind = WebhookKind.WEBHOOK
    url_secret: str | None = None
    client_certificate: str | None = None
    slack_team: str | None = None
    slack_channel: str | None = None
    headers: dict[str, str] = field(default_factory=dict)
    """Headers of its own; granted secrets may stand in their values as `${NAME}`."""
    basic_user: str | None = None
    basic_password: str | None = None
    wandb_signature: WandbSignature = WandbSignature.BASE64
    former_signing_secret: str | None = None
    """The secret that signs as well until `former_signing_until`."""
    former_signing_until: datetime | None = None

    @property
    def used_secrets(self) -> frozenset[str]:
        """The names of all secrets that it uses."""
        named = (
            self.access_token,
            self.signing_secret,
            self.url_secret,
            self.client_certificate,
            self.basic_password,
            self.former_signing_secret,
        )
        return frozenset(self.secrets).union(name for name in named if name is not None)


def content_of_fields(fields: WebhookFields, disabled_reason: str | None = None) -> dict[str, Any]:
    """What a revision keeps of a webhook with these fields."""
    until = fields.former_signing_until
    return {
        **asdict(fields),
        "secrets": sorted(fields.secrets),
        "former_signing_until": None if until is None else until.isoformat(),
        "disabled_reason": disabled_reason,
    }


def fields_of_content(content: Mapping[str, Any]) -> WebhookFields:
    """The fields of a webhook, from what a revision keeps of it."""
    values = {key: value for key, value in content.items() if key != "disabled_reason"}
    until = content.get("former_signing_until")
    return WebhookFields(
        **{
            **values,
            "secrets": tuple(content["secrets"]),
            "kind": WebhookKind(content["kind"]),
            "wandb_signature": WandbSignature(content.get("wandb_signature", WandbSignature.BASE64)),
            "former_signing_until": None if until is None else datetime.fromisoformat(until),
        }
    )
