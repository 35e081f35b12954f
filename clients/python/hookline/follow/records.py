"""Cutting files into records while somebody else appends to them: LevelDB's log format, and TensorFlow's.

A cutter is given an offset and yields whole records with the offset after each. It stops before what is not whole yet,
and steps over what can't become whole any more.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable, Iterator

Read = Callable[[int, int], bytes]
"""Bytes of the file from an offset, as many as asked for unless it ends before."""
Cut = Iterator[tuple[bytes, int]]

WANDB_HEADER = b":W&B"
_WANDB_HEADER_BYTES = 7
_BLOCK = 32_768
_MAX_RECORD_BYTES = 64 << 20
_FULL, _FIRST, _MIDDLE, _LAST = 1, 2, 3, 4
_CHECKED_BYTES = 4096
"""Longer records, which are pictures and graphs, are not checked: the sum is slow in Python."""


def is_wandb(read: Read) -> bool | None:
    """Whether a `.wandb` file begins as one; None while that is not written yet."""
    head = read(0, _WANDB_HEADER_BYTES)
    if len(head) < _WANDB_HEADER_BYTES:
        return None if head == (WANDB_HEADER + b"\xe1\xbe\x00")[: len(head)] else False
    return head[:4] == WANDB_HEADER


def wandb_records(read: Read, offset: int, size: int) -> Cut:
    """Records of a `.wandb` file of `size` bytes: LevelDB's log blocks, with a CRC-32 over type and data.

    The format is https://github.com/google/leveldb/blob/main/doc/log_format.md behind a header of seven bytes, which
    count as part of the first block.
    """
    at = max(offset, _WANDB_HEADER_BYTES)
    parts: list[bytes] = []
    while True:
        left = _BLOCK - at % _BLOCK
        if left < 7:
            at += left
            continue
        head = read(at, 7)
        if len(head) < 7:
            return
        checksum, length, kind = struct.unpack("<IHB", head)
        data = read(at + 7, length)
        is_whole = len(data) == length and length + 7 <= left and _FULL <= kind <= _LAST
        if not is_whole or zlib.crc32(data, zlib.crc32(head[6:7])) != checksum:
            after = at + left
            if size <= after:
                return  # it may be being written
            parts.clear()  # the writer is beyond it: it stays broken
            at = after
            continue
        at += 7 + length
        if kind in (_FULL, _FIRST):
            parts.clear()
        elif not parts:
            continue  # the rest of a record whose beginning is lost
        parts.append(data)
        if kind in (_FULL, _LAST):
            yield b"".join(parts), at
            parts.clear()
        elif sum(map(len, parts)) > _MAX_RECORD_BYTES:
            parts.clear()


def tensorboard_records(read: Read, offset: int, size: int) -> Cut:
    """Records of an event file of `size` bytes: length, its masked CRC-32C, data, and theirs (TensorFlow's TFRecord).

    Raises:
        ValueError: where no record can begin; nothing behind it can be read.
    """
    at = offset
    while True:
        head = read(at, 12)
        if len(head) < 12:
            return
        length, checksum = struct.unpack("<QI", head)
        if length > _MAX_RECORD_BYTES or _masked_crc32c(head[:8]) != checksum:
            raise ValueError(f"no record begins at byte {at}")
        if size < at + length + 16:
            return
        data = read(at + 12, length + 4)
        at += length + 16
        is_checked = length <= _CHECKED_BYTES
        if is_checked and _masked_crc32c(data[:-4]) != int.from_bytes(data[-4:], "little"):
            continue
        yield data[:-4], at


def _make_table() -> tuple[int, ...]:
    table = []
    for byte in range(256):
        value = byte
        for _ in range(8):
            value = value >> 1 ^ 0x82F63B78 if value & 1 else value >> 1
        table.append(value)
    return tuple(table)


_TABLE = _make_table()


def _masked_crc32c(data: bytes) -> int:
    crc = 0xFFFFFFFF
    for byte in data:
        crc = _TABLE[(crc ^ byte) & 0xFF] ^ crc >> 8
    crc ^= 0xFFFFFFFF
    return ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF
