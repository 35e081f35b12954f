"""`GET /v1/health`, `/readyz` and `celery -A worker hookline status`: who sees what, and what it says."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from click.testing import CliRunner
from redis import Redis
from sqlalchemy import Engine

from shared.domain.health_checks import CHECKS
from shared.health.presence import read_processes
from shared.settings import Settings
from tests.integration.api.conftest import Api, create_webhook, full_webhook, put_secrets
from tests.integration.health.test_snapshot import whole
from tests.integration.processes import wait_until
from worker.commands.installation import hookline

SHARED = [check.name for check in CHECKS if check.shared]


def _api_is_alive(redis: Redis) -> bool:
    return any(one.role == "api" for one in read_processes(redis))


def test_administrators_see_everything_and_others_whether_it_runs(api: Api, redis: Redis) -> None:
    put_secrets(api)
    create_webhook(api, full_webhook())
    wait_until(lambda: _api_is_alive(redis), "a sign of life of the API")
    whole_answer = api.ok("GET", "/v1/health")
    assert [one["name"] for one in whole_answer["checks"]] == [check.name for check in CHECKS]
    assert whole_answer["status"] == "failing", "neither a worker nor a dispatcher runs"
    details = whole_answer["details"]
    assert {one["role"] for one in details["processes"]} == {"api"}
    assert details["schema_revision"] == details["newest_schema_revision"]
    assert len(details["partitions"]) == 4
    for one in whole_answer["checks"]:
        assert one["runbook"] == f"docs/runbooks/{one['runbook'].split('/')[-1]}"
    for key in ("member", "admin", "publisher", "outsider"):
        short = api.ok("GET", "/v1/health", key=key)
        assert short["details"] is None
        assert [one["name"] for one in short["checks"]] == SHARED
        assert {one["detail"] for one in short["checks"]} == {None}
    api.refused("GET", "/v1/health", status=422, params={"full": "1"})


def test_ready_says_what_is_wrong_around_it(api: Api) -> None:
    def warnings() -> list[str]:
        return [one["fault"] for one in api.client.request("GET", "/readyz").json()["warnings"]]

    wait_until(lambda: "redis_not_durable" in warnings(), "the look at Redis: that of tests keeps no file")
    assert api.client.request("GET", "/readyz").json()["status"] == "ready"


@pytest.fixture
def opened(settings: Settings, engine: Engine, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """The storage that the environment would name."""

    @contextmanager
    def opened() -> Iterator[tuple[Settings, Engine]]:
        yield settings, engine

    monkeypatch.setattr("worker.commands.installation.opened", opened)
    return settings


def test_the_command_says_the_same_and_ends_with_what_it_found(opened: Settings, redis: Redis) -> None:
    bad = CliRunner().invoke(hookline, ["status", "--json"])
    answer = json.loads(bad.stdout)
    assert (bad.exit_code, answer["status"]) == (1, "failing")
    shown = CliRunner().invoke(hookline, ["status"])
    assert "workers_evaluate" in shown.stdout and "docs/runbooks/HooklineWorkerMissing.md" in shown.stdout
    assert "no dispatcher runs" in shown.stdout
    with whole(opened):
        good = CliRunner().invoke(hookline, ["status", "--json"])
        answer = json.loads(good.stdout)
        failing = {one["name"] for one in answer["checks"] if one["status"] == "failing"}
        assert failing <= {"environment"}, "tests' Redis keeps no file"
        assert good.exit_code == (1 if failing else 0)
        assert {one["role"] for one in answer["processes"]} == {"dispatcher", "worker"}
        assert [one["queues"] for one in answer["processes"] if one["role"] == "worker"] == [
            ["evaluate", "deliver", "deliver_slow"]
        ]
