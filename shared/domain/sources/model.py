"""A source: a service whose webhooks Hookline takes and turns into events of one entity."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from functools import cached_property
from hashlib import sha256
from typing import Any, Final

from shared.domain.errors import HooklineError
from shared.domain.events.types import EventType
from shared.domain.sources.rules import Rule

MAX_REQUEST_BYTES: Final = 1 << 20
"""How long a request's body may be: a source may add little to an event, which has the same limit."""
REPLAY_SECONDS: Final = 300
"""How far a signed time may be from now, as MLflow's documentation and Standard Webhooks both have it."""


class SourceKind(StrEnum):
    """The services whose webhooks are understood; `generic` is any other, by rules."""

    MLFLOW = "mlflow"
    GITHUB = "github"
    GITLAB = "gitlab"
    HUGGING_FACE = "hugging-face"
    EVENT_GRID = "event-grid"
    GENERIC = "generic"


class Encoding(StrEnum):
    """How a signature is written in its header."""

    HEX = "hex"
    BASE64 = "base64"


class KeyForm(StrEnum):
    """How a secret becomes the key of an HMAC: its text as UTF-8, or decoded, perhaps after `whsec_`."""

    TEXT = "text"
    BASE64 = "base64"


@dataclass(frozen=True, slots=True)
class TokenProof:
    """The secret itself in a header, after a prefix; or as a parameter of the URL, for senders without headers."""

    header: str | None
    prefix: str = ""
    query: str | None = None


@dataclass(frozen=True, slots=True)
class BasicProof:
    """HTTP Basic (RFC 7617); the secret is the password."""

    user: str


@dataclass(frozen=True, slots=True, kw_only=True)
class HmacProof:
    """A signature with the secret as key, in a header; several may stand in it, with spaces between."""

    header: str
    algorithm: str = "sha256"
    prefix: str = ""
    encoding: Encoding = Encoding.HEX
    key: KeyForm = KeyForm.TEXT
    id_header: str | None = None
    timestamp_header: str | None = None
    """With unix seconds, or milliseconds, of when it was signed."""
    signed: str = "{body}"
    """What is signed: `{body}` and perhaps `{id}` and `{timestamp}`."""
    tolerance_seconds: int = REPLAY_SECONDS

    @property
    def signs_id(self) -> bool:
        """Whether nobody can change the delivery's id on the way."""
        return self.id_header is not None and "{id}" in self.signed


Proof = TokenProof | BasicProof | HmacProof


PROOFS: Final[Mapping[SourceKind, Proof]] = {
    # https://mlflow.org/docs/latest/ml/webhooks: the secret is text, although the formula is Standard Webhooks' own.
    SourceKind.MLFLOW: HmacProof(
        header="x-mlflow-signature",
        prefix="v1,",
        encoding=Encoding.BASE64,
        id_header="x-mlflow-delivery-id",
        timestamp_header="x-mlflow-timestamp",
        signed="{id}.{timestamp}.{body}",
    ),
    # https://docs.github.com/webhooks/using-webhooks/validating-webhook-deliveries
    SourceKind.GITHUB: HmacProof(header="x-hub-signature-256", prefix="sha256="),
    # https://docs.gitlab.com/user/project/integrations/webhooks
    SourceKind.GITLAB: TokenProof("x-gitlab-token"),
    # https://huggingface.co/docs/hub/webhooks
    SourceKind.HUGGING_FACE: TokenProof("x-webhook-secret"),
    # https://learn.microsoft.com/azure/event-grid/security-authentication: a secret in the query, or a header of the
    # delivery's properties.
    SourceKind.EVENT_GRID: TokenProof("x-hookline-token", query="code"),
}
"""How each known service proves its requests; a generic source says so itself."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """A source as its definition says, without its secrets."""

    name: str
    kind: SourceKind
    entity: str
    project: str | None
    """The project of its events where nothing else names one; a generic source may have none."""
    proof: Proof
    rules: tuple[Rule, ...] = ()
    """They take the place of the kind's own reading where there are any."""


@dataclass(frozen=True)
class InboundRequest:
    """What a sender sent: names of headers in lower case."""

    headers: Mapping[str, str]
    query: Mapping[str, str]
    body: bytes

    @cached_property
    def digest(self) -> str:
        """A delivery's id where the sender gives none that is signed: a redelivery has the same body."""
        return sha256(self.body).hexdigest()[:32]

    def delivery_id(self, proof: Proof) -> str:
        """What a redelivery has again: the sender's id, if nobody can change it, or else the body's digest."""
        if isinstance(proof, HmacProof) and proof.signs_id and proof.id_header is not None:
            return self.headers.get(proof.id_header) or self.digest
        return self.digest


@dataclass(frozen=True, slots=True, kw_only=True)
class Draft:
    """An event that a request becomes, without what all events of a source have."""

    type: EventType
    key: str
    """What a redelivery of the same fact has again, and no other fact of this type."""
    data: dict[str, Any]
    time: object = None


@dataclass(slots=True)
class Reading:
    """What a request says: its events, and why parts of it are none."""

    drafts: list[Draft] = field(default_factory=list)
    ignored: list[str] = field(default_factory=list)

    def ignore(self, reason: str) -> None:
        """Note once why something is no event."""
        if reason not in self.ignored:
            self.ignored.append(reason)


class NotUnderstood(HooklineError):
    """The body is none that this kind of source sends; the text says what is expected, and repeats nothing of it."""
