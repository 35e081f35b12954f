"""Publishing beside people who look: the p95 of `POST /v1/events` beside 100 open lists of the console, over without.

Each tab asks as a browser's does that was left open for a while: as seldom as its page allows in the end, whether there
is a new delivery, and for alerts. The tabs are in a process of their own, as browsers are, so that their work is not in
what is measured. Quiet and watched spans take turns, so that what else the machine does is in both.
"""

from __future__ import annotations

import asyncio
import re
import statistics
import subprocess
import sys
import time
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import httpx
import orjson

from tests.bench import watched
from tests.bench.figures import Figure
from tests.bench.open_pages import TABS
from tests.bench.publishing import ONE_TYPE, Api, running_api

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

AREA = "tabs"
PARTS = ("news", "alerts")
"""What an open list asks for again."""
PER_SECOND = 40
SPAN_SECONDS = 12.0
LIST = f"/console/e/{watched.ENTITY}/deliveries"


def measure(rounds: int, quick: bool) -> list[Figure]:
    """All figures of this area."""
    return asyncio.run(_measure(rounds, SPAN_SECONDS / 4 if quick else SPAN_SECONDS))


async def _measure(rounds: int, span_seconds: float) -> list[Figure]:
    quiet: list[float] = []
    beside: list[float] = []
    with running_api() as api:
        limits = httpx.Limits(max_connections=None)
        async with (
            httpx.AsyncClient(base_url=api.url, trust_env=False, timeout=30, limits=limits) as publisher,
        ):
            page = await _sign_in(api)
            await _publish(publisher, api, "warm", 2)
            for number in range(rounds):
                quiet.append(await _publish(publisher, api, f"quiet-{number}", span_seconds))
                async with _tabs(page):
                    beside.append(await _publish(publisher, api, f"beside-{number}", span_seconds))
    return [
        Figure(
            AREA,
            f"POST of one event beside {TABS} open pages, p95",
            "ms",
            tuple(beside),
            against="the same without them",
            reference=tuple(quiet),
            ratio_at_most=1.05,
        )
    ]


async def _sign_in(api: Api) -> bytes:
    """Open the list, and return what its pages are to ask, as `tests.bench.open_pages` reads it."""
    headers = {"Sec-Fetch-Site": "same-origin"}
    async with httpx.AsyncClient(base_url=api.url, headers=headers, trust_env=False, timeout=30) as visitor:
        answer = await visitor.post("/console/sign-in", data={"key": api.key})
        if answer.status_code != httpx.codes.SEE_OTHER:
            raise RuntimeError(answer.text)
        page = (await visitor.get(LIST)).text
        cookies = dict(visitor.cookies)
    parts = re.findall(r'data-live="\d+" data-most="(\d+)" data-from="([^"]+)"', page)
    asked = {address.replace("&amp;", "&"): float(most) for most, address in parts}
    if len(asked) != len(PARTS):
        raise RuntimeError(f"the list asks {asked}")
    return orjson.dumps({"url": api.url, "cookies": cookies, "asked": asked})


@asynccontextmanager
async def _tabs(page: bytes) -> AsyncIterator[None]:
    """Open pages that go on asking, in a process of their own."""
    pages = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.bench.open_pages", stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert pages.stdin is not None and pages.stdout is not None
    pages.stdin.write(page + b"\n")
    await pages.stdin.drain()
    try:
        if await pages.stdout.readline() != b"open\n":
            raise RuntimeError("the pages could not be opened")
        yield
    finally:
        if pages.returncode is not None:
            raise RuntimeError(f"the pages ended with {pages.returncode}")
        pages.terminate()
        await pages.wait()


async def _publish(publisher: httpx.AsyncClient, api: Api, label: str, span_seconds: float) -> float:
    """Publish single events at an even pace; the p95 of their answers in milliseconds."""
    headers = {"Authorization": f"Bearer {api.key}", "Content-Type": ONE_TYPE}
    bodies = [orjson.dumps(one) for one in watched.events(label, round(PER_SECOND * span_seconds), projects=5)]
    taken: list[float] = []

    async def post(body: bytes) -> None:
        began = time.perf_counter()
        answer = await publisher.post("/v1/events", content=body, headers=headers)
        answer.raise_for_status()
        taken.append((time.perf_counter() - began) * 1000)

    begun = time.perf_counter()
    async with asyncio.TaskGroup() as posts:
        for number, body in enumerate(bodies):
            await asyncio.sleep(max(0.0, begun + number / PER_SECOND - time.perf_counter()))
            posts.create_task(post(body))
    return statistics.quantiles(taken, n=20)[-1]
