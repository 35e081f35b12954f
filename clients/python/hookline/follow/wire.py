"""Reading protocol buffers by field number, without a package of theirs.

Both file formats hold few fields that matter here, and the packages that know them are large and of many versions.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator

Value = int | bytes
"""Varints and fixed-width fields as unsigned integers, all others as bytes."""


class Malformed(ValueError):
    """Bytes that are no message."""


def fields(message: bytes) -> Iterator[tuple[int, Value]]:
    """Each field's number and value, in order; raises Malformed."""
    at = 0
    while at < len(message):
        key, at = _varint(message, at)
        number, kind = key >> 3, key & 7
        if kind == 0:
            value, at = _varint(message, at)
            yield number, value
        elif kind == 2:
            size, at = _varint(message, at)
            if at + size > len(message):
                raise Malformed("a field ends beyond its message")
            yield number, message[at : at + size]
            at += size
        elif kind in (1, 5):
            size = 8 if kind == 1 else 4
            if at + size > len(message):
                raise Malformed("a field ends beyond its message")
            yield number, int.from_bytes(message[at : at + size], "little")
            at += size
        else:
            raise Malformed(f"wire type {kind}")


def grouped(message: bytes) -> dict[int, list[Value]]:
    """The values of each field; raises Malformed."""
    found: dict[int, list[Value]] = {}
    for number, value in fields(message):
        found.setdefault(number, []).append(value)
    return found


def text(values: list[Value] | None) -> str:
    """The last value as text; "" without one."""
    return values[-1].decode("utf-8", "replace") if values and isinstance(values[-1], bytes) else ""


def blocks(values: list[Value] | None) -> list[bytes]:
    """The values that are messages."""
    return [value for value in values or () if isinstance(value, bytes)]


def signed(values: list[Value] | None) -> int:
    """The last value as a signed integer of 64 bits; 0 without one."""
    value = values[-1] if values else 0
    if not isinstance(value, int):
        return 0
    return value - (1 << 64) if value >= 1 << 63 else value


def double(value: Value) -> float:
    """A fixed64 field as a double."""
    return float(struct.unpack("<d", value.to_bytes(8, "little"))[0]) if isinstance(value, int) else 0.0


def single(value: Value) -> float:
    """A fixed32 field as a float."""
    return float(struct.unpack("<f", (value & 0xFFFFFFFF).to_bytes(4, "little"))[0]) if isinstance(value, int) else 0.0


def _varint(message: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        if at >= len(message) or shift > 63:
            raise Malformed("a number does not end")
        byte = message[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value & (1 << 64) - 1, at
        shift += 7
