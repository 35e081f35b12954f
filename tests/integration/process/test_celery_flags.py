"""Each option of `celery worker --help` is shown to hold here or in test_celery_options.py, or has a reason why not."""

from __future__ import annotations

import json
import os
import pwd
import socket
import subprocess
import sys
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from celery.bin.worker import worker as worker_cli

from shared.messaging.celery_app import celery_app
from tests.integration.processes import ROOT, dispatcher_command, running, wait_until, worker_command
from tests.integration.scene import Scene, alias_event
from worker.process.pools import UnusablePool, check_pool, idle_options

pytestmark = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)

OF_PROCESSES = {
    "--pool": "prefork",
    "--autoscale": "3,1",
    "--statedb": "{folder}/state",
    "--optimization": "fair",
    "--prefetch-multiplier": "2",
    "--events": None,
    "--time-limit": "60",
    "--soft-time-limit": "50",
    "--max-tasks-per-child": "5",
    "--max-memory-per-child": "2000000",
    "--pool-start-method": "fork",
    "--exclude-queues": "deliver_slow",
    "--include": "worker.tasks",
    "--without-gossip": None,
    "--heartbeat-interval": "5",
    "--beat": None,
    "--schedule-filename": "{folder}/schedule",
    "--scheduler": "celery.beat:PersistentScheduler",
    "--pidfile": "{folder}/w.pid",
}
OF_THREADS = {
    "--concurrency": "2",
    "--queues": "evaluate,deliver",
    "--disable-prefetch": None,
    "--purge": None,
    "--without-mingle": None,
    "--without-heartbeat": None,
    "--time-limit": "60",
}
ELSEWHERE = {
    "--hostname": "every test that starts a worker",
    "--logfile": "test_celery_options.py",
    "--loglevel": "test_celery_options.py",
    "--detach": "test_celery_options.py",
    "--executable": "test_celery_options.py",
    "--umask": "test_celery_options.py: for a worker that is detached",
    "--uid": "test_a_worker_started_by_root_becomes_somebody_else",
    "--gid": "test_a_worker_started_by_root_becomes_somebody_else",
}


def options(of: dict[str, str | None], folder: Path) -> list[str]:
    words = ((name, None if value is None else value.format(folder=folder)) for name, value in of.items())
    return [word for pair in words for word in pair if word is not None]


def asked(app: Any, command: str, name: str, **arguments: Any) -> Any:
    """One worker's answer."""
    where = [f"{name}@{socket.gethostname()}"]
    answers = app.control.broadcast(command, arguments=arguments, destination=where, reply=True, timeout=20, limit=1)
    return next(iter(answers[0].values()))


def test_every_option_that_celery_has_is_tried(database_url: str) -> None:
    del database_url
    known = {*OF_PROCESSES, *OF_THREADS, *ELSEWHERE, "--help"}
    offered = [parameter.opts + parameter.secondary_opts for parameter in worker_cli.params]
    untried = [names for names in offered if not known.intersection(names)]
    assert not untried, "new in Celery: try it, and list it in docs/brokers.md"


@pytest.mark.slow
def test_a_pool_of_processes_follows_its_options(scene: Scene, tmp_path: Path) -> None:
    hook = scene.webhook()
    scene.automation(hook)
    command = [*worker_command("p"), *options(OF_PROCESSES, tmp_path)]
    log = tmp_path / "log"
    app = celery_app(scene.settings)

    def received(count: int) -> bool:
        return len(scene.receiver.requests) == count

    with (
        running(command, scene.settings, log) as worker,
        running(dispatcher_command(), scene.settings, tmp_path / "pump.log"),
    ):
        wait_until(lambda: " ready." in log.read_text(), "worker")
        for number in range(12):  # more than one process may do
            scene.publish(alias_event(collection=f"c{number}"))
            wait_until(partial(received, number + 1), "delivery")
        grown = asked(app, "pool_grow", "p", n=1)
        wider = asked(app, "autoscale", "p", max=4, min=2)
        stats = asked(app, "stats", "p")
        wait_until(lambda: len(asked(app, "stats", "p")["pool"]["processes"]) == 2, "second process")
        queues = {queue["name"] for queue in asked(app, "active_queues", "p")}
        assert int((tmp_path / "w.pid").read_text()) == worker.pid
        assert list(tmp_path.glob("schedule*"))
        worker.terminate()
        assert worker.wait(60) == 0
    app.close()
    assert wider == {"ok": "autoscale now max=4 min=2"}
    assert "Adjust autoscale range" in grown["error"]
    assert stats["autoscaler"]["min"] == 2
    assert stats["pool"]["timeouts"] == [50, 60]
    assert stats["pool"]["max-tasks-per-child"] == 5
    assert queues == {"evaluate", "deliver"}
    assert list(tmp_path.glob("state*"))
    text = log.read_text()
    assert "option_without_effect" not in text
    assert '"level": "error"' not in text


