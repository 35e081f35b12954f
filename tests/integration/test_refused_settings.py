"""A wrong environment value is refused at start, in one line that names the variable, by every process."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

COMMANDS = {
    "up": [sys.executable, "-m", "dispatcher.cli", "up", "--port", "0"],
    "api": [sys.executable, "-m", "dispatcher.cli", "api", "--port", "0"],
    "worker": [sys.executable, "-m", "celery", "-A", "worker", "worker"],
}
ENVIRONMENTS = {
    "HOOKLINE_PARTITIONS": "zero",
    "HOOKLINE_SECRET_KEYS": "not-a-key-s3cret",
    "HOOKLINE_DATABASE_URL": "mysql://u:s3cret@host/db",
    "HOOKLINE_REDIS_URL": "localhost:6379",
    "HOOKLINE_ALLOWED_NETWORKS": "everything",
    "HOOKLINE_EVENT_RETENTION": "a day",
    "HOOKLINE_ALLOWED_PORTS": "https",
    "HOOKLINE_CA_BUNDLE": "/nowhere/authorities.pem",
}


@pytest.mark.parametrize("variable", ENVIRONMENTS)
@pytest.mark.parametrize("command", COMMANDS)
def test_a_wrong_value_is_refused_in_one_line(command: str, variable: str, tmp_path: Path) -> None:
    environment = {**os.environ, "HOOKLINE_DATA_DIR": str(tmp_path / "data"), variable: ENVIRONMENTS[variable]}
    ended = subprocess.run(COMMANDS[command], env=environment, capture_output=True, text=True, timeout=60, check=False)
    assert ended.returncode != 0
    [line] = (ended.stderr + ended.stdout).strip().splitlines()
    assert line.startswith(f"hookline: {variable}: ")
    assert "s3cret" not in line
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize("command", ["api", "worker"])
def test_a_missing_secret_key_is_refused_at_start(command: str, tmp_path: Path) -> None:
    environment = {**os.environ, "HOOKLINE_DATA_DIR": str(tmp_path / "data")}
    ended = subprocess.run(COMMANDS[command], env=environment, capture_output=True, text=True, timeout=60, check=False)
    assert ended.returncode != 0
    assert ended.stderr.strip().splitlines()[-1].startswith("hookline: HOOKLINE_SECRET_KEYS: is not set")
