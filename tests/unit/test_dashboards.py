"""The dashboards in deploy/grafana: current, whole, and asking for metrics that exist."""

from __future__ import annotations

import json
from itertools import combinations
from pathlib import Path

import pytest
import yaml

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
