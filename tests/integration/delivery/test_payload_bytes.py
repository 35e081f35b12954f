"""Claims are bounded by the bytes of their payloads as well as by their number, and so is what a process holds."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest

from shared.storage.database.transactions import write_transaction
from shared.storage.delivery.claims import WantedClaim, claim, claim_many
from tests.integration.processes import wait_until
from tests.integration.receiver import Answer, Received
from tests.integration.scene import Scene, alias_event
from worker.delivery import payload_budget

LARGE = 100_000


@pytest.fixture(autouse=True)
def _small_bounds(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    """A claim ends with half a megabyte, and a process holds one."""
    monkeypatch.setattr(payload_budget, "MAX_CLAIM_BYTES", 5 * LARGE)
    monkeypatch.setattr(payload_budget, "MIN_CLAIM_CHARS", 5 * LARGE)
    monkeypatch.setattr(scene.process.payloads, "_total", 10 * LARGE)


@pytest.fixture
def let_go(scene: Scene) -> Iterator[threading.Event]:
    """The receiver answers nobody until this is set."""
    event = threading.Event()

    def hold(_request: Received) -> Answer:
        event.wait(30)
        return Answer()

    scene.receiver.answer = hold
    yield event
    event.set()


def large(scene: Scene, count: int, hooks: int = 1) -> list[int]:
    """Webhooks for which so many deliveries of 100 kB each are due."""
    made = [scene.webhook(f"hook-{number}") for number in range(hooks)]
    for number, hook in enumerate(made):
        scene.automation(hook, scope={"project": f"p{number}"}, payload={"filling": "x" * LARGE})
    for number in range(count):
        scene.publish(alias_event(project=f"p{number % hooks}"))
    scene.evaluate()
    return made


def test_a_claim_ends_with_the_payload_that_reaches_the_bound(scene: Scene) -> None:
    [hook] = large(scene, 12)
    at, lease_until = datetime.now(UTC), datetime.now(UTC) + timedelta(minutes=1)
    claimed = []
    for max_bytes in (3 * LARGE, 1, 100 * LARGE):
        with write_transaction(scene.process.engine) as connection:
            found = claim(connection, hook, limit=50, now=at, lease_until=lease_until, token=1, max_bytes=max_bytes)
            claimed.append([one.seq for one in found])
    assert [len(seqs) for seqs in claimed] == [3, 1, 8]
    assert [seq for seqs in claimed for seq in seqs] == [row.seq for row in scene.rows()]
    assert {row.claim for row in scene.pending()} == {1}


def test_so_does_a_claim_of_many_webhooks(scene: Scene) -> None:
    hooks = large(scene, 12, hooks=6)
    at, lease_until = datetime.now(UTC), datetime.now(UTC) + timedelta(minutes=1)
    wanted = [WantedClaim(hook, 16, lease_until) for hook in hooks]
    counts = []
    for max_bytes in (3 * LARGE, 100 * LARGE):
        with write_transaction(scene.process.engine) as connection:
            claimed = claim_many(connection, wanted, now=at, token=1, max_bytes=max_bytes)
        counts.append(sum(map(len, claimed.values())))
    assert counts[0] in (3, 4)  # SQLite claims of one webhook after the other
    assert sum(counts) == 12


@pytest.mark.parametrize("hooks", [1, 6])
def test_a_process_holds_no_more_than_its_budget(scene: Scene, let_go: threading.Event, hooks: int) -> None:
    made = large(scene, 30, hooks=hooks)
    for _ in range(4):
        if hooks == 1:
            scene.process.webhooks.drain(made[0])
        else:
            scene.process.joint.drain(made)
    held = [one for one in scene.pending() if one.claim is not None]
    assert 9 <= len(held) <= 12  # each claim may bring one payload more than the bound
    assert scene.process.payloads.held() >= 9 * LARGE
    let_go.set()
    scene.settle()
    wait_until(lambda: scene.process.payloads.held() == 0, "empty budget")
    scene.deliver()
    assert {row.status for row in scene.rows()} == {"delivered"}
    assert scene.process.payloads.held() == 0


def test_what_the_fast_path_has_no_room_for_waits_for_a_drain(scene: Scene) -> None:
    scene.consumed |= {"deliver", "deliver_slow"}
    large(scene, 1)
    scene.deliver()
    scene.receiver.requests.clear()
    assert scene.process.payloads.take(9 * LARGE)
    scene.publish(*(alias_event(project="p0") for _ in range(3)))
    scene.evaluate()
    assert scene.receiver.requests == []
    assert scene.process.limiter.in_flight() == 0
    scene.process.payloads.release(9 * LARGE)
    scene.publish(alias_event(project="p0"))
    scene.evaluate()
    scene.settle()
    assert len(scene.receiver.requests) == 1
    wait_until(lambda: scene.process.payloads.held() == 0, "empty budget")


def test_one_payload_is_sent_however_large_it_is(scene: Scene) -> None:
    scene.process.payloads._total = 10
    large(scene, 3)
    scene.deliver()
    assert {row.status for row in scene.rows()} == {"delivered"}
