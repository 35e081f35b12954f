"""Whether a request proves that its sender knows the source's secret.

Every comparison is of digests of the same length in constant time, with each secret that is accepted, so that how long
it takes tells nothing about a secret. The reason why not is for the source's owners alone, never for the sender.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
from collections.abc import Iterator, Sequence
from contextlib import suppress
from datetime import datetime
from typing import Final

from shared.domain.errors import InvalidDefinition
from shared.domain.sources.model import BasicProof, Encoding, HmacProof, InboundRequest, KeyForm, Proof, TokenProof

MAX_SIGNATURES: Final = 10
_MILLISECONDS_FROM: Final = 10**11
"""A unix time from here on is in milliseconds: in seconds it would be in the year 5138."""


def unproven(proof: Proof, request: InboundRequest, secrets: Sequence[str], now: datetime) -> str | None:
    """Why the request proves nothing, in a sentence for the source's owners; None when it is the sender's.

    `secrets` are all values that are accepted: the present one, and perhaps the one before it.
    """
    match proof:
        case TokenProof():
            return _unproven_token(proof, request, secrets)
        case BasicProof():
            return _unproven_basic(proof, request, secrets)
        case HmacProof():
            return _unproven_signature(proof, request, secrets, now)


def _unproven_token(proof: TokenProof, request: InboundRequest, secrets: Sequence[str]) -> str | None:
    found = []
    places = []
    if proof.header is not None:
        places.append(f"header {proof.header}" + (f" with the prefix {proof.prefix!r}" if proof.prefix else ""))
        for header in _readings(request.headers.get(proof.header)):
            if header.startswith(proof.prefix):
                found.append(header.removeprefix(proof.prefix))
    if proof.query is not None:
        places.append(f"parameter {proof.query} in the URL")
        if (given := request.query.get(proof.query)) is not None:
            found.append(given)
    if not found:
        return f"it has no {' and no '.join(places)}"
    return None if _any_same(found, secrets) else "the token is not the secret"


def _unproven_basic(proof: BasicProof, request: InboundRequest, secrets: Sequence[str]) -> str | None:
    scheme, _, coded = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() != "basic":
        return "it has no header Authorization with Basic"
    try:
        given = base64.b64decode(coded.strip(), validate=True).decode()
    except (binascii.Error, ValueError):
        return "its Basic credentials are not base64 of UTF-8"
    expected = [f"{proof.user}:{secret}" for secret in secrets]
    return None if _any_same([given], expected) else "its user or password is another one"


def _unproven_signature(proof: HmacProof, request: InboundRequest, secrets: Sequence[str], now: datetime) -> str | None:
    header = request.headers.get(proof.header)
    if header is None:
        return f"it has no header {proof.header}: perhaps the sender has no secret"
    parts = {"body": request.body}
    for name, field in (("id", proof.id_header), ("timestamp", proof.timestamp_header)):
        if field is not None and f"{{{name}}}" in proof.signed:
            if (value := request.headers.get(field)) is None:
                return f"it has no header {field}"
            parts[name] = _as_sent(value)
    signed = signed_bytes(proof.signed, parts)
    given = list(_signatures(proof, header))
    if not given:
        return f"its header {proof.header} is no signature in {proof.encoding} with the prefix {proof.prefix!r}"
    same = False
    for secret in secrets:
        expected = hmac.digest(key_of(proof, secret), signed, proof.algorithm)
        for one in given:
            same |= hmac.compare_digest(one, expected)
    if not same:
        return "the signature does not fit: another secret, or a body that was changed on the way"
    return _stale(proof, request, now)


def signed_bytes(form: str, parts: dict[str, bytes]) -> bytes:
    """What is signed: the form with its parts, of which none is looked through again."""
    made: list[bytes] = []
    while form:
        before, brace, rest = form.partition("{")
        made.append(before.encode())
        name, end, form = rest.partition("}")
        if brace:
            made.append(parts.get(name, f"{{{name}{end}".encode()))
    return b"".join(made)


def _signatures(proof: HmacProof, header: str) -> Iterator[bytes]:
    """The signatures in a header; those of another version or length are passed over."""
    size = hashlib.new(proof.algorithm, usedforsecurity=False).digest_size
    for one in header.split()[:MAX_SIGNATURES]:
        if not one.startswith(proof.prefix):
            continue
        text = one.removeprefix(proof.prefix)
        try:
            raw = bytes.fromhex(text) if proof.encoding is Encoding.HEX else base64.b64decode(text, validate=True)
        except (binascii.Error, ValueError):
            continue
        if len(raw) == size:
            yield raw


def _stale(proof: HmacProof, request: InboundRequest, now: datetime) -> str | None:
    """Why a time that is signed, and so can't be changed, is too far from now."""
    if proof.timestamp_header is None:
        return None
    text = request.headers.get(proof.timestamp_header, "")
    if not text.isascii() or not text.isdecimal() or len(text) > 13:
        return f"its header {proof.timestamp_header} is no unix time"
    seconds = int(text) / (1000 if int(text) >= _MILLISECONDS_FROM else 1)
    if abs(now.timestamp() - seconds) > proof.tolerance_seconds:
        return f"it was signed more than {proof.tolerance_seconds} s from now: a replay, or a clock is wrong"
    return None


def key_of(proof: HmacProof, secret: str) -> bytes:
    """The key of a signature. Raises InvalidDefinition for a secret that is not base64 where it has to be."""
    if proof.key is KeyForm.TEXT:
        return secret.encode("utf-8", "surrogatepass")
    try:
        return base64.b64decode(secret.removeprefix("whsec_"), validate=True)
    except (binascii.Error, ValueError):
        raise InvalidDefinition.at((), "must be base64, perhaps after `whsec_`") from None


def _readings(field: str | None) -> Iterator[str]:
    """A header's value in Latin-1, as HTTP's servers read them, and in UTF-8, as many services send a secret."""
    if field is None:
        return
    yield field
    if not field.isascii():
        with suppress(UnicodeDecodeError):
            yield _as_sent(field).decode()


def _as_sent(field: str) -> bytes:
    """The bytes of a header's value, which was read in Latin-1."""
    try:
        return field.encode("latin-1")
    except UnicodeEncodeError:
        return field.encode("utf-8", "surrogatepass")


def _any_same(given: Sequence[str], secrets: Sequence[str]) -> bool:
    same = False
    for one in given:
        for secret in secrets:
            same |= hmac.compare_digest(_digest(one), _digest(secret))
    return same


def _digest(text: str) -> bytes:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()
