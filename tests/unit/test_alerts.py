"""The alerts in deploy/prometheus: each has a runbook, a test and metrics that exist; promtool proves they work."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client import REGISTRY

from shared.domain.health_checks import CHECKS, RATES_ONLY, HealthCheck
from shared.health.snapshot import _VALUES
from shared.observability import metrics

ROOT = Path(__file__).parents[2]
PROMETHEUS = ROOT / "deploy" / "prometheus"
TESTS = ("tests.yml", "tests_of_days.yml", "tests_of_a_quiet_hour.yml")
HEADINGS = ["## What it means", "## How to look", "## What to do"]
METRIC = re.compile(r"\bhookline_\w+")
RECORDED = re.compile(r"\bhookline:\w+:\w+")
PROMTOOL = shutil.which("promtool")
NEEDS_PROMTOOL = pytest.mark.skipif(
    PROMTOOL is None, reason="promtool is not installed (Debian's package prometheus has it)"
)


def _rules(file: str) -> list[dict[str, Any]]:
    groups = yaml.safe_load((PROMETHEUS / file).read_text())["groups"]
    return [rule for group in groups for rule in group["rules"]]


ALERTS = {rule["alert"]: rule for rule in _rules("alerts.yml")}
RECORDS = {rule["record"] for rule in _rules("rules.yml")}
PAGES = {page.stem: page.read_text() for page in (ROOT / "docs" / "runbooks").glob("Hookline*.md")}
SUITES = [suite for file in TESTS for suite in yaml.safe_load((PROMETHEUS / file).read_text())["tests"]]


def exposed_names() -> set[str]:
    """Every name that a sample of a metric of ours may have."""
    assert metrics.BUILD_INFO is not None  # it is the module that registers them
    names = set()
    for metric in REGISTRY._names_to_collectors.values():
        kind, name = getattr(metric, "_type", ""), getattr(metric, "_name", "")
        endings = {"counter": ["_total"], "histogram": ["_bucket", "_sum", "_count"]}.get(kind, [""])
        names |= {name + ending for ending in endings}
    return {name for name in names if name.startswith("hookline_")}


def test_every_metric_that_is_asked_for_exists() -> None:
    known = exposed_names()
    for rule in [*_rules("rules.yml"), *ALERTS.values()]:
        assert set(METRIC.findall(rule["expr"])) <= known, rule
        assert set(RECORDED.findall(rule["expr"])) <= RECORDS, rule
    for name, text in PAGES.items():
        for block in re.findall(r"```promql\n(.*?)```", text, re.DOTALL):
            assert set(METRIC.findall(block)) <= known, name
            assert set(RECORDED.findall(block)) <= RECORDS, name


def test_every_alert_has_a_runbook_and_every_runbook_an_alert() -> None:
    assert PAGES.keys() == ALERTS.keys()
    for name, rule in ALERTS.items():
        assert rule["annotations"]["runbook_url"] == f"docs/runbooks/{name}.md"
        assert rule["annotations"].keys() == {"summary", "description", "runbook_url"}
        assert rule["labels"]["severity"] in ("page", "ticket")
        assert [line for line in PAGES[name].splitlines() if line.startswith("#")] == [f"# {name}", *HEADINGS]
        assert "```" in PAGES[name], f"{name} says no commands"
        assert re.search(r"alert\s+ends", PAGES[name]), f"{name} does not say when the alert ends"
        for link in re.findall(r"\]\((?!https?:)([^)#]+)", PAGES[name]):
            assert (ROOT / "docs" / "runbooks" / link).exists(), link


def test_runbooks_give_busy_workers_time_to_answer() -> None:
    asked = r"celery -A worker (?:control|inspect|status)\b[^`\n]*"
    commands = [found for page in PAGES.values() for found in re.findall(asked, page)]
    assert len(commands) > 5
    assert [command for command in commands if " -t 10" not in command] == []


def test_every_alert_has_a_health_check_or_is_about_rates_alone() -> None:
    checked = {check.runbook for check in CHECKS}
    assert checked | RATES_ONLY == ALERTS.keys()
    assert not checked & RATES_ONLY
    assert {check.name for check in CHECKS} == _VALUES.keys()
    assert len({check.name for check in CHECKS}) == len(CHECKS)


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.name)
def test_alerts_and_health_have_the_same_thresholds(check: HealthCheck) -> None:
    alert = ALERTS[check.runbook]
    assert check.severity == alert["labels"]["severity"]
    assert (ROOT / check.page).exists()
    if check.rule is not None:
        assert check.rule in alert["expr"]
        comparison = f"{'<' if check.below else '>'} {check.threshold:g}"
        assert check.rule.endswith(comparison), "the rule compares with another threshold"
        assert _seconds(alert["for"]) == check.lasting_seconds


def _seconds(duration: str) -> int:
    return int(duration[:-1]) * {"s": 1, "m": 60, "h": 3600}[duration[-1]]


@pytest.mark.parametrize("alert", ALERTS)
def test_every_alert_is_proven_to_fire_and_to_clear(alert: str) -> None:
    (suite,) = (suite for suite in SUITES if suite["name"] == alert)
    checks = [one for one in suite["promql_expr_test"] if f'alertname="{alert}", alertstate="firing"' in one["expr"]]
    assert [len(one["exp_samples"]) for one in checks] == [0, 1, 0]


@NEEDS_PROMTOOL
@pytest.mark.parametrize("arguments", [["rules", "rules.yml", "alerts.yml"], ["config", "prometheus.yml"]])
def test_promtool_takes_the_files(arguments: list[str]) -> None:
    _promtool("check", *arguments)


@NEEDS_PROMTOOL
@pytest.mark.slow
@pytest.mark.parametrize("file", TESTS)
def test_promtool_proves_the_alerts(file: str) -> None:
    _promtool("test", "rules", file)


def _promtool(*arguments: str) -> None:
    assert PROMTOOL is not None
    done = subprocess.run([PROMTOOL, *arguments], cwd=PROMETHEUS, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
