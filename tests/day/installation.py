"""A whole installation that can be hurt: its parts, servers, traffic, and what a hurt does to them."""

from __future__ import annotations

import os
import resource
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import httpx
import psutil
from pydantic import SecretStr
from sqlalchemy import create_engine, text

from shared.health.presence import read_processes
from shared.messaging.stream_memory import SHARE_OF_LIMIT
from shared.settings import Settings
from tests.authority import TRUSTS_NOBODY
from tests.day.servers import Servers
from tests.day.traffic import STEADY_RATE, Traffic, define
from tests.integration.processes import ROOT, environment, stop, wait_until
from tests.integration.receiver import Receiver
from tests.monitoring.scene import ADMIN_KEY, Scene, scene
from tests.poolers import pgbouncer
from tests.servers import free_port

PARTS: dict[str, tuple[str, ...]] = {
    "api": (),
    "pump0": (),
    "worker0": ("-Q", "evaluate"),
    "worker1": ("-Q", "deliver,deliver_slow", "--pool", "prefork", "--concurrency", "1"),
}
BALLAST_BYTES = 64 << 20
"""What fills Redis: another program's data, which no trimming of streams takes away."""
TIGHTEN_SECONDS = 0.5
COMMAND_SECONDS = 120
START_SECONDS = 120.0


