"""The commands, and the relay as a process of its own."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from hookline_mlflow import relaying, stores
from hookline_mlflow.cli import main

Wait = Callable[..., None]


def test_a_relay_of_its_own(
    configured: Any,
    url: str,
    name: str,
    monkeypatch: pytest.MonkeyPatch,
    wait_until: Wait,
    capsys: pytest.CaptureFixture[str],
) -> None:
    with monkeypatch.context() as only_here:
        only_here.setenv("HOOKLINE_MLFLOW_RELAY", "off")
        only_here.delenv("HOOKLINE_API_KEY")  # the server needs none then
        store = stores.tracking_store(url, "/nowhere")
        store.create_run(store.create_experiment(name), "alice", 1, [], "first")
    assert relaying.running() == [] and configured.events == []
    assert main(["status", "--database-url", url]) == 0
    assert capsys.readouterr().out == "1 events wait, 0 are parked\n"
    command = [str(Path(sys.executable).with_name("hookline-mlflow")), "relay", "--database-url", url]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    wait_until(lambda: configured.events, "the event")
    process.send_signal(signal.SIGTERM)
    assert process.communicate(timeout=60)[0] == "relaying\n" and process.returncode == 0
    assert main(["retry", "--database-url", url]) == 0


def test_tables_are_made_by_whoever_may(url: str, configured: Any, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["status", "--database-url", url]) == 2
    assert "no table alembic_hookline_outbox" in capsys.readouterr().err
    assert main(["create-tables", "--database-url", url]) == 0
    assert main(["create-tables", "--database-url", url]) == 0
    assert main(["status", "--database-url", url]) == 0


@pytest.mark.parametrize("command", ["relay", "create-tables", "status"])
def test_a_wrong_database_is_a_line_without_its_password(
    configured: Any, command: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MLFLOW_BACKEND_STORE_URI", raising=False)
    for url in ("", f"sqlite:///{tmp_path}/no/folder.db", "nonsense://u:s3cret@h/d"):
        assert main([command, "--database-url", url]) == 2
        said = capsys.readouterr().err
        assert said.startswith("hookline-mlflow: ") and said.count("\n") == 1
        assert "s3cret" not in said
