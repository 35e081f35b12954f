"""`mlflow server` as people start it."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from contextlib import suppress
from pathlib import Path

import mlflow

_PATIENCE_SECONDS = 300.0
# On a busy machine a worker's import takes longer than its supervisor's usual patience.
_PATIENT = {3: ("--uvicorn-opts", "--timeout-worker-healthcheck 300"), 2: ("--gunicorn-opts", "--timeout 300")}


class MlflowServer:
    """A stock `mlflow server` with its workers; a context manager."""

    def __init__(self, url: str, folder: Path, *options: str, workers: int = 2, **variables: str) -> None:
        self._backend, self._folder, self._options, self._workers = url, folder, options, workers
        self._variables = variables
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self._process: subprocess.Popen[bytes] | None = None
        self.log = folder / "mlflow.log"

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        """Start it, and wait until it serves; one that does not is ended."""
        try:
            self._start()
        except BaseException:
            self.kill()
            raise

    def _start(self) -> None:
        command = [
            str(Path(sys.executable).with_name("mlflow")),
            *("server", "--backend-store-uri", self._backend, "--default-artifact-root", str(self._folder)),
            *_PATIENT[int(mlflow.__version__.split(".")[0])],
            *("--host", "127.0.0.1", "--port", str(self.port), "--workers", str(self._workers), *self._options),
        ]
        # Pytest's own variable has MLflow check its sessions.
        own = {name: value for name, value in os.environ.items() if name != "PYTEST_CURRENT_TEST"}
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                command,
                stdout=log,
                stderr=log,
                env=own | self._variables,
                cwd=self._folder,
                start_new_session=True,
            )
        until = time.monotonic() + _PATIENCE_SECONDS
        while True:
            with suppress(OSError), urllib.request.urlopen(f"{self.url}/health", timeout=10) as answer:  # noqa: S310
                if answer.status == 200:
                    return
            assert self._process.poll() is None, self.log.read_text()
            assert time.monotonic() < until, self.log.read_text()
            time.sleep(0.2)

    def kill(self, number: int = signal.SIGKILL) -> None:
        """Send all its processes a signal, and wait for the first of them."""
        if self._process is not None:
            with suppress(ProcessLookupError):
                os.killpg(self._process.pid, number)
            try:
                self._process.wait(60)
            except subprocess.TimeoutExpired:
                os.killpg(self._process.pid, signal.SIGKILL)
                self._process.wait(60)
            self._process = None

    def __enter__(self) -> MlflowServer:
        self.start()
        return self

    def __exit__(self, *_exc: object) -> None:
        self.kill(signal.SIGTERM)
        self.kill()
