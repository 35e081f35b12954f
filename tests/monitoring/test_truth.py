"""Metrics of several hosts, with threads and with processes, that are killed: what they add up to is what happened."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import TypeVar

import psutil
import pytest
from sqlalchemy import func, select

from shared.domain.delivery.retries import DeliveryPolicy
from shared.storage.database.engine import open_engine
from shared.storage.database.transactions import read_transaction, write_transaction
from shared.storage.definitions.entities import find_entity
from shared.storage.definitions.revisions import next_revision
from shared.storage.definitions.webhook_fields import WebhookFields
from shared.storage.definitions.webhooks import insert_webhook
from shared.storage.schema.tables import attempts, deliveries
from tests.integration.processes import wait_until
from tests.monitoring.scene import Scene, scene
from tests.monitoring.traffic import BASE, alias, publish

_Number = TypeVar("_Number", int, float)
WEBHOOKS, CALLED = 1000, 100
FEW = 40
POOLS = {"worker0": (), "worker1": ("--pool", "prefork", "--concurrency", "2")}
SERIES = re.compile(r"^(hookline_[^ ]+) ([^ ]+)$", re.MULTILINE)
COUNTERS = ("hookline_deliveries_total", "hookline_attempts_total", "hookline_firings_total")


def series(*expositions: str) -> dict[str, float]:
    """All series of some expositions, added up."""
    sums: dict[str, float] = {}
    for text in expositions:
        for name, value in SERIES.findall(text):
            sums[name] = sums.get(name, 0.0) + float(value)
    return sums


class Books:
    """What the workers have counted, those before their end included, against what is in the database."""

    def __init__(self, running: Scene) -> None:
        self.running = running
        self._engine = open_engine(running.settings)
        self._closed: list[str] = []

    def close(self, worker: str) -> None:
        """Keep what a worker has counted: it is about to end, and its successor begins at 0."""
        self._closed.append(self.running.exposition(worker))

    def counted(self) -> dict[str, float]:
        """By series, over all workers."""
        return series(*self._closed, *map(self.running.exposition, POOLS))

    def delivered(self) -> int:
        """Deliveries in the database that were delivered."""
        query = select(func.count()).select_from(deliveries).where(deliveries.c.status == "delivered")
        with read_transaction(self._engine) as connection:
            return int(connection.execute(query).scalar_one())

    def balance(self, expected: int) -> None:
        """Wait for so many deliveries, and for each count of them to be that."""
        wait_until(lambda: self._now_and_then(self.delivered) == expected, f"{expected} deliveries", seconds=200)
        wait_until(lambda: self._now_and_then(self._counted_deliveries) >= expected, "counts")
        counted = self.counted()
        with read_transaction(self._engine) as connection:
            made = int(connection.execute(select(func.count()).select_from(attempts)).scalar_one())
        assert made == len(self.running.receiver.requests)
        assert counted['hookline_deliveries_total{outcome="delivered"}'] == expected
        assert counted['hookline_attempts_total{outcome="2xx"}'] == made
        assert counted["hookline_attempt_duration_seconds_count"] == made
        assert counted["hookline_event_to_delivery_seconds_count"] == expected
        assert counted['hookline_firings_total{action="webhook",event_type="ADD_ARTIFACT_ALIAS"}'] == expected

    def _counted_deliveries(self) -> float:
        return self.counted()['hookline_deliveries_total{outcome="delivered"}']

    def _now_and_then(self, ask: Callable[[], _Number]) -> _Number:
        """Ask, but leave the processor to those who are asked about."""
        time.sleep(0.25)
        return ask()

    def end(self) -> None:
        """Let go of the database."""
        self._engine.dispose()


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_counts_are_what_happened_whoever_is_killed(tmp_path: Path) -> None:
    with scene(tmp_path, {"api": (), "pump0": (), **POOLS}) as running:
        books = Books(running)
        _define(running)
        _publish(running, ["one"] * FEW)
        books.balance(FEW)
        few = _all_series(running)

        _publish(running, ["every"])
        books.balance(FEW + CALLED)
        assert _all_series(running) == few, "a series for what there can be any number of"
        assert len(few) < 400

        before = series(running.exposition("worker1"))
        for _ in range(3):
            _kill_a_child(running)
            running.exposition("worker1")
        files = list(running.temporary("worker1").glob("hookline-metrics-*/*_*.db"))
        processes = 1 + len(_children(running))
        after = series(running.exposition("worker1"))
        assert {name for name in before if name.startswith(COUNTERS) and after[name] < before[name]} == set()
        assert len(files) <= 4 * (processes + 1), files

        books.close("worker0")
        running.parts["worker0"].kill()
        running.parts["worker0"].wait()
        running.start("worker0")
        running.await_answers()
        assert len(list(running.temporary("worker0").glob("hookline-metrics-*"))) == 1
        _publish(running, ["one"] * FEW)
        books.balance(2 * FEW + CALLED)
        books.end()


def _define(running: Scene) -> None:
    """Many webhooks, of which automations call a tenth on the alias `every`; the first also on `one`."""
    with running.api() as api:
        api.put(BASE, json={}).raise_for_status()
        names = _many_webhooks(running)
        action = {"payload": {"event": "$event_id"}}
        automations = [_automation(name, "every", {"webhook": name, **action}) for name in names[:CALLED]]
        for automation in [*automations, _automation("one", "one", {"webhook": names[0], **action})]:
            api.post(f"{BASE}/automations", json=automation).raise_for_status()


def _many_webhooks(running: Scene) -> list[str]:
    """Their names. Written past the API, which looks at each address."""
    names = [f"hook-{number}" for number in range(WEBHOOKS)]
    engine = open_engine(running.settings)
    policy = DeliveryPolicy().model_dump(mode="json")
    with write_transaction(engine) as connection:
        entity = find_entity(connection, "acme")
        assert entity is not None
        for name in names:
            fields = WebhookFields(
                name, running.receiver.url, None, None, (), enabled=True, paused=False, policy=policy
            )
            revision = next_revision(connection)
            insert_webhook(connection, entity.id, fields, secret_ids={}, revision=revision, now=datetime.now(UTC))
    engine.dispose()
    return names


def _automation(name: str, named: str, action: dict[str, object]) -> dict[str, object]:
    return {"name": name, "event": "ADD_ARTIFACT_ALIAS", "filter": {"alias": named}, "action": action}


def _publish(running: Scene, names: Iterable[str]) -> None:
    with running.api() as api:
        publish(api, [alias(name) for name in names])


def _all_series(running: Scene) -> set[str]:
    """All but those that depend on the moment, bounded numbers: names by load, and what was asked for just now."""
    found = series(*map(running.exposition, running.parts))
    moment = ("hookline_load_per_second", "hookline_database_seconds", "hookline_redis_seconds", "hookline_api_")
    return {name for name in found if not name.startswith(moment)}


def _children(running: Scene) -> list[psutil.Process]:
    return psutil.Process(running.parts["worker1"].pid).children()


def _kill_a_child(running: Scene) -> None:
    """kill -9 one of the processes of the prefork pool; Celery starts another."""
    before = {child.pid for child in _children(running)}
    psutil.Process(min(before)).kill()
    wait_until(lambda: len({child.pid for child in _children(running)} - before) == 1, "process in its place")
