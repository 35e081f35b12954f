"""The dashboards in deploy/grafana: current, whole, and asking for metrics that exist."""

from __future__ import annotations

import json
import subprocess
from itertools import combinations
from pathlib import Path

import pytest
import yaml

from deploy.grafana import pictures
from deploy.grafana.boards import DASHBOARDS
from deploy.grafana.generate import COLUMNS, FOLDER, as_json
from deploy.grafana.panels import RATE, Dashboard
from tests.unit.test_alerts import METRIC, NEEDS_PROMTOOL, PROMTOOL, exposed_names

BY_NAME = pytest.mark.parametrize("dashboard", DASHBOARDS, ids=lambda one: one.name)


@BY_NAME
def test_the_committed_file_is_current(dashboard: Dashboard) -> None:
    assert (FOLDER / f"{dashboard.name}.json").read_text() == as_json(dashboard)


def test_no_file_is_left_over() -> None:
    assert {file.stem for file in FOLDER.iterdir()} == {dashboard.name for dashboard in DASHBOARDS}


@BY_NAME
def test_panels_ask_for_metrics_that_exist(dashboard: Dashboard) -> None:
    for panel in dashboard.panels:
        for expression, _legend in panel.queries:
            assert set(METRIC.findall(expression)) <= exposed_names(), panel.title


@BY_NAME
def test_panels_lie_side_by_side(dashboard: Dashboard) -> None:
    panels = json.loads(as_json(dashboard))["panels"]
    places = [panel["gridPos"] for panel in panels]
    assert len({panel["id"] for panel in panels}) == len(panels)
    assert all(place["x"] + place["w"] <= COLUMNS for place in places)
    for one, other in combinations(places, 2):
        apart = (
            one["x"] + one["w"] <= other["x"]
            or other["x"] + other["w"] <= one["x"]
            or one["y"] + one["h"] <= other["y"]
            or other["y"] + other["h"] <= one["y"]
        )
        assert apart, (one, other)


@NEEDS_PROMTOOL
def test_only_those_that_work_have_a_line_by_instance(tmp_path: Path) -> None:
    """An API and a pump have every counter too, at 0 for ever."""
    assert PROMTOOL is not None
    queues = {"evaluates": ["evaluate"], "delivers": ["deliver", "deliver_slow"], "api": [], "pump": []}
    counters = ("hookline_events_evaluated_total", "hookline_attempts_total")
    series = [
        {"series": f'{counter}{{instance="{instance}"}}', "values": "0+60x20" if queues[instance] else "0x20"}
        for counter in counters
        for instance in queues
    ]
    series += [
        {"series": f'hookline_workers{{instance="{instance}", queue="{queue}"}}', "values": "1x20"}
        for instance, consumed in queues.items()
        for queue in consumed
    ]
    (workers,) = (one for one in DASHBOARDS if one.name == "workers")
    asked = {panel.title: panel.queries[0][0].replace(RATE, "5m") for panel in workers.panels}
    lines = {"Events evaluated by instance": ["evaluates"], "Attempts by instance": ["delivers", "evaluates"]}
    expected = [
        {
            "expr": asked[title],
            "eval_time": "15m",
            "exp_samples": [{"labels": f'{{instance="{instance}"}}', "value": 1} for instance in instances],
        }
        for title, instances in lines.items()
    ]
    tests = {"tests": [{"interval": "1m", "input_series": series, "promql_expr_test": expected}]}
    (file := tmp_path / "tests.yml").write_text(yaml.safe_dump(tests))
    done = subprocess.run([PROMTOOL, "test", "rules", file], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_provisioned_files_are_what_grafana_reads() -> None:
    provisioning = FOLDER.parent / "provisioning"
    (source,) = yaml.safe_load((provisioning / "datasources" / "prometheus.yml").read_text())["datasources"]
    assert source["type"] == "prometheus"
    (provider,) = yaml.safe_load((provisioning / "dashboards" / "hookline.yml").read_text())["providers"]
    assert Path(provider["options"]["path"]).is_absolute()


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [
        (0.0453, "s", "45.3 ms"),
        (2.0, "s", "2 s"),
        (90.0, "s", "1.5 min"),
        (12.5 * 2**30, "bytes", "12.5 GiB"),
        (0.0, "bytes", "0 B"),
        (0.003, "percentunit", "0.3%"),
        (1234.0, "ops", "1.23K ops/s"),
        (100.0, "reqps", "100 req/s"),
        (7.0, "short", "7"),
        (float("nan"), "short", "-"),
    ],
)
def test_pictures_write_values_in_their_unit(value: float, unit: str, text: str) -> None:
    assert pictures.written(value, unit) == text


def test_pictures_know_every_unit_that_a_panel_has() -> None:
    assert {panel.unit for dashboard in DASHBOARDS for panel in dashboard.panels} <= pictures.SCALES.keys()
