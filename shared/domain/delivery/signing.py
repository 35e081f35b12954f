"""Signatures of a request: the Standard Webhooks headers, and the `X-Wandb-Signature` that W&B receivers check.

`webhook-id` is the delivery's id, the same on all its attempts, so that a receiver can drop doubles. This module must
not read a clock, and must not put a secret into an error or a repr.
"""

from __future__ import annotations

import base64
import binascii
import hmac
import math
import string
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

from shared.domain.errors import InvalidDefinition

PREFIX = "whsec_"
LEAST_KEY_BYTES = 24
"""The least size of a key (standardwebhooks.com, "Signature scheme": 192 bits)."""
_ASYMMETRIC = ("whsk_", "whpk_")
"""The standard's prefixes of ed25519 keys."""


class WandbSignature(StrEnum):
    """How `X-Wandb-Signature` is written."""

    #: As W&B's page has it.
    BASE64 = "base64"
    #: As many receivers that were written for W&B read it.
    HEX = "hex"


@dataclass(frozen=True, slots=True)
class FormerKey:
    """The signing secret that a new one replaces. Requests are signed with both until a time."""

    secret: str = field(repr=False)
    until: datetime


class Signer:
    """The keys of one webhook; make one per webhook and use it for all its attempts."""

    __slots__ = ("_former", "_former_until", "_hex", "_standard", "_whole")

    def __init__(
        self, secret: str, *, former: FormerKey | None = None, wandb: WandbSignature = WandbSignature.BASE64
    ) -> None:
        """Prepare the keys.

        Args:
            secret: the signing secret in either form of `check_signing_secret`.
            former: the one before it, which signs as well for a while.
            wandb: how `X-Wandb-Signature` is written.

        Raises:
            InvalidDefinition: as `check_signing_secret`.
        """
        self._standard = _standard_key(secret)
        self._whole = secret.encode()
        self._hex = wandb is WandbSignature.HEX
        self._former = None if former is None else _standard_key(former.secret)
        self._former_until = None if former is None else former.until

    def headers(self, *, message_id: str, timestamp: datetime, body: bytes) -> dict[str, str]:
        """All headers of one attempt, `unsigned_headers` included; `body` is the UTF-8 text that is sent.

        `webhook-signature` is `v1,` and base64 of HMAC-SHA256 over `id.timestamp.body` (standardwebhooks.com). Before
        the end of a former key it has a second one after a space, by that key: receivers take either.
        `X-Wandb-Signature` is base64 or hexadecimal of HMAC-SHA256 over the body alone, under the whole secret's bytes,
        prefix included: what `openssl dgst -sha256 -hmac` gives in W&B's webhook_test.sh. It has room for one
        signature, the new secret's.

        Raises:
            ValueError: for a timestamp without a time zone.
        """
        headers = unsigned_headers(message_id=message_id, timestamp=timestamp)
        signed = f"{message_id}.{headers['webhook-timestamp']}.".encode() + body
        signature = f"v1,{_digest(self._standard, signed)}"
        if self._former is not None and self._former_until is not None and timestamp < self._former_until:
            signature = f"{signature} v1,{_digest(self._former, signed)}"
        headers["webhook-signature"] = signature
        headers["X-Wandb-Signature"] = (
            hmac.digest(self._whole, body, "sha256").hex() if self._hex else _digest(self._whole, body)
        )
        return headers


SIGNATURE_HEADERS = ("webhook-signature", "X-Wandb-Signature")
"""The headers that `Signer.headers` adds where there is a signing secret."""


def _digest(key: bytes, message: bytes) -> str:
    """Base64 of a message's HMAC. In one call: copying an object with the key prepared costs more than preparing it."""
    return binascii.b2a_base64(hmac.digest(key, message, "sha256"), newline=False).decode()


def signature_headers(*, message_id: str, timestamp: datetime, body: bytes, secret: str) -> dict[str, str]:
    """`Signer.headers` for a single request."""
    return Signer(secret).headers(message_id=message_id, timestamp=timestamp, body=body)


def unsigned_headers(*, message_id: str, timestamp: datetime) -> dict[str, str]:
    """The headers that are sent with or without a signing secret; the timestamp counts whole seconds since 1970.

    Raises:
        ValueError: for a timestamp without a time zone.
    """
    if timestamp.utcoffset() is None:
        raise ValueError("timestamp must have a time zone")
    return {"webhook-id": message_id, "webhook-timestamp": str(math.floor(timestamp.timestamp()))}


def check_signing_secret(secret: str) -> None:
    """Refuses a signing secret that cannot sign: `whsec_` is followed by base64 of the key; any other text is the key.

    Raises:
        InvalidDefinition: for an empty key, a `whsec_` secret that is not base64, text that is not valid Unicode.
    """
    _standard_key(secret)


_BLANK = (
    string.whitespace
    + "\x1c\x1d\x1e\x1f\x85\xa0\u1680\u2028\u2029\u202f\u205f\u3000"
    + "".join(map(chr, range(0x2000, 0x200E)))
    + "\u2060\ufeff"
)
"""What can't be seen at the ends of a text; the last is the mark with which some editors begin a file."""


def check_new_signing_secret(secret: str) -> None:
    """Refuse what nobody means for a signing secret, where one is stored or named anew.

    Stricter than `check_signing_secret`, which decides what can sign: secrets that were stored before stay in use. Both
    sides would have the same text, and every signature would be wrong.

    Raises:
        InvalidDefinition: saying what is accepted, without the value.
    """
    if secret != secret.strip(_BLANK):
        raise InvalidDefinition.at(
            (), "must not begin or end with white space or a line break, such as the one of `echo`: store it without"
        )
    if secret.lower().startswith(_ASYMMETRIC):
        raise InvalidDefinition.at(
            (), f"must be a shared key: {' and '.join(_ASYMMETRIC)} begin ed25519 keys, which are not supported"
        )
    if PREFIX in secret.lower() and not secret.startswith(PREFIX):
        raise InvalidDefinition.at(
            (), f"must begin with {PREFIX!r}, in small letters: leave out what stands before it, such as 'v1,'"
        )
    if len(_standard_key(secret)) < LEAST_KEY_BYTES:
        raise InvalidDefinition.at(
            (),
            f"must have a key of at least {LEAST_KEY_BYTES} bytes (Standard Webhooks), such as "
            f"{PREFIX}$(openssl rand -base64 32)",
        )


def _standard_key(secret: str) -> bytes:
    """The key of `webhook-signature`. Stricter than the library, which skips characters that are not base64."""
    try:
        if not secret.startswith(PREFIX):
            key = secret.encode()
        else:
            encoded = secret.removeprefix(PREFIX)
            key = base64.b64decode(encoded + "=" * (-len(encoded) % 4), validate=True)
    except UnicodeEncodeError:
        raise InvalidDefinition.at((), "must be valid Unicode text, without lone surrogates") from None
    except (binascii.Error, ValueError):
        raise InvalidDefinition.at((), f"must have standard base64 of the key after {PREFIX!r}") from None
    if not key:
        raise InvalidDefinition.at((), f"must not be empty, nor {PREFIX!r} alone")
    return key
