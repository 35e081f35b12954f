"""A worker as production runs it, in each pool: it works, counts right, and ends cleanly."""

from __future__ import annotations

import re
from pathlib import Path

import httpx
import pytest

from tests.integration.processes import dispatcher_command, running, wait_until, worker_command
from tests.integration.scene import Scene, alias_event
from tests.servers import free_port

EVENTS = 200
# What a pool does to connections that are open when it forks, on both; what else workers do, other tests see on both.
POOLS = [("sqlite", "threads"), ("sqlite", "prefork"), ("postgresql", "prefork"), ("postgresql", "solo")]


def _metric(exposition: str, name: str, **labels: str) -> float:
    """The sum over all series of a metric that carry these labels."""
    total = 0.0
    for line in exposition.splitlines():
        if re.match(rf"{name}(\{{|\s)", line) and all(f'{key}="{value}"' in line for key, value in labels.items()):
            total += float(line.rsplit(" ", 1)[1])
    return total


def _await_next_beat(beat: Path) -> None:
    before = beat.stat().st_mtime_ns
    wait_until(lambda: beat.stat().st_mtime_ns > before, f"heartbeat in {beat.name}")


@pytest.mark.slow
@pytest.mark.parametrize(("database_url", "pool"), POOLS, indirect=["database_url"])
def test_a_worker_delivers_counts_and_ends_cleanly(scene: Scene, tmp_path: Path, pool: str) -> None:
    port = free_port()
    beats = {name: tmp_path / f"{name}.beat" for name in ("worker", "pump")}
    update = {"metrics_port": port, "metrics_host": "127.0.0.1", "heartbeat_file": beats["worker"]}
    settings = scene.settings.model_copy(update=update)
    pump_settings = scene.settings.model_copy(update={"heartbeat_file": beats["pump"]})
    hook = scene.webhook()
    scene.automation(hook, filter={"alias": "prod"})
    command = [*worker_command("w"), "--pool", pool, "--concurrency", "2"]
    with (
        running(dispatcher_command(), pump_settings, tmp_path / "pump.log"),
        running(command, settings, tmp_path / "worker.log") as worker,
    ):
        scene.publish(*(alias_event("prod" if n % 2 else "other", collection=f"c{n}") for n in range(EVENTS)))

        def exposition() -> str:
            try:
                return httpx.get(f"http://127.0.0.1:{port}/metrics").text
            except httpx.TransportError:
                return ""

        wait_until(lambda: _metric(exposition(), "hookline_deliveries_total") >= EVENTS / 2, "all deliveries")
        seen = exposition()
        for beat in beats.values():
            _await_next_beat(beat)
        worker.terminate()
        assert worker.wait(60) == 0, (tmp_path / "worker.log").read_text()
    assert _metric(seen, "hookline_events_evaluated_total", type="ADD_ARTIFACT_ALIAS") == EVENTS
    assert _metric(seen, "hookline_firings_total", action="webhook") == EVENTS / 2
    assert _metric(seen, "hookline_deliveries_total", outcome="delivered") == EVENTS / 2
    assert _metric(seen, "hookline_attempts_total", outcome="2xx") == EVENTS / 2
    assert _metric(seen, "hookline_attempt_duration_seconds_count") == EVENTS / 2
    assert _metric(seen, "hookline_automations_loaded") >= 1
    assert {row.status for row in scene.rows()} == {"delivered"}
    assert scene.pending() == []


@pytest.mark.slow
@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
def test_only_workers_that_send_need_the_keys_of_secrets(scene: Scene, tmp_path: Path) -> None:
    """The pump and a worker that only evaluates are given none, as in the chart and the compose file."""
    keyless = scene.settings.model_copy(update={"secret_keys": "", "data_dir": tmp_path / "no-keys"})
    scene.secret("TOKEN", "a-token")
    scene.automation(scene.webhook(access_token="TOKEN"))
    evaluating, sending = ([*worker_command(queue), "-Q", queue] for queue in ("evaluate", "deliver"))
    with (
        running(dispatcher_command(), keyless, tmp_path / "pump.log"),
        running(evaluating, keyless, tmp_path / "evaluate.log") as worker,
    ):
        scene.publish(alias_event("prod"))
        wait_until(lambda: len(scene.pending()) == 1, "an evaluated event")
        with running(sending, scene.settings, tmp_path / "deliver.log"):
            wait_until(lambda: [row.status for row in scene.rows()] == ["delivered"], "its delivery")
        worker.terminate()
        assert worker.wait(60) == 0
    assert scene.receiver.requests[0].headers["authorization"] == "Bearer a-token"
    assert "error" not in (tmp_path / "evaluate.log").read_text()
