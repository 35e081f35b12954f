"""PostgreSQL and Valkey on folders of their own, so that each can be killed and started again with its data."""

from __future__ import annotations

import subprocess
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Self
from urllib.parse import urlsplit

from redis import Redis
from redis.exceptions import RedisError

from tests.integration.processes import wait_until
from tests.servers import kill_postgres, kill_valkey, postgres_server, valkey_server

START_TRIES = 20


class Servers:
    """The two servers; used as a context manager, which stops them and deletes their data."""

    def __init__(self) -> None:
        self._all, self._postgres, self._valkey = ExitStack(), ExitStack(), ExitStack()
        self._postgres_url = self._valkey_url = ""

    def __enter__(self) -> Self:
        folder = tempfile.TemporaryDirectory(prefix="hookline-day-servers-")
        self._folder = Path(folder.name)
        self._folder.chmod(0o755)  # PostgreSQL runs as a user of its own where root starts it
        self._all.callback(folder.cleanup)
        self._all.push(self._postgres)
        self._all.push(self._valkey)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._all.__exit__(kind, exc, trace)

    def start_postgres(self) -> str:
        """Run PostgreSQL; its address. Starting is tried again while it recovers what a crash left."""
        for left in reversed(range(START_TRIES)):
            try:
                server = postgres_server(data_dir=self._folder / "postgres", durable=True)
                self._postgres_url = self._postgres.enter_context(server)
                break
            except (subprocess.SubprocessError, AssertionError):
                if not left:
                    raise
                time.sleep(1)
        return self._postgres_url

    def kill_postgres(self) -> None:
        """SIGKILL, with all its backends."""
        kill_postgres(self._postgres_url)
        self._postgres.close()

    def start_valkey(self) -> str:
        """Run Valkey, on the port that it had; its address."""
        port = urlsplit(self._valkey_url).port if self._valkey_url else None
        server = valkey_server(data_dir=self._folder, port=port, append_only=True)
        self._valkey_url = self._valkey.enter_context(server)
        with Redis.from_url(self._valkey_url) as redis:
            wait_until(lambda: _loaded(redis), "Valkey with its data")
        return self._valkey_url

    def kill_valkey(self) -> None:
        """SIGKILL."""
        kill_valkey(self._valkey_url)
        self._valkey.close()


def _loaded(redis: Redis) -> bool:
    try:
        return bool(redis.ping())
    except RedisError:
        return False
