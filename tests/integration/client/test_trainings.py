"""Trainings that publish to a real Hookline: what arrives, when they are killed and when Hookline is away."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from typing import Any

from redis import Redis

from shared.messaging.streams import stream_key
from tests.integration.processes import wait_until
from tests.sdk.conftest import Hookline, serving

TRAINING = """
import sys, hookline
with hookline.run(project="churn", id=sys.argv[1], config={"optimizer": "sgd"}) as run:
    for number in range(int(sys.argv[2])):
        run.log({"loss": 1 / (number + 1), "nan": float("nan")})
        print(number, flush=True)
"""


def in_streams(hookline: Hookline) -> list[dict[str, Any]]:
    """All events that were accepted, repeats included."""
    with Redis.from_url(hookline.settings.stream_url) as redis:
        entries = [redis.xrange(stream_key(partition)) for partition in range(hookline.settings.partitions)]
    return [json.loads(fields[b"e"]) for stream in entries for _, fields in stream]


def steps(hookline: Hookline, run: str) -> list[int]:
    """The steps of a run's metrics, each event once, in the stream's order."""
    found = {one["id"]: one for one in in_streams(hookline) if one["data"]["run"]["id"] == run}
    return [one["data"]["step"] for one in found.values() if one["type"] == "RUN_METRIC"]


def test_a_training_fires_an_automation(hookline: Hookline, variables: dict[str, str]) -> None:
    hookline.webhook("hook")
    rule = {
        "name": "low",
        "event": "RUN_METRIC",
        "scope": {"project": "churn"},
        "filter": {"config.optimizer": "sgd"},
        "conditions": [{"metric": "loss", "op": "$lt", "threshold": 0.3, "window": 1}],
        "action": {"webhook": "hook", "payload": {"run": "${run_id}", "loss": "${metric_value}"}},
    }
    hookline.rest("POST", "/v1/entities/acme/automations", rule, status=201)
    command = [sys.executable, "-c", TRAINING, "r1", "10"]
    subprocess.run(command, env=variables, check=True, timeout=100, stdout=subprocess.DEVNULL)
    hookline.work()
    (request,) = hookline.receiver.requests
    assert json.loads(request.body) == {"run": "r1", "loss": 0.25}


def test_a_killed_training_and_an_outage_lose_and_double_nothing(hookline: Hookline, variables: dict[str, str]) -> None:
    """Killed while Hookline is away; the next training sends what the killed one said that it had logged."""
    away = {**variables, "HOOKLINE_URL": "http://127.0.0.1:9"}
    with subprocess.Popen(
        [sys.executable, "-c", TRAINING, "k1", "100000"], env=variables, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        logged = [int(process.stdout.readline()) for _ in range(1500)]
        process.kill()
        logged += [int(line) for line in process.stdout if line.endswith(b"\n")]
    command = [sys.executable, "-c", TRAINING, "k2", "5"]
    subprocess.run(command, env=away, check=True, timeout=100, stdout=subprocess.DEVNULL)
    assert steps(hookline, "k2") == []
    subprocess.run(command, env=variables, check=True, timeout=100, stdout=subprocess.DEVNULL)
    wait_until(lambda: len(steps(hookline, "k1")) >= len(logged), "all events of the killed training")
    found = steps(hookline, "k1")
    assert found[: len(logged)] == logged and len(found) - len(logged) in (0, 1)
    ids = Counter(one["id"] for one in in_streams(hookline) if one["data"]["run"]["id"] == "k2")
    assert max(ids.values()) == 1 and len(ids) == 7


def test_an_api_that_goes_and_comes_back_gets_everything_once_and_in_order(
    hookline: Hookline, variables: dict[str, str]
) -> None:
    """The training goes on meanwhile, and ends after it."""
    program = TRAINING.replace(
        "print(number, flush=True)", "print(number, flush=True); number == 20 and sys.stdin.readline()"
    )
    with serving(hookline.settings) as url:
        port = int(url.rsplit(":", 1)[1])
        process = subprocess.Popen(
            [sys.executable, "-c", program, "o1", "300"],
            env={**variables, "HOOKLINE_URL": url},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        wait_until(lambda: len(steps(hookline, "o1")) >= 10, "the first events")
    assert process.stdin is not None and process.stdout is not None
    process.stdin.write(b"\n")
    process.stdin.flush()
    while process.stdout.readline() != b"299\n":
        assert process.poll() is None
    assert len(steps(hookline, "o1")) < 300
    with serving(hookline.settings, port):
        process.communicate(timeout=100)
        assert process.returncode == 0
        wait_until(lambda: len(steps(hookline, "o1")) >= 300, "the rest")
    assert steps(hookline, "o1") == list(range(300))
