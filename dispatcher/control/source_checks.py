"""A source's definition, checked before it is stored: its form, its proof, its rules, and the secrets that it names."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, ConfigDict, Field
from sqlalchemy import Connection

from dispatcher.control.bodies import Body, parse_body
from dispatcher.control.webhook_checks import MAX_NAME_LENGTH, Checks, KnownSecrets
from shared.domain.errors import FieldError, InvalidDefinition, Loc
from shared.domain.events.types import PUBLISHED_TYPES
from shared.domain.ids import IdKind, decode_id
from shared.domain.sources.model import REPLAY_SECONDS, Encoding, KeyForm, SourceKind
from shared.domain.sources.parsing import source_of
from shared.domain.sources.rules import MAX_RULES
from shared.storage.definitions.entities import StoredEntity
from shared.storage.definitions.secrets import SecretUses, decodes_secret

_NAME = re.compile(r"[-\w]+( +[-\w]+)*")
Text = Annotated[str, Field(min_length=1, max_length=256)]
Header = Annotated[
    str, Field(min_length=1, max_length=64, json_schema_extra={"pattern": r"^[A-Za-z0-9!#$%&'*+.^_`|~-]{1,64}$"})
]


def _check_name(name: str) -> str:
    if len(name) > MAX_NAME_LENGTH or not _NAME.fullmatch(name):
        raise ValueError(f"must be 1 to {MAX_NAME_LENGTH} letters, digits, - and _, with spaces only inside")
    if decode_id(IdKind.SOURCE, name) is not None:
        raise ValueError("must not look like a source's id")
    return name


SourceName = Annotated[str, AfterValidator(_check_name), Field(description="Unique among the entity's sources.")]


class TokenBody(Body):
    """The secret itself, in a header or in the URL's query."""

    model_config = ConfigDict(
        json_schema_extra={
            "anyOf": [
                {"required": [one], "properties": {one: {"not": {"type": "null"}}}} for one in ("header", "query")
            ]
        }
    )

    header: Annotated[Header | None, Field(description="The header's name, such as `X-Token`.")] = None
    query: Annotated[
        Annotated[str, Field(pattern=r"^[A-Za-z0-9_.-]{1,64}$")] | None,
        Field(description="The parameter of the URL, for services that send no headers of one's own."),
    ] = None
    prefix: Annotated[str, Field(max_length=64, description="What stands before the secret, such as `Bearer `.")] = ""


class BasicProofBody(Body):
    """HTTP Basic (RFC 7617); the secret is the password."""

    user: Annotated[Text, Field(description="Without a colon.", json_schema_extra={"pattern": "^[^:]*$"})]


class HmacBody(Body):
    """A signature in a header, with the secret as key."""

    header: Annotated[Header, Field(description="Its name, such as `X-Signature`.")]
    algorithm: Annotated[
        Literal["sha256", "sha384", "sha512", "sha1"], Field(description="The hash of the HMAC (RFC 2104).")
    ] = "sha256"
    prefix: Annotated[str, Field(max_length=64, description="What stands before a signature, such as `sha256=`.")] = ""
    encoding: Annotated[Encoding, Field(strict=False, description="How the signature is written.")] = Encoding.HEX
    key: Annotated[
        KeyForm, Field(strict=False, description="Whether the secret's text is the key, or base64 of it (`whsec_…`).")
    ] = KeyForm.TEXT
    id_header: Annotated[
        Header | None, Field(description="The header with the delivery's id, which is signed as `{id}`.")
    ] = None
    timestamp_header: Annotated[
        Header | None, Field(description="The header with the unix time, which is signed as `{timestamp}`.")
    ] = None
    signed: Annotated[
        Text | None,
        Field(description="What is signed; left out: `{body}`, after `{id}.` and `{timestamp}.` if they have headers."),
    ] = None
    tolerance_seconds: Annotated[
        int, Field(ge=1, le=86_400, description="How far the signed time may be from now.")
    ] = REPLAY_SECONDS


