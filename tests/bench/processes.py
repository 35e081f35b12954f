"""Starting, watching and stopping the process trees that are measured, each by its own process id."""

from __future__ import annotations

import subprocess
import time
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

import psutil

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

ROOT = Path(__file__).parents[2]
STOP_SECONDS = 20


class ProcessFailed(Exception):
    """A measured process ended, or did not get ready; the message has the end of its log."""


class Tree:
    """A started process with all its descendants."""

    def __init__(self, process: subprocess.Popen[bytes], log: Path) -> None:
        self.pid = process.pid
        self.log = log
        self._process = process

    def cpu_seconds(self) -> float:
        """CPU time of all living members so far, and of those that they have buried."""
        total = 0.0
        for member in self.members():
            with suppress(psutil.NoSuchProcess):
                total += sum(member.cpu_times()[:4])
        return total

    def require_alive(self) -> None:
        """Raise `ProcessFailed` with the end of the log if the process has ended."""
        if self._process.poll() is not None:
            raise ProcessFailed(f"process {self.pid} ended with {self._process.returncode}:\n{self.tail()}")

    def tail(self) -> str:
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-30:])

    def wait_until(self, ready: Callable[[], bool], *, what: str, timeout_seconds: float = 60) -> None:
        """Wait for a condition while the process lives."""
        deadline = time.monotonic() + timeout_seconds
        while not ready():
            self.require_alive()
            if time.monotonic() > deadline:
                raise ProcessFailed(f"no {what} within {timeout_seconds} s:\n{self.tail()}")
            time.sleep(0.02)

    def stop(self) -> None:
        """SIGTERM; whoever is left of the tree after `STOP_SECONDS` is killed."""
        members = self.members()
        self._process.terminate()
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(STOP_SECONDS)
        for member in members:
            with suppress(psutil.NoSuchProcess):
                member.kill()
        self._process.wait()

    def members(self) -> list[psutil.Process]:
        """The process and its descendants, as far as they live."""
        with suppress(psutil.NoSuchProcess):
            head = psutil.Process(self.pid)
            return [head, *head.children(recursive=True)]
        return []


@contextmanager
def started(command: Sequence[str], *, environment: Mapping[str, str], log: Path) -> Iterator[Tree]:
    """Run `command` from the project root, output to `log`, and stop its whole tree on leaving."""
    with log.open("wb") as output:
        process = subprocess.Popen(command, env=dict(environment), cwd=ROOT, stdout=output, stderr=subprocess.STDOUT)
    tree = Tree(process, log)
    try:
        yield tree
    finally:
        tree.stop()
