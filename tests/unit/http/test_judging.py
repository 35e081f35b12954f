"""Success rules that take long for an answer take turns; all others are judged at once."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field

import pytest

from shared.http import judging
from shared.http.judging import COSTLY_SECONDS, MOST_SECONDS, SHARE, JudgingTurns

COST = 20 * COSTLY_SECONDS


@dataclass
class World:
    """A clock that moves when something sleeps or works, and what happened by it."""

    now: float = 100.0
    cpu: float = 0.0
    judged: list[tuple[float, str]] = field(default_factory=list)
    slept: list[float] = field(default_factory=list)

    def judge(self, webhook: str, cost: float = COST) -> Callable[[], str]:
        def say() -> str:
            self.cpu += cost
            self.judged.append((self.now, webhook))
            return webhook

        return say

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds

    def turns(self) -> JudgingTurns:
        return JudgingTurns(clock=lambda: self.now, cpu=lambda: self.cpu)


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> World:
    found = World()
    monkeypatch.setattr("asyncio.sleep", found.sleep)
    return found


def test_cheap_rules_never_wait(world: World) -> None:
    async def check() -> None:
        turns = world.turns()
        for _ in range(100):
            assert await turns.judged("cheap", world.judge("cheap", COSTLY_SECONDS / 2)) == "cheap"
        assert not turns._costs

    asyncio.run(check())
    assert not world.slept


def test_costly_rules_take_no_more_than_their_share(world: World) -> None:
    async def check() -> None:
        turns = world.turns()
        for _ in range(21):
            await turns.judged("costly", world.judge("costly"))
        assert await turns.judged("cheap", world.judge("cheap", 0.0)) == "cheap"
        assert not turns._lanes

    asyncio.run(check())
    costly = [at for at, webhook in world.judged if webhook == "costly"]
    # The first shows what it costs, and the second owes nothing yet.
    assert costly[-1] - costly[1] == pytest.approx(19 * COST / SHARE)
    assert world.judged[-1] == (costly[-1], "cheap")


def test_webhooks_take_turns_whatever_each_has_waiting(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    async def check() -> None:
        turns = world.turns()
        for webhook in ("busy", "other"):
            await turns.judged(webhook, world.judge(webhook))
        released = asyncio.Event()

        async def hold(seconds: float) -> None:
            await released.wait()
            world.now += seconds

        monkeypatch.setattr("asyncio.sleep", hold)
        tasks = [asyncio.create_task(turns.judged("busy", world.judge("busy"))) for _ in range(50)]
        tasks.append(asyncio.create_task(turns.judged("other", world.judge("other"))))
        await asyncio.wait(tasks, timeout=0)
        released.set()
        await asyncio.gather(*tasks)

    asyncio.run(check())
    order = [webhook for _, webhook in world.judged[2:]]
    assert order.index("other") <= 3


def test_a_rule_that_became_cheap_waits_no_more(world: World) -> None:
    async def check() -> None:
        turns = world.turns()
        await turns.judged("one", world.judge("one"))
        await turns.judged("one", world.judge("one", 0.0))
        assert not turns._costs

    asyncio.run(check())


def test_an_answer_is_judged_late_rather_than_never(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(judging, "MOST_SECONDS", 0.01)
    monkeypatch.setattr(judging, "WEBHOOKS_KEPT", 1)

    async def check() -> None:
        turns = JudgingTurns()
        turns._costs, turns._free_at = {"one": COST}, float("inf")
        with pytest.raises(ZeroDivisionError):
            await turns.judged("one", lambda: 1 // 0)
        assert not turns._lanes

    asyncio.run(check())
    assert MOST_SECONDS < 30
