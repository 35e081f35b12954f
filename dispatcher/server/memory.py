"""Giving memory back to the system after large answers, which glibc keeps for ever otherwise.

glibc takes blocks from the system one by one only up to a size that grows with each block that is freed; what it keeps
below that size lies between blocks in use. Elsewhere than on glibc these functions do nothing.
"""

from __future__ import annotations

import ctypes
import gc
from typing import Any

_M_MMAP_THRESHOLD, _M_ARENA_MAX = -3, -8  # of malloc.h
_OWN_BLOCK_BYTES = 1 << 20
_ARENAS = 2
"""One thread runs Python at a time, so that more than this only scatter what is kept."""


def return_large_blocks() -> None:
    """Let blocks of 1 MiB and more go back to the system as soon as they are freed, from now on."""
    if (mallopt := _function("mallopt")) is not None:
        mallopt(_M_MMAP_THRESHOLD, _OWN_BLOCK_BYTES)
        mallopt(_M_ARENA_MAX, _ARENAS)


def release_memory() -> None:
    """Collect what is young and refers to itself, and give all back that is free.

    To look through old objects as well would stop all threads for 30 ms and more.
    """
    gc.collect(1)
    if (malloc_trim := _function("malloc_trim")) is not None:
        malloc_trim(0)


def _function(name: str) -> Any:
    try:
        return getattr(ctypes.CDLL(None), name)
    except (OSError, AttributeError):
        return None
