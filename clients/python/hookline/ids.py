"""Ids of events and runs, made before the first try, so that a repeat is known as one."""

from __future__ import annotations

import os
import time
import uuid

_ALPHABET = "0123456789abcdefghijklmnopqrstuvwxyz"


def event_id() -> str:
    """A UUID of version 7 (RFC 9562, section 5.7): its first 48 bits are the time in milliseconds."""
    value = (time.time_ns() // 1_000_000) << 80 | int.from_bytes(os.urandom(10), "big")
    value = value & ~(0xF << 76) | 0x7 << 76
    value = value & ~(0x3 << 62) | 0x2 << 62
    return str(uuid.UUID(int=value & (1 << 128) - 1))


def run_id() -> str:
    """Ten characters that people can read out, of 51 bits."""
    return "".join(_ALPHABET[byte % 36] for byte in os.urandom(10))
