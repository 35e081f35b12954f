"""`hookline up` as a user runs it: one command on the embedded default, watched from the outside."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

import httpx
import psutil
import pytest

from tests.authority import TRUSTS_NOBODY

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

HOOKLINE = str(Path(sys.executable).with_name("hookline"))
DEADLINE_SECONDS = 60.0
READY = re.compile(r"hookline ready on (http://127\.0\.0\.1:\d+)\n")
KEY = re.compile(r"admin API key \(shown once\): \S{20,}\n")

pytestmark = pytest.mark.slow


class Up:
    """A running `hookline up`, and what it has said on standard output until it was ready."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        self.said: list[str] = []
        assert process.stdout is not None
        for line in process.stdout:
            self.said.append(line)
            if READY.fullmatch(line):
                break
        assert self.said, f"it ended with status {self.process.wait(DEADLINE_SECONDS)}"
        match = READY.fullmatch(self.said[-1])
        assert match is not None
        self.url = match[1]
        self.family = psutil.Process(self.process.pid).children(recursive=True)

    def child(self, word: str) -> psutil.Process | None:
        """The running child whose command has this word."""
        for child in psutil.Process(self.process.pid).children():
            with suppress(psutil.NoSuchProcess):  # also what it raises for one that has just ended
                if word in child.cmdline():
                    return child
        return None

    def end(self, number: signal.Signals) -> int:
        """Send a signal to the supervisor alone; its exit status, once no process of its family is left."""
        self.process.send_signal(number)
        status = self.process.wait(DEADLINE_SECONDS)
        _gone, alive = psutil.wait_procs(self.family, timeout=DEADLINE_SECONDS)
        assert alive == []
        return status


@contextmanager
def up(folder: Path, settings: Mapping[str, str] | None = None) -> Iterator[Up]:
    """A running one, started in `folder` with no setting but the flags, and `HOOKLINE_…` as given; ready."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("HOOKLINE_")}
    environment |= {f"HOOKLINE_{name}": value for name, value in (settings or {}).items()}
    command = [HOOKLINE, "up", "--data-dir", "data", "--workers", "1", "--port", "0"]
    process = subprocess.Popen(command, cwd=folder, env=environment, stdout=subprocess.PIPE, text=True)
    try:
        yield Up(process)
    finally:
        process.kill()
        process.communicate(timeout=DEADLINE_SECONDS)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Where it is started: a folder with a module of the user's that has a name of ours."""
    (tmp_path / "worker.py").write_text("raise RuntimeError('the wrong worker')\n")
    return tmp_path


def get(url: str) -> httpx.Response:
    """The answer, as soon as there is one."""
    deadline = time.monotonic() + DEADLINE_SECONDS
    while True:
        try:
            return httpx.get(url, trust_env=False, verify=TRUSTS_NOBODY)
        except httpx.TransportError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)


def test_it_serves_refuses_a_second_one_brings_killed_parts_back_and_drains(folder: Path) -> None:
    with up(folder) as running:
        assert len(running.said) == 2
        assert KEY.fullmatch(running.said[0])
        assert [get(running.url + path).status_code for path in ("/healthz", "/readyz")] == [200, 200]
        assert len(running.family) >= 4  # Valkey, API, dispatcher, worker
        assert (folder / "data").stat().st_mode & 0o777 == 0o700
        assert (folder / "data" / "secret.keys").stat().st_mode & 0o777 == 0o600

        second = subprocess.run(
            [HOOKLINE, "up", "--data-dir", "data", "--port", "0"], cwd=folder, capture_output=True, text=True
        )
        assert (second.returncode, second.stdout) == (2, "")
        assert second.stderr == (
            f"hookline: another hookline up (process {running.process.pid}) already runs on {folder / 'data'}\n"
        )

        for word in ("api", "dispatcher", "worker1@%h"):
            killed = running.child(word)
            assert killed is not None
            killed.kill()
            successor = wait_for(running, word, other_than=killed.pid)
            running.family.append(successor)
        assert get(f"{running.url}/healthz").status_code == 200

        assert running.end(signal.SIGTERM) == 0
        assert running.process.stdout is not None
        assert running.process.stdout.read() == ""
        with pytest.raises(httpx.ConnectError):
            httpx.get(f"{running.url}/healthz", trust_env=False, verify=TRUSTS_NOBODY)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a child of its parent's death")
def test_a_killed_supervisor_leaves_nothing_behind_and_starts_again(folder: Path) -> None:
    with up(folder) as first:
        assert first.end(signal.SIGKILL) == -signal.SIGKILL
    with up(folder) as second:
        assert len(second.said) == 1  # the key was shown the first time
        assert get(f"{second.url}/readyz").status_code == 200
        assert second.end(signal.SIGTERM) == 0


def wait_for(running: Up, word: str, *, other_than: int) -> psutil.Process:
    deadline = time.monotonic() + DEADLINE_SECONDS
    while True:
        child = running.child(word)
        if child is not None and child.pid != other_than:
            return child
        assert time.monotonic() < deadline
        time.sleep(0.05)
