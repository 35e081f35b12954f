"""Concurrent requests are bounded for each webhook and for all; webhooks take turns, and no request is forgotten."""

from __future__ import annotations

import asyncio
from collections import Counter
from functools import partial

from hypothesis import given
from hypothesis import strategies as st

from worker.delivery.request_scheduler import RequestScheduler


class Watch:
    """Requests that take a few turns of the loop, and how many there were at a time."""

    def __init__(self) -> None:
        self.now: Counter[int] = Counter()
        self.most: Counter[int] = Counter()
        self.most_of_all = 0
        self.order: list[int] = []

    async def request(self, webhook_id: int, turns: int) -> None:
        self.order.append(webhook_id)
        self.now[webhook_id] += 1
        self.most[webhook_id] = max(self.most[webhook_id], self.now[webhook_id])
        self.most_of_all = max(self.most_of_all, self.now.total())
        for _ in range(turns):
            await asyncio.sleep(0)
        self.now[webhook_id] -= 1


async def _idle(scheduler: RequestScheduler) -> None:
    while not scheduler.is_idle():  # noqa: ASYNC110  (it has no event: nobody but tests waits for it)
        await asyncio.sleep(0)


LAUNCHES = st.lists(st.tuples(st.integers(1, 4), st.lists(st.integers(0, 5), max_size=30)), max_size=12)


@given(LAUNCHES, st.integers(1, 8), st.integers(1, 5))
def test_bounds_hold_and_every_request_is_made(
    launches: list[tuple[int, list[int]]], total: int, per_webhook: int
) -> None:
    async def fly() -> Watch:
        scheduler, watch = RequestScheduler(total=total, per_webhook=per_webhook), Watch()
        for webhook_id, several in launches:
            scheduler.submit(webhook_id, [partial(watch.request, webhook_id, turns) for turns in several])
            await asyncio.sleep(0)
        await asyncio.wait_for(_idle(scheduler), 20)
        return watch

    watch = asyncio.run(fly())
    expected: Counter[int] = Counter()
    for webhook_id, several in launches:
        expected[webhook_id] += len(several)
    assert Counter(watch.order) == +expected
    assert watch.most_of_all <= total
    assert max(watch.most.values(), default=0) <= per_webhook


def test_who_waits_for_a_place_of_all_gets_turns() -> None:
    async def fly() -> Watch:
        scheduler, watch = RequestScheduler(total=2, per_webhook=2), Watch()
        scheduler.submit(1, [partial(watch.request, 1, 1) for _ in range(50)])
        scheduler.submit(2, [partial(watch.request, 2, 1) for _ in range(3)])
        await asyncio.wait_for(_idle(scheduler), 20)
        return watch

    assert asyncio.run(fly()).order.index(2) <= 4
