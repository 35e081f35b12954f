"""docs/settings.md is what the settings say, docs/metrics.md what the metrics say."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from click.testing import CliRunner
from prometheus_client import REGISTRY

from dispatcher.reference import settings_page
from dispatcher.reference.metrics_page import metrics_reference
from shared.observability.metrics import EXPOSED_BY
from shared.settings import ENV_PREFIX, Settings

if TYPE_CHECKING:
    from pathlib import Path


def test_the_committed_page_is_up_to_date() -> None:
    result = CliRunner().invoke(settings_page.main, ["--check"])
    assert (result.exit_code, result.output) == (0, "")


@pytest.mark.parametrize("request_page", ["PAGE", "METRICS_PAGE"])
def test_an_old_page_is_told_and_left_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request_page: str) -> None:
    page = tmp_path / "settings.md"
    monkeypatch.setattr(settings_page, request_page, page)
    for _old in (None, page.write_text("old")):
        result = CliRunner().invoke(settings_page.main, ["--check"])
        assert result.exit_code == 1
        assert "is out of date: run `make docs`" in result.output
    assert page.read_text() == "old"
    assert CliRunner().invoke(settings_page.main, []).exit_code == 0
    assert CliRunner().invoke(settings_page.main, ["--check"]).exit_code == 0


def test_every_setting_has_a_row_in_its_order() -> None:
    rows = [line for line in settings_page.reference().splitlines() if line.startswith(f"| `{ENV_PREFIX}")]
    assert [row.split("`")[1] for row in rows] == [f"{ENV_PREFIX}{name.upper()}" for name in Settings.model_fields]
    assert all(row.count(" | ") == 2 for row in rows)


def test_defaults_are_written_as_the_variable_takes_them() -> None:
    page = settings_page.reference()
    assert "| `HOOKLINE_REDIS_URL` | unset |" in page
    assert "| `HOOKLINE_DISABLE_AFTER` | `5d` |" in page
    assert "| `HOOKLINE_RELOAD_INTERVAL` | `500ms` |" in page
    assert "| `HOOKLINE_ALLOW_HTTP` | `false` |" in page
    assert "| `HOOKLINE_ALLOWED_PORTS` | `80,443,1024-65535` |" in page
    assert "From 1 to 1024. |" in page
    assert "One of `auto`, `console`, `json`. |" in page


def test_every_metric_is_shown_by_somebody_and_described() -> None:
    known = REGISTRY._collector_to_names
    ours = {metric for metric in known if getattr(metric, "_name", "").startswith("hookline_")}
    shown = {metric for metrics in EXPOSED_BY.values() for metric in metrics}
    assert shown == ours
    page = metrics_reference()
    assert "| `hookline_attempts_total` | counter | `outcome` |  | sum | HTTP requests made for deliveries;" in page
    assert "| `hookline_oldest_due_seconds` | gauge |  | seconds | max |" in page
    assert "| `hookline_workers` | gauge | `queue` |  | sum |" in page
