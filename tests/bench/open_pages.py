"""Open pages of the console that go on asking, in a process of their own: `tests.bench.tabs` runs it.

It reads one line of JSON: the server's `url`, the session's `cookies`, and each address that a page asks with the
seconds between. It prints a line when all pages are open, and asks until it is ended.
"""

from __future__ import annotations

import asyncio
import sys

import httpx
import orjson

TABS = 100


async def keep_open(url: str, cookies: dict[str, str], asked: dict[str, float]) -> None:
    """Ask as `TABS` pages do that were opened evenly spread. Raises RuntimeError for an answer that says neither."""
    limits = httpx.Limits(max_connections=None)
    headers = {"Sec-Fetch-Site": "same-origin"}
    async with (
        httpx.AsyncClient(
            base_url=url, cookies=cookies, headers=headers, trust_env=False, timeout=30, limits=limits
        ) as visitor,
        asyncio.TaskGroup() as pages,
    ):
        for number in range(TABS):
            for address, seconds in asked.items():
                pages.create_task(_ask(visitor, address, seconds, seconds * number / TABS))
        sys.stdout.write("open\n")
        sys.stdout.flush()


async def _ask(visitor: httpx.AsyncClient, address: str, every_seconds: float, after_seconds: float) -> None:
    await asyncio.sleep(after_seconds)
    while True:
        answer = await visitor.get(address)
        # With nobody to evaluate what is published, the alert of the lag comes up in the end.
        if answer.status_code not in (httpx.codes.NO_CONTENT, httpx.codes.OK):
            raise RuntimeError(f"{address} was answered with {answer.status_code}")
        await asyncio.sleep(every_seconds)


if __name__ == "__main__":
    asyncio.run(keep_open(**orjson.loads(sys.stdin.readline())))
