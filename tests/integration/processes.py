"""Hookline's own processes for tests, started as an operator starts them, and killed as operators never would."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from pathlib import Path

from pydantic import SecretStr

from shared.domain.durations import format_duration
from shared.settings import ENV_PREFIX, Settings

ROOT = Path(__file__).parents[2]
STOP_SECONDS = 40
LOOK_SECONDS = 0.25


def environment(settings: Settings) -> dict[str, str]:
    """The environment that gives a process these settings."""
    own = {name: value for name, value in os.environ.items() if not name.startswith(ENV_PREFIX)}
    for name in settings.model_fields_set:
        value = getattr(settings, name)
        if isinstance(value, SecretStr):
            value = value.get_secret_value()
        if isinstance(value, tuple):
            value = ",".join(str(part) for part in value)
        if isinstance(value, timedelta):
            value = format_duration(value)
        own[f"{ENV_PREFIX}{name.upper()}"] = str(value)
    own.pop("PROMETHEUS_MULTIPROC_DIR", None)
    return own


def start(command: list[str], settings: Settings, log: Path) -> subprocess.Popen[bytes]:
    """Run a command with these settings; its output goes to `log`."""
    with log.open("ab") as output:
        return subprocess.Popen(command, cwd=ROOT, env=environment(settings), stdout=output, stderr=subprocess.STDOUT)


def worker_command(name: str) -> list[str]:
    """A worker as production starts it."""
    return [sys.executable, "-m", "celery", "-A", "worker", "worker", "-n", f"{name}@%h"]


def dispatcher_command() -> list[str]:
    """The dispatcher as production starts it."""
    return [sys.executable, "-m", "dispatcher.cli", "dispatcher"]


@contextmanager
def running(command: list[str], settings: Settings, log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A process that is stopped at the end: SIGTERM first, and SIGKILL when that takes too long."""
    process = start(command, settings, log)
    try:
        yield process
    finally:
        stop(process)


def stop(process: subprocess.Popen[bytes]) -> None:
    """SIGTERM, then SIGKILL after `STOP_SECONDS`; nothing when it has ended."""
    if process.poll() is None:
        process.terminate()
        with suppress(subprocess.TimeoutExpired):
            process.wait(STOP_SECONDS)
    if process.poll() is None:
        process.kill()
    process.wait()


def wait_until(condition: Callable[[], bool], what: str, *, seconds: float = 60, every_seconds: float = 0.02) -> None:
    """Wait for a condition; AssertionError when it does not come true in time.

    What has been waited for long is looked at less often, since to look takes time from those who are waited for.
    """
    began = time.monotonic()
    while not condition():
        waited = time.monotonic() - began
        assert waited < seconds, f"no {what} within {seconds:g} s"
        time.sleep(max(every_seconds, min(waited / 20, LOOK_SECONDS)))
