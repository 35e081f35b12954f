"""The dashboards in deploy/grafana: current, whole, and asking for metrics that exist."""

from __future__ import annotations

import json
from itertools import combinations
from pathlib import Path

import pytest
import yaml

from deploy.grafana import pictures
from deploy.grafana.generate import COLUMNS, DASHBOARDS, FOLDER, Dashboard, as_json
from tests.unit.test_alerts import METRIC, exposed_names

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
