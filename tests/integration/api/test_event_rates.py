"""Quotas of events a second: told with when to come back, counted over all API processes, felt by nobody else."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from click.testing import CliRunner
from redis import Redis
from sqlalchemy import Engine

from dispatcher.publishing.event_rates import BURST_SECONDS, RATES_KEY
from shared.settings import Settings
from tests.integration.api.conftest import ACME, Api, event, problem_of, running
from worker.commands.entities import entities

EVENTS = "/v1/events"


def limit(api: Api, rate: int | None, entity: str = "acme") -> None:
    """Set the limit of an entity."""
    path = f"/v1/entities/{entity}"
    assert api.ok("PATCH", path, {"quotas": {"events_per_second": rate}})["events_per_second"] == rate
    assert api.ok("GET", path)["events_per_second"] == rate


def publish(api: Api, count: int, *, entity: str = "acme", key: str = "root") -> int:
    """The status of a batch."""
    return api.send("POST", EVENTS, [event(entity=entity) for _ in range(count)], key=key).status_code


def test_what_is_too_much_is_refused_with_when_to_come_back_and_others_go_on(api: Api, redis: Redis) -> None:
    assert publish(api, 50) == 202, "without a limit"
    assert not redis.exists(RATES_KEY), "and uncounted"
    limit(api, 2)
    assert publish(api, 100) == 202, "what is saved up may come at once"
    published = redis.dbsize()
    problem = problem_of(api.send("POST", EVENTS, [event()], key="publisher"), 429)
    assert "'acme' may publish 2 events a second" in problem.detail
    assert 30 <= int(problem.headers["retry-after"]) <= 50 - BURST_SECONDS + 1
    assert publish(api, 100, entity="other") == 202
    mixed = [event(), event(entity="other")]
    problem_of(api.send("POST", EVENTS, mixed), 429)
    assert redis.dbsize() >= published
    limit(api, None)
    assert publish(api, 1) == 202


def test_a_refused_batch_is_not_counted_and_none_of_it_is_published(api: Api, redis: Redis) -> None:
    limit(api, 1)
    limit(api, 1, "other")
    assert publish(api, 60) == 202
    before = redis.hgetall(RATES_KEY)
    length = sum(redis.xlen(key) for key in redis.keys("hookline:events:*"))
    assert api.send("POST", EVENTS, [event(entity="other"), event()]).status_code == 429
    assert redis.hgetall(RATES_KEY) == before
    assert sum(redis.xlen(key) for key in redis.keys("hookline:events:*")) == length
    assert publish(api, 1, entity="other") == 202


def test_the_count_is_that_of_all_processes(api: Api, settings: Settings) -> None:
    limit(api, 1)
    assert publish(api, 60) == 202
    with running(settings) as client:
        beside = Api(client, dict(api.keys))
        assert publish(beside, 1) == 429


def test_only_instance_administrators_set_it(api: Api) -> None:
    api.refused("PATCH", ACME, {"quotas": {"events_per_second": 5}}, key="admin", status=403)
    assert api.refused("PATCH", ACME, {"quotas": {"events_per_second": 0}}, status=422).locs == [
        ["quotas", "events_per_second"]
    ]


@pytest.fixture
def opened(settings: Settings, engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    """The storage that the environment would name."""

    @contextmanager
    def opened() -> Iterator[tuple[Settings, Engine]]:
        yield settings, engine

    monkeypatch.setattr("worker.commands.entities.opened", opened)


def rows(*arguments: str, code: int = 0) -> Any:
    """What the command answers."""
    done = CliRunner().invoke(entities, ["quotas", *arguments, "--json"])
    assert done.exit_code == code, done.output
    return json.loads(done.stdout)


@pytest.mark.usefixtures("opened")
def test_operators_see_the_quotas_of_all(api: Api) -> None:
    limit(api, 7)
    own = [{"entity": "acme", "quota": "events_per_second", "used": None, "limit": 7, "own": True}]
    assert rows("--own") == own
    assert {row["entity"] for row in rows()} == {"acme", "other"}
    assert {row["quota"] for row in rows("--entity", "other")} >= {"automations", "webhooks", "events_per_second"}
    assert rows("--entity", "other", "--own", code=1) == []
    assert CliRunner().invoke(entities, ["quotas", "--entity", "nobody"]).exit_code == 1
    assert "events_per_second" in CliRunner().invoke(entities, ["quotas"]).stdout
