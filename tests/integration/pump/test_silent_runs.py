"""Runs whose heartbeat stays out are published as crashed: once, and never while something of them comes."""

from __future__ import annotations

import itertools
import random
import time
from collections import Counter
from pathlib import Path
from typing import Any

import orjson
import pytest
from sqlalchemy import select, update

from dispatcher.pump.notices import append_notices
from dispatcher.pump.silent_runs import ALIVE_KEY, SilentRuns
from shared.domain.events.decoding import check_event
from shared.domain.events.partitioning import START, partition_of
from shared.messaging.streams import FIELD, read_after, stream_key
from shared.storage.database.transactions import read_transaction, write_transaction
from shared.storage.schema.tables import automations, notices, run_watches
from tests.integration.processes import dispatcher_command, start, wait_until
from tests.integration.scene import Scene, another_process, metric_event, state_event

HEARTBEAT_SECONDS = 60
LATE_MS = 90_000
"""Silence after which such a run has certainly crashed."""
_order = itertools.count(1)


class Past:
    """Events that came some time ago, by the clock of the streams."""

    def __init__(self, scene: Scene) -> None:
        self.scene = scene
        seconds, micros = scene.redis.time()
        self.now_ms = seconds * 1000 + micros // 1000
        alive: dict[Any, Any] = {"beat": str(self.now_ms), "since": str(self.now_ms - 10**9)}
        scene.redis.hset(ALIVE_KEY, mapping=alive)
        self.dispatcher = SilentRuns(scene.process.engine, scene.redis, scene.settings.partitions)

    def add(self, *events: Any, ago_ms: int) -> None:
        """Append events as of then; later calls must not be of earlier times for the same run."""
        for event in events:
            partition = partition_of(check_event(event), self.scene.settings.partitions)
            entry = f"{self.now_ms - ago_ms}-{next(_order)}"
            self.scene.redis.xadd(stream_key(partition), {FIELD: orjson.dumps(event)}, id=entry)

    def look(self) -> list[Any]:
        """What a dispatcher publishes now: the events, each moved to its stream."""
        while self.dispatcher.run_round():
            with read_transaction(self.scene.process.engine) as connection:
                if not connection.scalars(select(run_watches.c.key).where(run_watches.c.check_ms <= self.now_ms)).all():
                    break
        with read_transaction(self.scene.process.engine) as connection:
            told = [orjson.loads(text) for text in connection.scalars(select(notices.c.event).order_by(notices.c.id))]
        append_notices(self.scene.process.engine, self.scene.redis, self.scene.settings.partitions)
        self.scene.evaluate()
        return told


@pytest.fixture
def past(scene: Scene) -> Past:
    scene.automation(None, event="RUN_STATE", states=["crashed"], cooldown=None)
    return Past(scene)


def running(run: str = "r1", **more: Any) -> Any:
    return state_event("running", run=run, **{"heartbeat_seconds": HEARTBEAT_SECONDS, **more})


def alert_event(run: str) -> Any:
    event = state_event("running", run=run)
    about = {key: value for key, value in event["data"].items() if key != "state"}
    return {**event, "id": f"alert-{run}", "type": "RUN_ALERT", "data": {**about, "title": "Low accuracy"}}


def crashed(events: list[Any]) -> list[str]:
    return [one["data"]["run"]["id"] for one in events if one["data"]["state"] == "crashed"]


def test_a_run_whose_heartbeat_stays_out_crashes_once(past: Past) -> None:
    past.add(running(), running("other", heartbeat_seconds=3600), state_event("running", run="none"), ago_ms=LATE_MS)
    past.scene.evaluate()
    [event] = past.look()
    assert crashed([event]) == ["r1"]
    assert event["data"]["run"] == {"id": "r1", "name": "run r1"}
    assert event["source"] == "/hookline"
    assert past.look() == []
    assert [row.event_run for row in past.scene.rows()] == ["r1"]


def test_whatever_comes_of_a_run_is_a_sign_of_life(past: Past) -> None:
    start_event = running("beats")
    past.add(start_event, running("logs"), running("alerts"), running("ends"), ago_ms=LATE_MS)
    past.scene.evaluate()
    logged, ended = metric_event(1, run="logs", loss=1), state_event("finished", run="ends")
    past.add(start_event, logged, alert_event("alerts"), ended, ago_ms=30_000)
    past.scene.evaluate()
    assert past.look() == []


def test_another_worker_knows_of_the_run_too(past: Past) -> None:
    past.add(running("logs"), running("ends"), ago_ms=LATE_MS)
    past.scene.evaluate()
    past.add(metric_event(1, run="logs", loss=1), state_event("killed", run="ends"), ago_ms=30_000)
    with another_process(past.scene.settings) as (process, _):
        for partition in range(past.scene.settings.partitions):
            process.partitions.drain(partition)
    assert past.look() == []


def test_a_run_that_comes_back_may_crash_again_and_one_that_ended_may_not(past: Past) -> None:
    back, ended = running("back"), running("ended")
    past.add(back, ended, ago_ms=4 * LATE_MS)
    past.add(state_event("finished", run="ended"), ago_ms=3 * LATE_MS)
    past.scene.evaluate()
    first = past.look()
    past.add(back, ended, ago_ms=-60_000)
    past.scene.evaluate()
    past.now_ms += LATE_MS
    seen = past.now_ms
    past.scene.redis.hset(ALIVE_KEY, mapping={"beat": str(seen), "since": "0"})
    assert crashed(first) == ["back"]
    with read_transaction(past.scene.process.engine) as connection:
        waited_for = connection.scalars(select(run_watches.c.run).where(run_watches.c.ended == 0)).all()
    assert [orjson.loads(text)["id"] for text in waited_for] == ["back"]


