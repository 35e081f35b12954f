"""A client of some version in a process of its own, which does what a test asks and tells what came of it."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from packaging.version import Version

from tests.clients.environments import python_of


class ClientError(Exception):
    """The client raised: the name of its exception, and the message."""

    def __init__(self, kind: str, message: str, seconds: float) -> None:
        super().__init__(f"{kind}: {message}")
        self.seconds = seconds


@dataclass
class Client:
    """A running client; `version` is known once it has connected."""

    lines: IO[str]
    answers: IO[str]
    version: Version = field(default=Version("0"))

    def connect(self, url: str, key: str) -> None:
        """Log in, at another instance or as somebody else too."""
        self.version = Version(self("connect(url, key)", url=url, key=key))

    def __call__(self, do: str, /, **values: Any) -> Any:
        """What an expression gives, of plain values. Raises ClientError when the client raises."""
        self.lines.write(json.dumps({"do": do, "with": values}) + "\n")
        self.lines.flush()
        answered = json.loads(self.answers.readline() or '{"raised": ["EOFError", "the client ended"], "seconds": 0}')
        if "raised" in answered:
            kind, message = answered["raised"]
            raise ClientError(kind, message, answered["seconds"])
        return answered["gave"]

    def since(self, version: str) -> bool:
        """Whether it is this version or a newer one."""
        return self.version >= Version(version)


@contextmanager
def running_client(version: str, home: Path) -> Iterator[Client]:
    """A client whose files are in a home of its own."""
    python = python_of(version)
    assert python is not None
    own = {"HOME": str(home), "WANDB_DIR": str(home), "WANDB_CONFIG_DIR": str(home), "WANDB_ERROR_REPORTING": "false"}
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("WANDB_", "PYTHON"))}
    with subprocess.Popen(
        [python, "-P", Path(__file__).with_name("calls.py")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env={**kept, **own, "WANDB_SILENT": "true"},
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            yield Client(process.stdin, process.stdout)
        finally:
            process.kill()
