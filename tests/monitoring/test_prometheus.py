"""A real Prometheus scrapes real parts: panels have data, rules evaluate, alerts fire, runbooks can be followed."""

from __future__ import annotations

import json
import subprocess
import time
from contextlib import ExitStack
from pathlib import Path

import pytest

from deploy.grafana.generate import FOLDER
from deploy.grafana.pictures import Source, draw, save
from tests.integration.processes import wait_until
from tests.integration.receiver import receiving
from tests.monitoring import runbooks
from tests.monitoring.prometheus import NEEDS_PROMETHEUS, PROMTOOL, Prometheus, prometheus
from tests.monitoring.scene import Scene, scene
from tests.monitoring.traffic import OUTCOMES, define, deliveries, every_outcome

RATE_INTERVAL = "15s"
FIRING = {"HooklineDeadLetters", "HooklineWebhookDisabled", "HooklinePoisonEntries"}
"""What the traffic gives reason for and what does not wait before it fires."""
PENDING = {"HooklineCircuitOpen", "HooklineEnvironmentFault"}
"""What waits for minutes before it fires; the Redis of the tests keeps no append-only file."""
TRACED = ("hookline_attempt_duration_seconds", "hookline_event_to_delivery_seconds")
"""Histograms whose buckets lead to traces of attempts."""
SPEED = {
    f"Hookline{objective}BudgetBurns{pace}" for objective in ("Evaluation", "Attempt") for pace in ("Fast", "Slow")
}
"""What a busy machine gives reason for; they wait for two minutes."""


def panels() -> dict[str, str]:
    """Every query of every dashboard as Grafana would ask it, by dashboard, panel and letter."""
    asked = {}
    for file in sorted(FOLDER.glob("*.json")):
        for panel in json.loads(file.read_text())["panels"]:
            for target in panel["targets"]:
                query = target["expr"].replace("$__rate_interval", RATE_INTERVAL)
                assert "$" not in query, f"{query} has a variable that nothing is put in for"
                asked[f"{file.stem}: {panel['title']} {target['refId']}"] = query
    return asked


def without_data(server: Prometheus, since: float) -> list[str]:
    """The panels' queries that show nothing yet."""
    until = time.time()
    return [
        name for name, query in panels().items() if not server.over(query, since=since, until=until, step_seconds=1)
    ]


@NEEDS_PROMETHEUS
@pytest.mark.slow
@pytest.mark.timeout(300)
def test_prometheus_sees_all_that_happens(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    parts = {"api": (), "pump0": (), "worker0": (), "worker1": ("--pool", "prefork", "--concurrency", "2")}
    with ExitStack() as stack:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", stack.enter_context(receiving()).url)
        running = stack.enter_context(scene(tmp_path, parts, metrics_per_webhook=True, otel=True))
        server = stack.enter_context(prometheus(tmp_path, running.targets()))
        began = time.time()
        wait_until(lambda: list(server.scraped().values()) == ["up"] * len(parts), "scrape of every part")
        webhooks = define(running)
        every_outcome(running)
        wait_until(lambda: _outcomes(server) == OUTCOMES, "attempts of every outcome")
        wait_until(lambda: not without_data(server, began), "data for every panel", every_seconds=0.5)
        wait_until(lambda: server.alerts().keys() >= FIRING | PENDING, "alerts")
        alerts = server.alerts()
        assert {name for name, state in alerts.items() if state == "firing"} == FIRING
        assert {name for name, state in alerts.items() if state == "pending"} - SPEED == PENDING
        assert [(rule["name"], rule["lastError"]) for rule in server.rules() if rule["health"] != "ok"] == []
        _promtool_finds_nothing(running)
        for histogram in TRACED:
            shown = server.exemplars(f"{histogram}_bucket", since=began, until=time.time())
            traces = {one["labels"]["trace_id"] for one in shown}
            assert traces and traces <= _traces(running), histogram
        _runbooks_can_be_followed(running, server, webhooks)
        _a_picture_can_be_drawn(Source(server.url, began, time.time(), RATE_INTERVAL), tmp_path / "overview.png")


def _a_picture_can_be_drawn(source: Source, file: Path) -> None:
    save(draw(json.loads((FOLDER / "overview.json").read_text()), source), file)
    assert file.read_bytes().startswith(b"\x89PNG") and file.stat().st_size > 20_000


def _runbooks_can_be_followed(running: Scene, server: Prometheus, webhooks: dict[str, str]) -> None:
    with running.api() as api:
        (dead, *_) = deliveries(api, status="dead", webhook=webhooks["dying"])
    put_in = {"dlv_…": dead["id"], "wh_…": webhooks["deploy"], "INSTANCE": running.address("worker0")}
    assert runbooks.faults_of_queries(server) == []
    assert runbooks.faults_of_statements(running) == []
    assert runbooks.faults_of_commands(running, put_in) == []
    assert len(runbooks.commands()) >= 15


def _outcomes(server: Prometheus) -> set[str]:
    """The outcomes that attempts had."""
    found = server.now("sum by (outcome) (hookline_attempts_total) > 0")
    return {dict(labels)["outcome"] for labels in found}


def _promtool_finds_nothing(running: Scene) -> None:
    assert PROMTOOL is not None
    for name in running.parts:
        command = [PROMTOOL, "check", "metrics"]
        done = subprocess.run(command, input=running.exposition(name), capture_output=True, text=True)
        assert (done.returncode, done.stdout + done.stderr) == (0, ""), name


def _traces(running: Scene) -> set[str]:
    """The traces of all attempts, as workers log them."""
    lines = (line for name in running.parts for line in (running.folder / f"{name}.log").read_text().splitlines())
    return {json.loads(line)["trace_id"] for line in lines if "delivery.attempted" in line}