def test_an_entity_s_runs_are_waited_for_up_to_a_number(past: Past, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("worker.evaluation.run_watches.MAX_WATCHED_RUNS", 3)

    def waited_for() -> set[str]:
        with read_transaction(past.scene.process.engine) as connection:
            rows = connection.scalars(select(run_watches.c.run).where(run_watches.c.ended == 0)).all()
        return {orjson.loads(text)["id"] for text in rows}

    for number in range(3):
        past.add(running(f"r{number}"), ago_ms=10_000)
    past.scene.evaluate()
    past.add(running("late"), running("r0"), ago_ms=8_000)
    past.scene.evaluate()
    assert waited_for() == {"r0", "r1", "r2"}

    past.add(state_event("finished", run="r1"), ago_ms=6_000)
    past.scene.evaluate()
    past.add(running("next"), ago_ms=4_000)
    past.add(running("over"), ago_ms=2_000)
    past.scene.evaluate()
    assert waited_for() in ({"r0", "r2", "next"}, {"r0", "r2", "over"})  # of two partitions, in any order


def test_what_is_not_evaluated_yet_may_be_a_sign_of_life(past: Past) -> None:
    past.add(running(), ago_ms=LATE_MS)
    past.scene.evaluate()
    past.add(metric_event(1, loss=1), ago_ms=1_000)
    past.dispatcher.run_round()
    with read_transaction(past.scene.process.engine) as connection:
        assert connection.scalars(select(notices.c.event)).all() == []
    past.scene.evaluate()
    assert past.look() == []


def test_nobody_crashes_because_hookline_was_away(past: Past) -> None:
    past.add(running(), ago_ms=LATE_MS)
    past.scene.evaluate()
    past.scene.redis.hset(ALIVE_KEY, mapping={"beat": str(past.now_ms - LATE_MS), "since": "0"})
    assert past.look() == []
    past.scene.redis.delete(ALIVE_KEY)
    assert past.look() == []


SILENT: dict[str, Any] = {"event": "RUN_STATE", "states": ["silent"], "cooldown": None}


def test_automations_fire_on_the_silence_that_they_ask_for(past: Past) -> None:
    scene = past.scene
    short = scene.automation(None, **SILENT, silent_for="1m")
    long = scene.automation(None, **SILENT, silent_for="10m", filter={"run.name": {"$contains": "r2"}})
    scene.automation(None, **SILENT, silent_for="1m", scope={"project": "elsewhere"})
    with write_transaction(scene.process.engine) as connection:
        for number, milliseconds in ((short, 60_000), (long, 600_000)):
            connection.execute(update(automations).where(automations.c.id == number).values(silent_ms=milliseconds))
    past.add(metric_event(1, run="r1", loss=1), metric_event(1, run="r2", loss=1), ago_ms=3 * LATE_MS)
    past.add(metric_event(1, run="ended", loss=1), state_event("finished", run="ended"), ago_ms=3 * LATE_MS)
    past.add(metric_event(2, run="ended", loss=1), ago_ms=2 * LATE_MS)
    scene.evaluate()
    past.add(metric_event(2, run="r1", loss=1), ago_ms=-600_000)
    scene.evaluate()
    told = past.look()
    assert [(one["data"]["run"]["id"], one["data"]["silent_seconds"]) for one in told] == [("r2", 60)]
    assert past.look() == []
    assert [(row.automation_id, row.event_run) for row in scene.rows()] == [(short, "r2")]


def test_killed_dispatchers_publish_each_crash_once(past: Past, tmp_path: Path) -> None:
    runs = [f"run-{number}" for number in range(300)]
    past.add(*(running(run) for run in runs), ago_ms=LATE_MS)
    past.scene.evaluate()
    choose = random.Random(7)
    settings = past.scene.settings
    engine = past.scene.process.engine

    def told() -> bool:
        keep_alive()
        with read_transaction(engine) as connection:
            waits = connection.scalars(select(run_watches.c.key).where(run_watches.c.ended == 0).limit(1)).all()
            return not waits and not connection.scalars(select(notices.c.id).limit(1)).all()

    def keep_alive() -> None:
        """However long a loaded machine takes to start a process, that is no outage here."""
        past.scene.redis.hset(ALIVE_KEY, mapping={"beat": str(2**45), "since": "0"})

    for _ in range(4):
        keep_alive()
        process = start(dispatcher_command(), settings, tmp_path / "log")
        wait_until(lambda: b"dispatcher.started" in (tmp_path / "log").read_bytes(), "start")
        time.sleep(choose.uniform(0, 0.3))  # a moment to be killed in, not one that is waited for
        process.kill()
        process.wait()
        (tmp_path / "log").write_bytes(b"")
    both = [start(dispatcher_command(), settings, tmp_path / f"log-{number}") for number in range(2)]
    try:
        wait_until(told, "all crashes", seconds=180)
    finally:
        for process in both:
            process.kill()
            process.wait()
    past.scene.evaluate()
    assert sorted(row.event_run for row in past.scene.rows()) == sorted(runs)
    ids = Counter(
        one["data"]["run"]["id"]
        for partition in range(settings.partitions)
        for entry in read_after(past.scene.redis, partition, START, 10_000)
        if (one := orjson.loads(entry.body or b""))["source"] == "/hookline"
    )
    assert ids.keys() == set(runs)
