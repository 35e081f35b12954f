"""The numbers that conditions saw of a run, over REST and as a plot: those that the code that evaluates computes."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from redis import Redis

from shared.domain.explain.series import Point, Series
from shared.domain.explain.simulator import DryRunOutcome
from shared.settings import Settings
from tests.integration.api.conftest import ACME, Api, automation, create_automation, create_webhook, running
from tests.integration.api.test_dry_runs import ON_METRIC, add, metric
from worker.commands.series_plot import plot_lines


def logged(redis: Redis, settings: Settings, values: list[Any], run: str = "r1", project: str = "digits") -> int:
    """Samples of `acc`, one each second, received a minute ago; when the first was received."""
    begin_ms = int(datetime.now(UTC).timestamp() * 1000) - 60_000
    for step, value in enumerate(values):
        raw = metric(step)
        raw["data"] = {**raw["data"], "run": {"id": run}, "project": project, "metrics": {"acc": value}}
        add(redis, settings, {**raw, "id": f"{run}-{step}"}, begin_ms + step)
    return begin_ms


def series_of(api: Api, made: dict[str, Any], query: str = "run=r1&project=digits&today=true") -> Any:
    return api.ok("GET", f"{ACME}/automations/{made['id']}/series?{query}", key="member")


def test_a_series_has_what_was_compared_and_what_came_of_it(api: Api, redis: Redis, settings: Settings) -> None:
    made = create_automation(api, {**ON_METRIC, "cooldown": None})
    begin_ms = logged(redis, settings, [0.1, 0.5, 0.7, "NaN", 0.9, 0.1, 0.95])
    logged(redis, settings, [1.0] * 5, run="r2")
    logged(redis, settings, [1.0] * 5, project="elsewhere")

    answer = series_of(api, made)
    [one] = answer["series"]
    assert (one["metric"], one["compares"], one["bound"], one["side"]) == ("acc", "aggregate", 0.5, "above")
    assert (one["samples"], one["full_since_step"], answer["events"]) == (7, 1, 7)
    told = [(p["step"], p["value"], p["compared"], p["held"], p["outcome"], p["outcome_reason"]) for p in one["points"]]
    assert told == [
        (0, 0.1, None, None, "no_match", "conditions"),
        (1, 0.5, pytest.approx(0.3), False, "no_match", "conditions"),
        (2, 0.7, pytest.approx(0.6), True, "fired", None),
        (3, None, None, False, "no_match", "conditions"),
        (4, 0.9, pytest.approx(0.8), True, "no_match", "already_true"),
        (5, 0.1, pytest.approx(0.5), True, "no_match", "already_true"),
        (6, 0.95, pytest.approx(0.525), True, "no_match", "already_true"),
    ]
    assert one["points"][0]["reason"] == "window has 1 of 2 values"
    began = datetime.fromisoformat(answer["windows_began_at"]).timestamp() * 1000
    assert abs(began - begin_ms) < 2


def test_the_past_goes_by_what_the_automation_was(api: Api, redis: Redis, settings: Settings) -> None:
    logged(redis, settings, [0.1, 0.9])
    made = create_automation(api, ON_METRIC)
    assert series_of(api, made, "run=r1&project=digits")["series"] == []
    assert len(series_of(api, made)["series"]) == 1


def test_long_series_are_thinned_out_and_keep_the_extremes(api: Api, redis: Redis, settings: Settings) -> None:
    condition = {"metric": "acc", "op": "$gt", "threshold": 90}
    made = create_automation(api, {**ON_METRIC, "scope": {"project": "digits"}, "conditions": [condition]})
    values = [float(step % 7) for step in range(300)]
    values[137], values[222] = 99.0, -99.0
    logged(redis, settings, values)
    [one] = series_of(api, made, "run=r1&points=20&today=true")["series"]
    kept = {point["value"] for point in one["points"]}
    assert len(one["points"]) <= 21
    assert {99.0, -99.0} <= kept
    assert [point["step"] for point in one["points"] if point["outcome"] == "fired"] == [137]


def test_a_range_that_is_too_long_says_where_it_stopped(
    api: Api, redis: Redis, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shared.dry_runs.run_series.MAX_SAMPLES", 3)
    made = create_automation(api, ON_METRIC)
    begin_ms = logged(redis, settings, [0.1] * 5)
    answer = series_of(api, made)
    assert (answer["truncated"], answer["events"]) == (True, 3)
    assert abs(datetime.fromisoformat(answer["read_until"]).timestamp() * 1000 - begin_ms - 2) < 2


def test_a_range_that_takes_too_long_says_where_it_stopped(
    api: Api, redis: Redis, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shared.dry_runs.run_series.MAX_SECONDS", -1.0)
    made = create_automation(api, ON_METRIC)
    logged(redis, settings, [0.1] * 5)
    answer = series_of(api, made)
    assert (answer["truncated"], answer["events"]) == (True, 1)


def test_bad_queries_are_refused(api: Api) -> None:
    create_webhook(api)
    made = create_automation(api, ON_METRIC)["id"]
    other = create_automation(api)["id"]
    path = f"{ACME}/automations"
    assert api.refused("GET", f"{path}/{made}/series?run=r1", status=422).locs == [["project"]]
    assert ["automation_id"] in api.refused("GET", f"{path}/{other}/series?run=r1", status=422).locs
    api.refused("GET", f"{path}/{made}/series?project=p", status=422)
    assert api.refused("GET", f"{path}/{made}/series?run=r&project=p&since=x", status=422).locs == [["since"]]
    api.refused("GET", f"{path}/{made}/series?run=r&project=p&points=1", status=422)
    api.refused("GET", f"{path}/aut_99/series?run=r&project=p", status=404)
    api.refused("GET", f"{path}/{made}/series?run=r&project=p", status=403, key="publisher")


def test_streams_that_are_away_are_a_503(api: Api, settings: Settings) -> None:
    made = create_automation(api, {**ON_METRIC, "scope": {"project": "digits"}})["id"]
    with running(settings.model_copy(update={"redis_url": "redis://127.0.0.1:1/0"})) as client:
        Api(client, api.keys).refused("GET", f"{ACME}/automations/{made}/series?run=r1", status=503)
    assert automation()["name"]


def test_a_plot_shows_bound_points_and_firings() -> None:
    at = datetime(2026, 11, 23, tzinfo=UTC)
    outcomes = [DryRunOutcome.NO_MATCH, DryRunOutcome.NO_MATCH, DryRunOutcome.FIRED]
    points = tuple(
        Point(step, at, float(step), None if step == 0 else float(step), None, step == 2, outcome, None)
        for step, outcome in enumerate(outcomes)
    )
    lines = plot_lines(Series("acc $gt 1.5", "acc", "value", 1.5, "above", 3, 1, points), width=20, height=5)
    assert lines[0] == "acc $gt 1.5"
    assert lines[1].endswith("▲")
    assert lines[3].endswith("─" * 20)
    assert lines[5].endswith("┤·" + " " * 19)
    assert "1 without a number" in lines[-1]
    empty = plot_lines(Series("x", "acc", "value", 1.5, "above", 1, None, points[:1]))
    assert "never full" in empty[-1]
