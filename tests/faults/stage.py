"""A whole Hookline as production runs it, part by part, on servers that can be killed and come back with their data."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
from cryptography.fernet import Fernet
from redis import Redis
from redis.exceptions import RedisError
from sqlalchemy import Engine
from sqlalchemy.exc import SQLAlchemyError

from shared.settings import Settings, load_settings
from shared.storage.database.engine import open_engine
from tests.authority import TRUSTS_NOBODY
from tests.faults import disk
from tests.faults.load import project_name
from tests.faults.receiver import Receiver, receiving
from tests.integration.processes import ROOT, dispatcher_command, environment, stop, wait_until, worker_command
from tests.servers import free_port, kill_postgres, kill_valkey, postgres_server, valkey_server

ADMIN_KEY = "hlk-" + "d" * 33 + "0123456789"
CLOCK = Path(__file__).parent / "clock"
DISK_MIB = 400
START_TRIES = 6
DEFINED_AT_A_TIME = 200
TIMEOUT_SECONDS = 3
START_SECONDS = 180.0
CAN_BE_STEPPED = ("worker", "pump")


@dataclass(frozen=True, slots=True)
class Release:
    """The code that parts run: this tree, or a checkout of an earlier release, by its own `.venv` if it has one."""

    folder: Path = ROOT

    def command(self, *arguments: str) -> list[str]:
        """A Python of this release."""
        own = self.folder / ".venv/bin/python"
        return [str(own) if own.exists() else sys.executable, *arguments]


@dataclass
class Stage:
    """The running parts, by name."""

    settings: Settings
    folder: Path
    receiver: Receiver
    servers: dict[str, ExitStack]
    release: Release = Release()
    """What is started from now on."""
    parts: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    def start(self, name: str) -> None:
        """Start a part; workers and pumps go by a clock that can be stepped."""
        own = environment(self.settings)
        if name.startswith(CAN_BE_STEPPED):
            own |= {"PYTHONPATH": str(CLOCK), "DRILL_CLOCK_FILE": str(self._clock(name))}
        with (self.folder / f"{name}.log").open("ab") as log, self.place(name):
            self.parts[name] = subprocess.Popen(
                self._command(name), cwd=self.release.folder, env=own, stdout=log, stderr=subprocess.STDOUT
            )

    def _command(self, name: str) -> list[str]:
        """How a part is started in production."""
        if name.startswith("worker"):
            return self.release.command(*worker_command(f"{name}-{time.monotonic_ns()}")[1:])
        if name.startswith("pump"):
            return self.release.command(*dispatcher_command()[1:])
        return self.release.command("-m", "dispatcher.cli", "api")

    def init(self) -> subprocess.Popen[bytes]:
        """Run `hookline init`, as each deployment does."""
        command = self.release.command("-m", "dispatcher.cli", "init")
        own = environment(self.settings)
        return subprocess.Popen(command, cwd=self.release.folder, env=own, stdout=subprocess.DEVNULL)

    def place(self, name: str) -> AbstractContextManager[None]:
        """Where a part is started: here."""
        return nullcontext()

    def named(self, kind: str) -> list[str]:
        """The parts of a kind."""
        return [name for name in self.parts if name.startswith(kind)]

    def kill(self, name: str) -> None:
        """kill -9 a part and start it again."""
        self.parts[name].kill()
        self.parts[name].wait()
        self.start(name)

    def roll(self, name: str) -> None:
        """SIGTERM a part, wait for its end and start it again, as a deployment does."""
        self.parts[name].terminate()
        stop(self.parts[name])
        self.start(name)
        if name == "api":
            wait_until(lambda: ready(self.settings.url), "answer of the API", seconds=START_SECONDS)

    def freeze(self, name: str, *, seconds: float) -> None:
        """Stop a part in its tracks, past its leases, and let it go on as if nothing had been."""
        os.kill(self.parts[name].pid, signal.SIGSTOP)
        time.sleep(seconds)
        os.kill(self.parts[name].pid, signal.SIGCONT)

    def step_clock(self, name: str, seconds: float) -> None:
        """Set a part's wall clock this far from the true time."""
        aside = self._clock(name).with_suffix(".new")
        aside.write_text(str(seconds))
        aside.rename(self._clock(name))

    def _clock(self, name: str) -> Path:
        return self.folder / f"{name}.clock"

    def restart_valkey(self, *, kill: bool) -> None:
        """Stop Valkey, in order or by kill -9, and start it again on its append-only file."""
        if kill:
            kill_valkey(self.settings.stream_url)
        self.servers["valkey"].close()
        self.serve_valkey()

    def serve_valkey(self) -> None:
        """Run Valkey on its folder and port."""
        port = int(self.settings.stream_url.rpartition(":")[2].partition("/")[0])
        self.servers["valkey"].enter_context(
            valkey_server(data_dir=self.folder / "valkey", port=port, append_only=True)
        )
        with Redis.from_url(self.settings.stream_url) as redis:
            wait_until(lambda: _loaded(redis), "Valkey with its data")

    def restart_postgres(self, *, kill: bool) -> None:
        """Stop PostgreSQL, in order or by kill -9 with all its backends, and start it again on its data."""
        if kill:
            kill_postgres(self.settings.sqlalchemy_url)
        self.servers["postgres"].close()
        self.serve_postgres()

    def serve_postgres(self) -> str:
        """Run PostgreSQL on its folder. Starting is tried again while it recovers what a crash left."""
        data = self.folder / "postgres" / "data"
        for left in reversed(range(START_TRIES)):
            try:
                return self.servers["postgres"].enter_context(postgres_server(data_dir=data, durable=True))
            except (subprocess.SubprocessError, AssertionError):
                if not left:
                    raise
                time.sleep(1)
        raise AssertionError("the last try returns or raises")

    def fill_disk(self, *, seconds: float) -> None:
        """Fill the disk of the database for a while; what that made of the server is mended as an operator would."""
        place = self.folder / "postgres"
        disk.fill(place)
        time.sleep(seconds)
        disk.empty(place)
        if not self._database_answers():
            self.servers["postgres"].close()
            self.serve_postgres()

    def _database_answers(self) -> bool:
        """Whether it does within the time that recovering from a crash of its own takes."""
        engine = open_engine(self.settings)
        try:
            wait_until(lambda: selects(engine), "answer of PostgreSQL", seconds=5)
        except AssertionError:
            return False
        finally:
            engine.dispose()
        return True

    def wipe_broker(self) -> None:
        """Lose every Celery message, binding and queue."""
        with Redis.from_url(self.settings.celery_broker_url) as broker:
            broker.flushdb()

    def stop(self) -> None:
        """Stop every part: all are told to first, since each takes a while to end."""
        for part in self.parts.values():
            if part.poll() is None:
                part.terminate()
        for part in self.parts.values():
            stop(part)


