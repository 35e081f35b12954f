"""Writes the dashboards of boards.py as JSON into dashboards/: `python -m deploy.grafana.generate [--check]`.

The JSON is generated and never edited.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from deploy.grafana.boards import DASHBOARDS
from deploy.grafana.panels import Dashboard, Panel

FOLDER = Path(__file__).with_name("dashboards")
COLUMNS = 24
TRACED = (
    "hookline_attempt_duration_seconds",
    "hookline_event_to_delivery_seconds",
    "hookline_evaluation_delay_seconds",
)
"""Histograms whose buckets lead to traces, where Prometheus keeps exemplars."""
SOURCE = {"type": "prometheus", "uid": "${datasource}"}


def as_json(dashboard: Dashboard) -> str:
    """What Grafana imports."""
    panels, top = [], 0
    for height, row in dashboard.rows:
        edges = [round(number * COLUMNS / len(row)) for number in range(len(row) + 1)]
        for panel, left, right in zip(row, edges, edges[1:], strict=False):
            place = {"h": height, "w": right - left, "x": left, "y": top}
            panels.append(_panel(panel, place, number=len(panels) + 1))
        top += height
    return json.dumps(_frame(dashboard, panels), indent=1) + "\n"


def _frame(dashboard: Dashboard, panels: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        "uid": f"hookline-{dashboard.name}",
        "title": dashboard.title,
        "tags": ["hookline"],
        "schemaVersion": 39,
        "version": 1,
        "editable": True,
        "refresh": "30s",
        "time": {"from": "now-1h", "to": "now"},
        "timezone": "browser",
        "links": [
            {"type": "dashboards", "tags": ["hookline"], "title": "Hookline", "asDropdown": True, "includeVars": True}
        ],
        "templating": {
            "list": [
                {
                    "name": "datasource",
                    "label": "Prometheus",
                    "type": "datasource",
                    "query": "prometheus",
                    "current": {},
                }
            ]
        },
        "annotations": {"list": []},
        "panels": panels,
    }


def _panel(panel: Panel, place: dict[str, int], *, number: int) -> dict[str, Any]:
    targets = [
        {
            "refId": chr(ord("A") + index),
            "datasource": SOURCE,
            "expr": expression,
            "legendFormat": legend or "__auto",
            "exemplar": any(f"{metric}_bucket" in expression for metric in TRACED),
        }
        for index, (expression, legend) in enumerate(panel.queries)
    ]
    made: dict[str, Any] = {
        "id": number,
        "type": panel.kind,
        "title": panel.title,
        "description": panel.says,
        "datasource": SOURCE,
        "gridPos": place,
        "targets": targets,
        "fieldConfig": {"defaults": {"unit": panel.unit, "min": 0}, "overrides": []},
    }
    if panel.kind == "stat":
        made["options"] = {"reduceOptions": {"calcs": ["lastNotNull"], "fields": "", "values": False}}
    else:
        made["options"] = {
            "legend": {"displayMode": "list", "placement": "bottom", "showLegend": True},
            "tooltip": {"mode": "multi", "sort": "desc"},
        }
    return made


def main() -> int:
    """Write the files, or with --check only say which are out of date."""
    old = []
    for dashboard in DASHBOARDS:
        path, text = FOLDER / f"{dashboard.name}.json", as_json(dashboard)
        if "--check" not in sys.argv[1:]:
            path.write_text(text, encoding="utf-8")
        elif not path.exists() or path.read_text(encoding="utf-8") != text:
            old.append(path)
    for path in old:
        sys.stderr.write(f"{path} is out of date: run `make docs`\n")
    return 1 if old else 0


if __name__ == "__main__":
    sys.exit(main())
