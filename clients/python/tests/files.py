"""Writers of the two file formats, as small as the formats allow; the real ones are tried where they are installed."""

from __future__ import annotations

import json
import struct
import zlib
from typing import Any

from hookline.follow.records import _masked_crc32c

BLOCK = 32_768


def varint(value: int) -> bytes:
    out = b""
    while True:
        value, low = value >> 7, value & 0x7F
        if not value:
            return out + bytes([low])
        out += bytes([low | 0x80])


def field(number: int, value: bytes | str | int | float) -> bytes:
    if isinstance(value, int):
        return varint(number << 3) + varint(value & (1 << 64) - 1)
    if isinstance(value, float):
        return varint(number << 3 | 5) + struct.pack("<f", value)
    data = value.encode() if isinstance(value, str) else value
    return varint(number << 3 | 2) + varint(len(data)) + data


class WandbFile:
    """The bytes of a `.wandb` file."""

    def __init__(self) -> None:
        self.data = b":W&B" + struct.pack("<HB", 0xBEE1, 0)

    def record(self, message: bytes) -> WandbFile:
        is_first = True
        while True:
            left = BLOCK - len(self.data) % BLOCK
            if left < 7:
                self.data += b"\x00" * left
                continue
            part, message = message[: left - 7], message[left - 7 :]
            kind = (1 if not message else 2) if is_first else (4 if not message else 3)
            checksum = zlib.crc32(part, zlib.crc32(bytes([kind])))
            self.data += struct.pack("<IHB", checksum, len(part), kind) + part
            is_first = False
            if not message:
                return self

    def run(self, id_: str, project: str = "digits", config: dict[str, Any] | None = None) -> WandbFile:
        items = b"".join(field(1, field(1, key) + field(16, json.dumps(one))) for key, one in (config or {}).items())
        return self.record(field(17, field(1, id_) + field(3, project) + field(8, f"name of {id_}") + field(4, items)))

    def history(self, step: int, padding: int = 0, **metrics: Any) -> WandbFile:
        items = b"".join(field(1, field(2, key) + field(16, json.dumps(one))) for key, one in metrics.items())
        items += field(1, field(1, "_padding") + field(16, json.dumps("x" * padding)))
        return self.record(field(2, items + field(2, field(1, step))))

    def alert(self, title: str, text: str, level: str) -> WandbFile:
        return self.record(field(10, field(1, title) + field(2, text) + field(3, level)))

    def exit(self, status: int) -> WandbFile:
        return self.record(field(18, field(1, status)))


def tensorboard_record(message: bytes) -> bytes:
    head = struct.pack("<Q", len(message))
    return head + struct.pack("<I", _masked_crc32c(head)) + message + struct.pack("<I", _masked_crc32c(message))


def scalar(step: int, tag: str, value: float) -> bytes:
    """A record as PyTorch's and tensorboardX's writers make it."""
    return tensorboard_record(field(2, step) + field(5, field(1, field(1, tag) + field(2, value))))