def end_in_order() -> None:
    """Let SIGTERM end this program as an error does, so that no server and no part outlives it."""
    signal.signal(signal.SIGTERM, lambda number, _frame: sys.exit(128 + number))


def attempted(action: Callable[[], object], *errors: type[Exception]) -> bool:
    """Whether an action goes through."""
    try:
        action()
    except errors:
        return False
    return True


def _loaded(redis: Redis) -> bool:
    return attempted(redis.ping, RedisError)


def selects(engine: Engine) -> bool:
    """Whether the database answers."""

    def ask() -> None:
        with engine.connect() as connection:
            connection.exec_driver_sql("SELECT 1")

    return attempted(ask, SQLAlchemyError)


def ready(url: str) -> bool:
    """Whether the API and what it stands on serve."""
    try:
        return httpx.get(f"{url}/readyz", trust_env=False, verify=TRUSTS_NOBODY).is_success
    except httpx.TransportError:
        return False


def stage_settings(folder: Path, *, database_url: str, **more: Any) -> Settings:
    """What the parts of a stage are given; `more` has precedence."""
    valkey, api = free_port(), free_port()
    own: dict[str, Any] = {
        "data_dir": folder / "data",
        "redis_url": f"redis://127.0.0.1:{valkey}/0",
        "broker_url": f"redis://127.0.0.1:{valkey}/1",
        "database_url": database_url,
        "secret_keys": Fernet.generate_key().decode(),
        "admin_api_key": ADMIN_KEY,
        "allowed_networks": "127.0.0.0/8",
        "host": "127.0.0.1",
        "port": api,
        "url": f"http://127.0.0.1:{api}",
        "log_level": "WARNING",
        "lease_margin": "3s",
    }
    return load_settings(**(own | more))