@pytest.mark.slow
def test_a_pool_of_threads_follows_its_options_and_names_those_that_it_cannot(scene: Scene, tmp_path: Path) -> None:
    hook = scene.webhook()
    scene.automation(hook)
    command, log = [*worker_command("t"), *options(OF_THREADS, tmp_path)], tmp_path / "log"
    app = celery_app(scene.settings)
    with (
        running(command, scene.settings, log),
        running(dispatcher_command(), scene.settings, tmp_path / "pump.log"),
    ):
        wait_until(lambda: " ready." in log.read_text(), "worker")
        scene.publish(*(alias_event(collection=f"c{number}") for number in range(20)))
        wait_until(lambda: len(scene.receiver.requests) == 20, "deliveries")
        told = {name: asked(app, name, "t") for name in ("pool_grow", "pool_shrink", "autoscale")}
        stats = asked(app, "stats", "t")
        queues = {queue["name"] for queue in asked(app, "active_queues", "t")}
    app.close()
    assert stats["pool"]["max-concurrency"] == 2
    assert queues == {"evaluate", "deliver"}
    assert "can't grow: only --pool prefork can" in told["pool_grow"]["error"]
    assert "can't shrink: only --pool prefork can" in told["pool_shrink"]["error"]
    assert "started without --autoscale" in told["autoscale"]["error"]
    lines = [json.loads(line) for line in log.read_text().splitlines() if "option_without_effect" in line]
    assert [(line["option"], line["needs"]) for line in lines] == [("--time-limit", "--pool prefork")]


@pytest.mark.slow
@pytest.mark.skipif(os.getuid() != 0, reason="only root can start a worker as somebody else")
def test_a_worker_started_by_root_becomes_somebody_else(scene: Scene, tmp_path: Path) -> None:
    nobody = pwd.getpwnam("nobody")
    command = [*worker_command("u"), "--uid", "nobody", "--gid", str(nobody.pw_gid)]

    def ids() -> set[str]:
        lines = (Path("/proc") / str(worker.pid) / "status").read_text().splitlines()
        return {" ".join(line.split()[:2]) for line in lines if line.startswith(("Uid:", "Gid:"))}

    with running(command, scene.settings, tmp_path / "log") as worker:
        wait_until(lambda: ids() == {f"Uid: {nobody.pw_uid}", f"Gid: {nobody.pw_gid}"}, "change of user")


def test_only_processes_can_be_scaled_and_limited(database_url: str) -> None:
    del database_url
    check_pool("prefork", autoscale=(4, 1))
    check_pool("processes", autoscale=(4, 1))
    for pool in (None, "threads", "solo"):
        check_pool(pool, autoscale=None)
        with pytest.raises(UnusablePool, match="--autoscale: needs --pool prefork"):
            check_pool(pool, autoscale=(4, 1))
    limits = {"time_limit": 5.0, "max_tasks_per_child": 3, "max_memory_per_child": None}
    assert idle_options({"pool_cls": "threads", **limits}) == ["--time-limit", "--max-tasks-per-child"]
    assert idle_options({"pool_cls": "prefork", **limits}) == []


def test_queues_have_names_as_flower_asks_for_them(database_url: str) -> None:
    del database_url
    # Not imported here: it would have this process share its metrics with others.
    asked = "from worker.celery import app; print(*(queue.name for queue in app.conf.task_queues))"
    done = subprocess.run(
        [sys.executable, "-c", asked], cwd=ROOT, capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout.split() == ["evaluate", "deliver", "deliver_slow"]


def test_a_pool_that_is_missing_is_refused(database_url: str) -> None:
    del database_url
    done = subprocess.run(
        [sys.executable, "-m", "celery", "-A", "worker", "worker", "--pool", "nosuch"],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 2
    assert "'nosuch' is not one of" in done.stderr


@pytest.mark.parametrize("pool", ["gevent", "eventlet", "custom"])
def test_a_pool_whose_package_is_missing_ends_the_worker_with_its_name(database_url: str, pool: str) -> None:
    """By Celery, before it loads Hookline, where `--pool` names it; by a line of ours where the environment does."""
    del database_url
    if find_spec(pool):
        pytest.skip(f"{pool} is installed")

    def end(*options: str, **variables: str) -> tuple[int, list[str]]:
        done = subprocess.run(
            [sys.executable, "-m", "celery", "-A", "worker", "worker", *options],
            cwd=ROOT,
            env=os.environ | variables,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        return done.returncode, done.stderr.splitlines()

    code, lines = end("--pool", pool)
    assert (code, lines[-1]) == (1, f"ModuleNotFoundError: No module named '{pool}'"), "say so in docs/brokers.md"
    if pool != "custom":
        code, lines = end(CELERY_WORKER_POOL=pool)
        assert (code, [line for line in lines if line.startswith(f"hookline: --pool {pool}: ")]) == (1, lines[-1:])
