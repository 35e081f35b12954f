"""Publishing beside people who look: the p95 of `POST /v1/events` beside 100 open lists of the console, over without.

Each tab asks as a browser's does: every 5 s whether there is a new delivery, every 30 s for alerts. Quiet and watched
spans take turns, so that what else the machine does is in both.
"""

from __future__ import annotations

import asyncio
import re
import statistics
import time
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING

import httpx
import orjson

from tests.bench import watched
from tests.bench.figures import Figure
from tests.bench.publishing import ONE_TYPE, Api, running_api

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

AREA = "tabs"
TABS = 100
NEWS_SECONDS, ALERTS_SECONDS = 5.0, 30.0
"""As static/console.js and the templates have it."""
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
            httpx.AsyncClient(base_url=api.url, trust_env=False, timeout=30, limits=limits) as visitor,
        ):
            asked = await _sign_in(visitor, api)
            await _publish(publisher, api, "warm", 2)
            for number in range(rounds):
                quiet.append(await _publish(publisher, api, f"quiet-{number}", span_seconds))
                async with _tabs(visitor, asked):
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


async def _sign_in(visitor: httpx.AsyncClient, api: Api) -> tuple[str, str]:
    """Open the list, and return what its page asks for again: news, and alerts."""
    visitor.headers["Sec-Fetch-Site"] = "same-origin"
    answer = await visitor.post("/console/sign-in", data={"key": api.key})
    if answer.status_code != httpx.codes.SEE_OTHER:
        raise RuntimeError(answer.text)
    page = (await visitor.get(LIST)).text
    asked = [address.replace("&amp;", "&") for address in re.findall(r'data-from="([^"]+)"', page)]
    alerts, news = sorted(asked, key=lambda address: "/news" in address)
    return news, alerts


@asynccontextmanager
async def _tabs(visitor: httpx.AsyncClient, asked: tuple[str, str]) -> AsyncIterator[None]:
    """Open pages that go on asking, evenly spread as people open them."""

    async def ask(address: str, every_seconds: float, after_seconds: float) -> None:
        await asyncio.sleep(after_seconds)
        while True:
            answer = await visitor.get(address)
            # With nobody to evaluate what is published, the alert of the lag comes up in the end.
            if answer.status_code not in (httpx.codes.NO_CONTENT, httpx.codes.OK):
                raise RuntimeError(f"{address} was answered with {answer.status_code}")
            await asyncio.sleep(every_seconds)

    pairs = tuple(zip(asked, (NEWS_SECONDS, ALERTS_SECONDS), strict=True))
    tasks = [
        asyncio.create_task(ask(address, every, every * number / TABS))
        for number in range(TABS)
        for address, every in pairs
    ]
    try:
        yield
    finally:
        for task in tasks:
            if task.done():
                task.result()
            task.cancel()
        for task in tasks:
            with suppress(asyncio.CancelledError):
                await task


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
