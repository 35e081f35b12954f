"""A source from its definition as JSON, which was checked for its form already: how it proves, and its rules."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

from shared.domain.errors import FieldError, InvalidDefinition
from shared.domain.events.values import is_name
from shared.domain.sources.model import (
    PROOFS,
    BasicProof,
    Encoding,
    HmacProof,
    KeyForm,
    Proof,
    Source,
    SourceKind,
    TokenProof,
)
from shared.domain.sources.rules import MAX_RULES, Rule, parse_rule

_PART: Final = re.compile(r"\{([^{}]*)\}")
_HEADER: Final = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]{1,64}", re.ASCII)
_HEADER_FORM: Final = "must be a header's name of 1 to 64 letters, digits and !#$%&'*+.^_`|~-, such as X-Api-Key"


def source_of(name: str, kind: SourceKind, entity: str, definition: Mapping[str, Any]) -> Source:
    """The source that a definition describes, compiled.

    Args:
        name: of the source.
        kind: of service.
        entity: the name of the entity that owns it.
        definition: its members `project`, `verify` and `events`.

    Raises:
        InvalidDefinition: naming each fault.
    """
    faults: list[FieldError] = []
    project, verify, events = (definition.get(member) for member in ("project", "verify", "events"))
    if project is not None and not is_name(project):
        faults.append(FieldError(("project",), "must be a name of 1 to 512 characters, without control characters"))
    if kind is SourceKind.GENERIC:
        if verify is None:
            faults.append(FieldError(("verify",), "is required for a generic source: how it proves its requests"))
        if not events:
            faults.append(FieldError(("events",), "is required for a generic source: its rules"))
    else:
        if verify is not None:
            faults.append(FieldError(("verify",), f"must be left out: how {kind} proves its requests is known"))
        if project is None and not events:
            faults.append(FieldError(("project",), f"is required: {kind} does not know of Hookline's projects"))
    proof: Proof = PROOFS.get(kind, TokenProof("authorization"))
    if verify is not None:
        try:
            proof = proof_of(verify)
        except InvalidDefinition as exc:
            faults += exc.under("verify").errors
    rules: list[Rule] = []
    if len(events or ()) > MAX_RULES:
        faults.append(FieldError(("events",), f"must be at most {MAX_RULES} rules"))
        events = ()
    for place, raw in enumerate(events or ()):
        try:
            rules.append(parse_rule(raw, project=project, proof_header=proof_header(proof)))
        except InvalidDefinition as exc:
            faults += exc.under("events", place).errors
    if faults:
        raise InvalidDefinition(*faults)
    return Source(name=name, kind=kind, entity=entity, project=project, proof=proof, rules=tuple(rules))


def proof_header(proof: Proof) -> str | None:
    """The header that holds a proof, in lower case."""
    return "authorization" if isinstance(proof, BasicProof) else proof.header


def proof_of(raw: Mapping[str, Any]) -> Proof:
    """How a generic source proves its requests, from one of the members `token`, `basic` and `hmac`.

    Raises:
        InvalidDefinition: naming each fault.
    """
    given = [name for name in ("token", "basic", "hmac") if raw.get(name) is not None]
    if len(given) != 1:
        raise InvalidDefinition.at((), "must have exactly one of token, basic and hmac")
    members: Mapping[str, Any] = raw[given[0]]
    faults = [
        FieldError((given[0], member), _HEADER_FORM)
        for member in ("header", "id_header", "timestamp_header")
        if (header := members.get(member)) is not None and not _HEADER.fullmatch(header)
    ]
    if given == ["basic"]:
        if ":" in members["user"]:
            faults.append(FieldError(("basic", "user"), "must not have a colon (RFC 7617)"))
        proof: Proof = BasicProof(members["user"])
    elif given == ["token"]:
        proof = TokenProof(_lower(members.get("header")), members.get("prefix") or "", members.get("query"))
        if proof.header is None and proof.query is None:
            faults.append(FieldError(("token",), "must have a header or a query"))
    else:
        proof = _hmac_of(members)
        faults += _signed_faults(proof)
    if faults:
        raise InvalidDefinition(*faults)
    return proof


def _hmac_of(members: Mapping[str, Any]) -> HmacProof:
    parts = {"id": _lower(members.get("id_header")), "timestamp": _lower(members.get("timestamp_header"))}
    usual = ".".join([*(f"{{{name}}}" for name, header in parts.items() if header), "{body}"])
    return HmacProof(
        header=members["header"].lower(),
        algorithm=members["algorithm"],
        prefix=members.get("prefix") or "",
        encoding=Encoding(members["encoding"]),
        key=KeyForm(members["key"]),
        id_header=parts["id"],
        timestamp_header=parts["timestamp"],
        signed=members.get("signed") or usual,
        tolerance_seconds=members["tolerance_seconds"],
    )


def _signed_faults(proof: HmacProof) -> list[FieldError]:
    loc = ("hmac", "signed")
    named = _PART.findall(proof.signed)
    if "body" not in named:
        return [FieldError(loc, "must have {body}: what is not signed proves nothing")]
    headers = {"body": "", "id": proof.id_header, "timestamp": proof.timestamp_header}
    faults = [
        FieldError(loc, f"must have only {{body}}, {{id}} and {{timestamp}}, and the last two with {name}_header")
        for name in named
        if headers.get(name) is None
    ][:1]
    if proof.timestamp_header is not None and "timestamp" not in named:
        faults.append(FieldError(loc, "must have {timestamp}: a time that is not signed can be changed"))
    return faults


def _lower(name: str | None) -> str | None:
    return None if name is None else name.lower()