@contextmanager
def stage(
    folder: Path,
    *,
    pumps: int = 1,
    on_small_disk: bool = False,
    release: Release | None = None,
    webhooks: int = 1,
    **settings: Any,
) -> Iterator[Stage]:
    """Servers, API, pumps and two workers, with webhooks and automations of which every event fires one.

    Args:
        release: what runs there; this tree when None.
        webhooks: how many there are, each for a project of its own.
    """
    folder.chmod(0o755)
    (folder / "postgres").mkdir()
    (folder / "valkey").mkdir()
    with ExitStack() as stack:
        if on_small_disk:
            stack.enter_context(disk.small_disk(folder / "postgres", size_mib=DISK_MIB))
        servers = {name: stack.enter_context(ExitStack()) for name in ("postgres", "valkey")}
        url = servers["postgres"].enter_context(postgres_server(data_dir=folder / "postgres" / "data", durable=True))
        receiver = stack.enter_context(receiving())
        own = stage_settings(folder, database_url=url, **settings)
        scene = Stage(own, folder, receiver, servers, release or Release())
        scene.serve_valkey()
        assert scene.init().wait(START_SECONDS) == 0
        stack.callback(scene.stop)
        parts = ("api", *(f"pump{number}" for number in range(pumps)), "worker0", "worker1")
        start_parts(scene, parts, webhooks=webhooks)
        yield scene


def start_parts(scene: Stage, names: Iterable[str], *, webhooks: int = 1) -> None:
    """Start parts, the API among them, and define webhooks and automations of which every event fires one."""
    for name in names:
        scene.start(name)
    wait_until(lambda: ready(scene.settings.url), "answer of the API", seconds=START_SECONDS)
    policy = {"timeout_seconds": TIMEOUT_SECONDS, "schedule_seconds": [1, 1, 2, 5, 5]}
    with httpx.Client(base_url=scene.settings.url, headers={"Authorization": f"Bearer {ADMIN_KEY}"}, timeout=60) as api:
        api.put("/v1/entities/acme", json={}).raise_for_status()
        if webhooks > DEFINED_AT_A_TIME:
            quotas = {"webhooks": 2 * webhooks, "automations": 2 * webhooks}
            api.patch("/v1/entities/acme", json={"quotas": quotas}).raise_for_status()
        for start in range(0, webhooks, DEFINED_AT_A_TIME):
            numbers = range(start, min(start + DEFINED_AT_A_TIME, webhooks))
            hooks = [{"name": f"hook-{number}", "url": scene.receiver.url, "policy": policy} for number in numbers]
            manifest = {"webhooks": hooks, "automations": [_automation(number) for number in numbers]}
            api.post("/v1/entities/acme/apply", json=manifest).raise_for_status()


def _automation(number: int) -> dict[str, Any]:
    return {
        "name": f"every-alias-{number}",
        "event": "ADD_ARTIFACT_ALIAS",
        "scope": {"project": project_name(number)},
        "action": {"webhook": f"hook-{number}", "payload": {"event": "$event_id"}},
    }
