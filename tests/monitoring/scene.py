"""Hookline's parts as production starts them, each with `/metrics`, beside a receiver that answers in every way."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from ipaddress import ip_network
from pathlib import Path
from types import MappingProxyType
from typing import Any

import httpx
from cryptography.fernet import Fernet
from redis import Redis

from shared.settings import Settings, load_settings
from shared.storage.maintenance.first_start import prepare
from tests.authority import TRUSTS_NOBODY
from tests.integration.processes import dispatcher_command, environment, start, stop, wait_until, worker_command
from tests.integration.receiver import Answer, Received, Receiver, receiving
from tests.servers import free_port, postgres_server, valkey_server

ADMIN_KEY = "hlk-" + "m" * 33 + "0123456789"
JOBS = {"api": "hookline-api", "pump": "hookline-dispatcher", "worker": "hookline-worker"}
ANSWERS = {"moved": 302, "refusing": 422, "gone": 410, "dying": 500, "broken": 503}
SILENT_SECONDS = 1.5
REACHABLE = "127.0.0.1/32"
"""Where workers may send; the API takes webhooks on all of 127.0.0.0/8, so that some are blocked."""


@dataclass
class Scene:
    """The running parts, by name."""

    settings: Settings
    folder: Path
    receiver: Receiver
    parts: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)
    settings_of: dict[str, Settings] = field(default_factory=dict)

    def start(
        self, name: str, *arguments: str, port: int | None = None, different: Mapping[str, Any] = MappingProxyType({})
    ) -> None:
        """Start a part that serves `/metrics` on `port` or a free one: an API, a pump or a worker, by its name.

        `different` are settings of its own.
        """
        metrics_port = 0 if name.startswith("api") else port or free_port()
        own = self.settings.model_copy(update={"metrics_port": metrics_port, **different})
        if name.startswith("worker"):
            own = own.model_copy(update={"allowed_networks": (ip_network(REACHABLE),)})
        self.settings_of[name] = own
        self.temporary(name).mkdir(exist_ok=True)
        command = ["env", f"TMPDIR={self.temporary(name)}", *_command(name), *arguments]
        self.parts[name] = start(command, own, self.folder / f"{name}.log")

    def temporary(self, name: str) -> Path:
        """The temporary directory of the part's host: each is as on one of its own."""
        return self.folder / f"tmp-{name}"

    def address(self, name: str) -> str:
        """Where a part serves `/metrics`."""
        own = self.settings_of[name]
        return f"127.0.0.1:{own.metrics_port or own.port}"

    def targets(self) -> dict[str, list[str]]:
        """What Prometheus is to scrape: addresses by job."""
        made: dict[str, list[str]] = {job: [] for job in JOBS.values()}
        for name in self.parts:
            made[JOBS[name.rstrip("0123456789")]].append(self.address(name))
        return made

    def exposition(self, name: str) -> str:
        """A part's `/metrics` in the text format; blank while it does not answer."""
        try:
            return httpx.get(f"http://{self.address(name)}/metrics", trust_env=False, verify=TRUSTS_NOBODY).text
        except httpx.TransportError:
            return ""

    def environment(self) -> dict[str, str]:
        """What an operator who runs commands has set."""
        return environment(self.settings)

    def api(self) -> httpx.Client:
        """A client of the API with the admin's key."""
        headers = {"Authorization": f"Bearer {ADMIN_KEY}"}
        return httpx.Client(
            base_url=self.settings.url, headers=headers, timeout=30, trust_env=False, verify=TRUSTS_NOBODY
        )

    def redis(self) -> Redis:
        """A client of the server with the streams."""
        return Redis.from_url(self.settings.stream_url)

    def await_answers(self) -> None:
        """Wait until every part serves `/metrics`, and every worker consumes."""
        for name in self.parts:
            shown = "hookline_workers" if name.startswith("worker") else "hookline_"
            wait_until(lambda name=name, shown=shown: shown in self.exposition(name), f"metrics of {name}", seconds=180)  # type: ignore[misc]

    def stop(self) -> None:
        """Stop every part: all are told to first, since each takes a while to end."""
        for part in self.parts.values():
            if part.poll() is None:
                part.terminate()
        for part in self.parts.values():
            stop(part)


def _command(name: str) -> list[str]:
    if name.startswith("worker"):
        return worker_command(f"{name}-{time.monotonic_ns()}")
    return dispatcher_command() if name.startswith("pump") else [sys.executable, "-m", "dispatcher.cli", "api"]


def _settings(folder: Path, database_url: str, valkey_url: str, **more: Any) -> Settings:
    port = free_port()
    return load_settings(
        data_dir=folder / "data",
        redis_url=valkey_url,
        broker_url=valkey_url.removesuffix("/0") + "/1",
        database_url=database_url,
        secret_keys=Fernet.generate_key().decode(),
        admin_api_key=ADMIN_KEY,
        api_key=ADMIN_KEY,
        allowed_networks="127.0.0.0/8",
        partitions=4,
        host="127.0.0.1",
        port=port,
        url=f"http://127.0.0.1:{port}",
        metrics_host="127.0.0.1",
        log_level="INFO",
        log_format="json",
        **more,
    )


def answer(request: Received) -> Answer:
    """What the receiver does with a request: its path says how."""
    way = request.path.strip("/")
    if way == "silent":
        time.sleep(SILENT_SECONDS)
    if way == "slow":
        time.sleep(1.1)
    if way == "flaky":
        return Answer(503 if request.headers["hookline-attempt"] == "1" else 200)
    return Answer(ANSWERS.get(way, 200))


@contextmanager
def scene(
    folder: Path, parts: Mapping[str, Sequence[str]], *, servers: tuple[str, str] | None = None, **settings: Any
) -> Iterator[Scene]:
    """Servers, a receiver and these parts with their arguments, all of them answering.

    `servers` are the addresses of PostgreSQL and Valkey where somebody else runs them.
    """
    with ExitStack() as stack:
        database_url, valkey_url = servers or (
            stack.enter_context(postgres_server()),
            stack.enter_context(valkey_server()),
        )
        receiver = stack.enter_context(receiving())
        receiver.answer = answer
        made = Scene(_settings(folder, database_url, valkey_url, **settings), folder, receiver)
        prepare(made.settings)
        stack.callback(made.stop)
        for name, arguments in parts.items():
            made.start(name, *arguments)
        made.await_answers()
        yield made