class VerifyBody(Body):
    """How a generic source proves its requests: exactly one of the three."""

    model_config = ConfigDict(
        json_schema_extra={
            "oneOf": [
                {"required": [one], "properties": {one: {"not": {"type": "null"}}}}
                for one in ("token", "basic", "hmac")
            ]
        }
    )

    token: TokenBody | None = None
    basic: BasicProofBody | None = None
    hmac: HmacBody | None = None


class RuleBody(Body):
    """A rule: which requests it is for, and the event that they become."""

    when: Annotated[
        dict[str, Any],
        Field(default_factory=dict, description="A filter over `body.<path>`, `item.<path>` and `header.<name>`."),
    ]
    each: Annotated[
        Text | None, Field(description="A list of the body, such as `body.models`: the rule is for each item of it.")
    ] = None
    type: Annotated[
        Literal[tuple(str(one) for one in PUBLISHED_TYPES)],  # type: ignore[valid-type]
        Field(description="The event's type."),
    ]
    id: Annotated[
        str | None,
        Field(max_length=1024, description="What a redelivery has again; left out: a signed id, or the body's digest."),
    ] = None
    time: Annotated[str | None, Field(max_length=1024, description="When it happened (RFC 3339).")] = None
    data: Annotated[
        dict[str, Any],
        Field(description="The event's data, in which `${body.<path>}` and so on stand for the request's values."),
    ]


class SourceBody(Body):
    """A source's definition. It contains names of secrets, never their values."""

    name: SourceName
    kind: Annotated[SourceKind, Field(strict=False, description="The service that sends.")]
    secret: Annotated[str, Field(description="The secret that proves its requests.")]
    former_secret: Annotated[
        str | None, Field(description="The secret before it, which is accepted as well until it is taken out.")
    ] = None
    project: Annotated[str | None, Field(description="The project of its events, where nothing else names one.")] = None
    verify: Annotated[VerifyBody | None, Field(description="How a generic source proves its requests.")] = None
    events: list[RuleBody] = Field(
        default=[],
        max_length=MAX_RULES,
        description="Rules; they take the place of how the kind is read otherwise.",
    )
    enabled: Annotated[bool, Field(description="A disabled source's requests are answered, and become no events.")] = (
        True
    )


@dataclass(frozen=True, slots=True)
class SourceFields:
    """A checked definition."""

    name: str
    kind: SourceKind
    enabled: bool
    definition: dict[str, Any]
    """Its other members, as they are stored."""


def definition_of(body: SourceBody) -> dict[str, Any]:
    """The members that are stored as the definition, in the form that `source_of` takes."""
    members = body.model_dump(mode="json")
    definition = {name: members[name] for name in ("secret", "former_secret", "project", "verify", "events")}
    if definition["verify"] is not None:
        definition["verify"] = {name: one for name, one in definition["verify"].items() if one is not None}
    return definition


def check_source(
    connection: Connection,
    entity: StoredEntity,
    raw: object,
    *,
    checks: Checks,
    known: KnownSecrets | None = None,
) -> SourceFields:
    """A whole definition, checked; `known` is for those who check many.

    Raises:
        InvalidDefinition: naming each fault.
    """
    body = parse_body(SourceBody, raw)
    definition = definition_of(body)
    faults: list[FieldError] = []
    try:
        source_of(body.name, body.kind, entity.name, definition)
    except InvalidDefinition as exc:
        faults += exc.errors
    named: list[tuple[Loc, str | None]] = [(("secret",), body.secret), (("former_secret",), body.former_secret)]
    known = known or KnownSecrets(connection, entity, checks)
    missing = known.missing(named)
    if not missing:
        uses = SecretUses(proves=True, proves_decoded=decodes_secret(definition))
        faults += known.unfit((loc, name, uses) for loc, name in named)
    if body.former_secret is not None and body.former_secret == body.secret:
        faults.append(FieldError(("former_secret",), "must be another secret than `secret`"))
    if faults or missing:
        raise InvalidDefinition(*faults, *missing)
    return SourceFields(body.name, body.kind, body.enabled, definition)