class Installation(Scene):
    """The running parts. Made by `installation`."""

    factor: float
    """How many times faster than in life the day passes."""
    traffic: Traffic
    servers: Servers

    def __init__(
        self, settings: Settings, folder: Path, receiver: Receiver, *, factor: float, servers: Servers
    ) -> None:
        super().__init__(settings, folder, receiver)
        self.factor = factor
        self.servers = servers
        self.traffic = Traffic(self)

    @property
    def busy_rate(self) -> float:
        """Events a second with which a backlog grows past its threshold within the time that its alert waits."""
        return STEADY_RATE * max(1.0, min(4.0, self.factor / 4))

    @staticmethod
    def has_pooler() -> bool:
        """Whether this machine has PgBouncer."""
        return bool(shutil.which("pgbouncer") or shutil.which("/usr/sbin/pgbouncer"))

    def rest(self, seconds: float) -> None:
        """Let this much time pass: a hurt needs it."""
        time.sleep(seconds)

    def end(self, name: str) -> None:
        """SIGTERM a part, and wait for its end."""
        stop(self.parts[name])

    def again(self, name: str, **different: Any) -> None:
        """Start a part on the port that it had."""
        port = self.settings_of[name].metrics_port or None
        self.start(name, *PARTS[name], port=port, different=different)

    def children(self, name: str) -> list[psutil.Process]:
        """The processes of a part's pool."""
        return psutil.Process(self.parts[name].pid).children()

    @contextmanager
    def frozen(self, *pids: int) -> Iterator[None]:
        """Processes that stand still meanwhile."""
        for pid in pids:
            os.kill(pid, signal.SIGSTOP)
        try:
            yield
        finally:
            for pid in pids:
                os.kill(pid, signal.SIGCONT)

    @contextmanager
    def limited_descriptors(self, pid: int) -> Iterator[None]:
        """A process that may open no more files meanwhile. What it closes is not given back to it."""
        before = resource.prlimit(pid, resource.RLIMIT_NOFILE)
        ending = threading.Event()

        def tighten() -> None:
            least = before[0]
            while not ending.wait(TIGHTEN_SECONDS):
                least = min(least, psutil.Process(pid).num_fds())
                resource.prlimit(pid, resource.RLIMIT_NOFILE, (least, before[1]))

        thread = threading.Thread(target=tighten, daemon=True)
        thread.start()
        try:
            yield
        finally:
            ending.set()
            thread.join()
            resource.prlimit(pid, resource.RLIMIT_NOFILE, before)

    def node(self, name: str) -> str:
        """A worker's name in Celery."""
        with self.redis() as redis:
            (found,) = (one.name for one in read_processes(redis) if one.pid == self.parts[name].pid)
        return found

    def celery(self, *arguments: str) -> None:
        """Run a command as an operator does. Raises CalledProcessError."""
        command = [sys.executable, "-m", "celery", "-A", "worker", *arguments]
        subprocess.run(
            command, cwd=ROOT, env=self.environment(), check=True, capture_output=True, timeout=COMMAND_SECONDS
        )

    def sql(self, statement: str, **values: Any) -> None:
        """Change something behind Hookline's back."""
        engine = create_engine(self.settings.sqlalchemy_url)
        with engine.begin() as connection:
            connection.execute(text(statement), values)
        engine.dispose()

    def pass_time(self, table: str, column: str, window_seconds: float) -> None:
        """Make rows older, so that what counts as recent for `window_seconds` does for `factor` times less.

        Only the dispatcher knows that window. Where the day passes as in life, nothing is changed.
        """
        passed = window_seconds * (1 - 1 / self.factor)
        self.sql(f"UPDATE {table} SET {column} = {column} - make_interval(secs => :passed)", passed=passed)

    @contextmanager
    def redis_set(self, **options: str) -> Iterator[None]:
        """Redis with other options meanwhile."""
        with self.redis() as redis:
            before: Any = {name: redis.config_get(name) for name in options}
            for name, value in options.items():
                redis.config_set(name, value)
            try:
                yield
            finally:
                for name, told in before.items():
                    redis.config_set(name, told[name])

    @contextmanager
    def filled(self, share: float) -> Iterator[None]:
        """Redis with this share of the memory in use above which events are refused."""
        with self.redis() as redis:
            redis.setrange("another-program", BALLAST_BYTES, "x")
            used: Any = redis.info("memory")
            limit = int(used["used_memory"] / share / SHARE_OF_LIMIT)
            try:
                with self.redis_set(maxmemory=str(limit)):
                    yield
            finally:
                redis.delete("another-program")

    @contextmanager
    def pooler(self) -> Iterator[str]:
        """PgBouncer in transaction mode before the database; the database's address through it."""
        with pgbouncer(self.settings.sqlalchemy_url, pool_mode="transaction") as url:
            yield url

    @contextmanager
    def without_database(self) -> Iterator[None]:
        """PostgreSQL killed, and started again with its data."""
        self.servers.kill_postgres()
        yield
        self.servers.start_postgres()

    @contextmanager
    def without_redis(self) -> Iterator[None]:
        """Redis killed, with the streams and the broker, and started again with its data."""
        self.servers.kill_valkey()
        yield
        self.servers.start_valkey()

    @contextmanager
    def another_api(self, **different: Any) -> Iterator[httpx.Client]:
        """An API with other settings, for a while; Prometheus knows nothing of it."""
        port = free_port()
        url = f"http://127.0.0.1:{port}"
        if "secret_keys" in different:
            different["secret_keys"] = SecretStr(different["secret_keys"])
        own = self.settings.model_copy(update={"port": port, "url": url, "metrics_port": 0, **different})
        command = [sys.executable, "-m", "dispatcher.cli", "api"]
        with (self.folder / "another-api.log").open("ab") as log:
            process = subprocess.Popen(command, cwd=ROOT, env=environment(own), stdout=log, stderr=subprocess.STDOUT)
        try:
            headers = {"Authorization": f"Bearer {ADMIN_KEY}"}
            with httpx.Client(
                base_url=url, headers=headers, timeout=30, trust_env=False, verify=TRUSTS_NOBODY
            ) as client:
                answered = lambda: process.poll() is not None or _answers(client)  # noqa: E731
                wait_until(answered, "answer of another API", seconds=START_SECONDS)
                yield client
        finally:
            stop(process)


def _answers(client: httpx.Client) -> bool:
    try:
        return client.get("/healthz").is_success
    except httpx.TransportError:
        return False


@contextmanager
def installation(folder: Path, factor: float) -> Iterator[Installation]:
    """The parts, all of them answering, with webhooks defined and traffic under way."""
    with ExitStack() as stack:
        servers = stack.enter_context(Servers())
        urls = servers.start_postgres(), servers.start_valkey()
        made = stack.enter_context(scene(folder, PARTS, servers=urls))
        day = Installation(made.settings, folder, made.receiver, factor=factor, servers=servers)
        # The scene stops what is in these.
        day.parts, day.settings_of = made.parts, made.settings_of
        day.receiver.answer = day.traffic.answer
        define(day)
        stack.callback(day.traffic.stop)
        day.traffic.start(STEADY_RATE)
        yield day
