"""Options of `celery worker` that operators know from elsewhere: they hold, or are refused in one line."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from shared.settings import Settings
from tests.integration.processes import ROOT, environment, running, wait_until, worker_command

pytestmark = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)


def test_what_would_fail_at_the_first_drain_is_refused(settings: Settings) -> None:
    done = subprocess.run(
        [*worker_command("w"), "--pool", "solo", "--autoscale", "4,1"],
        cwd=ROOT,
        env=environment(settings),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 1
    line = "hookline: --autoscale: needs --pool prefork; a pool of threads"
    assert done.stderr.splitlines()[-1].startswith(line)


@pytest.mark.slow
def test_a_level_and_a_file_that_are_given_hold(settings: Settings, tmp_path: Path) -> None:
    log, output = tmp_path / "w.log", tmp_path / "output"
    with running(
        [*worker_command("w"), "--logfile", str(tmp_path / "%n.log"), "--loglevel", "DEBUG"], settings, output
    ):
        wait_until(lambda: log.exists() and "w@" in log.read_text() and " ready." in log.read_text(), "line of a start")
        assert '"level": "debug"' in log.read_text()
    quiet = tmp_path / "quiet"
    with running([*worker_command("w"), "--loglevel", "ERROR"], settings, quiet) as worker:
        wait_until(lambda: "[queues]" in quiet.read_text(), "banner")
        worker.terminate()
        worker.wait(60)
    assert '"level": "info"' not in output.read_text() + quiet.read_text()


def shared_values(folder: Path) -> list[Path]:
    """The files in which the one worker keeps its metrics, after whoever starts next removed what belongs to nobody."""
    own = {**os.environ, "TMPDIR": str(folder)}
    subprocess.run([sys.executable, "-c", "import worker.celery"], cwd=ROOT, env=own, timeout=60, check=True)
    return list(folder.glob("hookline-metrics-*/*.db"))


@pytest.mark.slow
def test_a_worker_restarted_by_a_signal_keeps_its_metrics(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    log = tmp_path / "w.log"
    # By its program, since Celery can't start itself again where it was started as a module.
    program = [str(Path(sys.executable).with_name("celery")), *worker_command("w")[3:]]
    with running(program, settings, log) as worker:
        wait_until(lambda: log.read_text().count(" ready.") == 1, "worker")
        worker.send_signal(signal.SIGHUP)
        wait_until(lambda: log.read_text().count(" ready.") == 2, "worker after SIGHUP")
        assert shared_values(tmp_path)
        worker.terminate()
        assert worker.wait(60) == 0
    assert '"level": "error"' not in log.read_text()


@pytest.mark.slow
def test_a_worker_that_is_detached_logs_to_its_file_and_keeps_its_metrics(settings: Settings, tmp_path: Path) -> None:
    log, pid_file = tmp_path / "w.log", tmp_path / "w.pid"
    own = environment(settings) | {"TMPDIR": str(tmp_path)}
    options = ["--detach", "--logfile", str(log), "--pidfile", str(pid_file), "--concurrency", "2"]
    options += ["--executable", sys.executable, "--umask", "077"]
    subprocess.run([*worker_command("w"), *options], cwd=ROOT, env=own, timeout=60, check=True)
    wait_until(lambda: log.exists() and " ready." in log.read_text(), "worker")
    try:
        assert shared_values(tmp_path)
        assert log.stat().st_mode & 0o077 == 0
    finally:
        os.kill(int(pid_file.read_text()), signal.SIGTERM)
        wait_until(lambda: not pid_file.exists(), "end of the worker", seconds=40)
    assert '"level": "error"' not in log.read_text()
