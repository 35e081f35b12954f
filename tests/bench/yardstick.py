"""The yardstick: how fast this machine is today, by a bare `httpx.AsyncClient` loop, four requests in flight."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

import httpx

if TYPE_CHECKING:
    from collections.abc import Iterable

IN_FLIGHT = 4


def requests_per_second(url: str, bodies: Iterable[bytes]) -> float:
    """POST all bodies to `url` from this one process; whole run divided by its wall time."""
    return asyncio.run(_measure(url, list(bodies)))


async def _measure(url: str, bodies: list[bytes]) -> float:
    left = iter(bodies)
    headers = {"Content-Type": "application/json"}
    async with httpx.AsyncClient(trust_env=False, headers=headers) as client:

        async def lane() -> None:
            for body in left:
                (await client.post(url, content=body)).raise_for_status()

        began = time.monotonic()
        async with asyncio.TaskGroup() as lanes:
            for _ in range(IN_FLIGHT):
                lanes.create_task(lane())
        return len(bodies) / (time.monotonic() - began)
