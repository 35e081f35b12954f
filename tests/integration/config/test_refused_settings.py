"""A wrong environment value is refused at start, in one line that names the variable, by every process."""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.integration.forked import Command, outcomes

LINES = {
    "up": ["hookline", "up", "--port", "0"],
    "api": ["hookline", "api", "--port", "0"],
    "worker": ["celery", "-A", "worker", "worker"],
}
HEAVY = [
    "dispatcher.up.composition",
    "dispatcher.app",
    "worker.bootstrap",
    "worker.remote_control",
    "celery.bin.celery",
]
"""What the commands import before they read their settings, or could."""
MODULES = {"hookline": "dispatcher.cli", "celery": "celery"}
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


@pytest.fixture(scope="module")
def refused(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[tuple[str, str], tuple[int, str]]]:
    """The folder that none may have made, and how each command ended with each variable, and what it said."""
    data = tmp_path_factory.mktemp("refused") / "data"
    tried = list(itertools.product(LINES, ENVIRONMENTS))
    commands = [Command(LINES[name], {variable: ENVIRONMENTS[variable]}) for name, variable in tried]
    environment = {**os.environ, "HOOKLINE_DATA_DIR": str(data)}
    return data, dict(zip(tried, outcomes(commands, environment, imports=HEAVY), strict=True))


@pytest.mark.parametrize("variable", ENVIRONMENTS)
@pytest.mark.parametrize("command", LINES)
def test_a_wrong_value_is_refused_in_one_line(
    command: str, variable: str, refused: tuple[Path, dict[tuple[str, str], tuple[int, str]]]
) -> None:
    data, ends = refused
    code, said = ends[command, variable]
    assert code != 0
    [line] = said.strip().splitlines()
    assert line.startswith(f"hookline: {variable}: ")
    assert "s3cret" not in line
    assert not data.exists()


@pytest.mark.parametrize(
    ("command", "options"),
    [("api", []), ("worker", []), ("worker", ["-Q", "evaluate,deliver_slow"])],
    ids=["api", "worker", "worker that also sends"],
)
def test_a_missing_secret_key_is_refused_at_start(command: str, options: list[str], tmp_path: Path) -> None:
    environment = {**os.environ, "HOOKLINE_DATA_DIR": str(tmp_path / "data")}
    command_line = [sys.executable, "-m", MODULES[LINES[command][0]], *LINES[command][1:], *options]
    ended = subprocess.run(command_line, env=environment, capture_output=True, text=True, timeout=60, check=False)
    assert ended.returncode != 0
    assert ended.stderr.strip().splitlines()[-1].startswith("hookline: HOOKLINE_SECRET_KEYS: is not set")
