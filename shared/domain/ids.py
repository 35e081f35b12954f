"""Public ids: how webhooks, automations, keys, users and deliveries are named outside, as opaque text.

A delivery's id is `dlv_` and 128 bits in lower-case base32; the others are a prefix and the row's number. Knows nothing
of where rows are kept, and must not draw random numbers: callers pass the bits.
"""

from __future__ import annotations

import re
from enum import StrEnum

MAX_ROW_NUMBER = 2**63 - 1
"""The greatest number of a BIGINT column."""
DELIVERY_ID_BYTES = 16
# Base32 (RFC 4648, section 6) in lower case without padding, by pairs of characters: quicker than `base64`.
_ALPHABET = "abcdefghijklmnopqrstuvwxyz234567"
_PAIRS = tuple(first + second for first in _ALPHABET for second in _ALPHABET)
_PADDING_BITS = 2
_PLACES = range(8 * DELIVERY_ID_BYTES + _PADDING_BITS - 10, -1, -10)
_NUMBER = re.compile(r"[1-9][0-9]{0,18}")


class IdKind(StrEnum):
    """The kinds of things with numbered ids; the value is the prefix of their ids."""

    WEBHOOK = "wh"
    SLACK = "slk"
    AUTOMATION = "aut"
    KEY = "key"
    USER = "usr"
    SESSION = "ses"
    SOURCE = "src"


def encode_id(kind: IdKind, number: int) -> str:
    """The public id of a row, e.g. `wh_12`."""
    return f"{kind}_{number}"


def decode_id(kind: IdKind, text: str) -> int | None:
    """The row's number; None for text that is no id of this kind. Only what `encode_id` writes is read."""
    prefix, _, digits = text.partition("_")
    if prefix != kind or not _NUMBER.fullmatch(digits) or int(digits) > MAX_ROW_NUMBER:
        return None
    return int(digits)


def delivery_id(bits: bytes) -> str:
    """The id of a delivery from 16 bytes.

    Raises:
        ValueError: for any other number of bytes.
    """
    if len(bits) != DELIVERY_ID_BYTES:
        raise ValueError(f"a delivery's id is made of {DELIVERY_ID_BYTES} bytes")
    left = int.from_bytes(bits) << _PADDING_BITS
    return "dlv_" + "".join([_PAIRS[left >> place & 1023] for place in _PLACES])
