"""A whole Hookline as production runs it, part by part, on servers that can be killed and come back with their data."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
from cryptography.fernet import Fernet
from redis import Redis
from sqlalchemy import Engine, text

from shared.settings import Settings, load_settings
from shared.storage.bootstrap import prepare
from shared.storage.engine import open_engine
from tests.integration.processes import dispatcher_command, start, stop, wait_until, worker_command
from tests.integration.receiver import Answer, Received, Receiver, receiving
from tests.servers import free_port, kill_postgres, kill_valkey, postgres_server, valkey_server

ADMIN_KEY = "hlk-" + "d" * 43
BATCH = 50
EVENTS_PER_SECOND = 600  # so that the load lasts while parts are hurt


@dataclass
class Arrivals:
    """What the receiver saw: for each event the times, and under which webhook-ids."""

    lock: threading.Lock = field(default_factory=threading.Lock)
    times: dict[str, list[float]] = field(default_factory=dict)
    ids: dict[str, set[str]] = field(default_factory=dict)

    def take(self, request: Received) -> Answer:
        """Note a request."""
        event_id = request.json["event"]
        with self.lock:
            self.times.setdefault(event_id, []).append(time.monotonic())
            self.ids.setdefault(event_id, set()).add(request.headers["webhook-id"])
        return Answer()


@dataclass
class Stage:
    """The running parts, by name."""

    settings: Settings
    folder: Path
    receiver: Receiver
    arrivals: Arrivals
    servers: dict[str, ExitStack]
    parts: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    def command(self, name: str) -> list[str]:
        """How a part is started."""
        if name.startswith("worker"):
            return worker_command(f"{name}-{time.monotonic_ns()}")
        if name.startswith("pump"):
            return dispatcher_command()
        return [sys.executable, "-m", "dispatcher.cli", "api"]

    def start(self, name: str) -> None:
        """Start a part."""
        self.parts[name] = start(self.command(name), self.settings, self.folder / f"{name}.log")

    def kill(self, name: str) -> None:
        """kill -9 a part and start it again."""
        self.parts[name].kill()
        self.parts[name].wait()
        self.start(name)

    def freeze(self, name: str, *, seconds: float) -> None:
        """Stop a part in its tracks, past its leases, and let it go on as if nothing had been."""
        os.kill(self.parts[name].pid, signal.SIGSTOP)
        time.sleep(seconds)
        os.kill(self.parts[name].pid, signal.SIGCONT)

    def kill_valkey(self) -> None:
        """kill -9 Valkey and start it again on its append-only file."""
        kill_valkey(self.settings.stream_url)
        self.servers["valkey"].close()
        self.serve_valkey()

    def serve_valkey(self) -> None:
        """Run Valkey on its folder and port."""
        port = int(self.settings.stream_url.rpartition(":")[2].partition("/")[0])
        self.servers["valkey"].enter_context(
            valkey_server(data_dir=self.folder / "valkey", port=port, append_only=True)
        )

    def kill_postgres(self) -> None:
        """kill -9 PostgreSQL with all its backends and start it again on its data."""
        kill_postgres(self.settings.sqlalchemy_url)
        self.servers["postgres"].close()
        self.servers["postgres"].enter_context(
            postgres_server(data_dir=self.folder / "postgres" / "data", durable=True)
        )

    def wipe_broker(self) -> None:
        """Lose every Celery message, binding and queue."""
        with Redis.from_url(self.settings.celery_broker_url) as broker:
            broker.flushdb()

    def publish(self, first: int, count: int) -> dict[str, float]:
        """POST events, each batch again until it is accepted; when each was accepted."""
        accepted: dict[str, float] = {}
        with httpx.Client(base_url=self.settings.url, headers={"Authorization": f"Bearer {ADMIN_KEY}"}) as api:
            for at in range(first, first + count, BATCH):
                events = [_event(number) for number in range(at, min(at + BATCH, first + count))]
                while not _accepted(api, events):
                    time.sleep(0.1)
                accepted |= {event["id"]: time.monotonic() for event in events}
                time.sleep(BATCH / EVENTS_PER_SECOND)
        return accepted

    def stop(self) -> None:
        """Stop every part."""
        for part in self.parts.values():
            stop(part)

    def finished(self, engine: Engine, count: int) -> bool:
        """Whether this many deliveries were recorded as delivered."""
        with engine.connect() as connection:
            done = connection.execute(text("SELECT count(*) FROM deliveries WHERE status = 'delivered'")).scalar_one()
        return bool(done >= count)


def _accepted(api: httpx.Client, events: list[Any]) -> bool:
    try:
        answer = api.post("/v1/events", json=events, timeout=15)
    except httpx.TransportError:
        return False
    if answer.status_code in (500, 503):
        return False
    answer.raise_for_status()
    return True


def _event(number: int) -> dict[str, Any]:
    return {
        "specversion": "1.0",
        "id": f"event-{number}",
        "source": "/drill",
        "type": "ADD_ARTIFACT_ALIAS",
        "data": {
            "entity": "acme",
            "project": "models",
            "collection": {"name": f"c{number % 97}", "type": "model"},
            "artifact": {"id": f"a{number}", "version": "v1"},
            "alias": "prod",
        },
    }


def _settings(folder: Path, database_url: str) -> Settings:
    valkey, api = free_port(), free_port()
    return load_settings(
        data_dir=folder / "data",
        redis_url=f"redis://127.0.0.1:{valkey}/0",
        broker_url=f"redis://127.0.0.1:{valkey}/1",
        database_url=database_url,
        secret_keys=Fernet.generate_key().decode(),
        admin_api_key=ADMIN_KEY,
        allowed_networks="127.0.0.0/8",
        host="127.0.0.1",
        port=api,
        url=f"http://127.0.0.1:{api}",
        lease_margin="3s",
        log_level="WARNING",
    )


@contextmanager
def stage(folder: Path, *, pumps: int = 1) -> Iterator[Stage]:
    """Servers, API, pumps and two workers, with one webhook and one automation that every event fires."""
    folder.chmod(0o755)
    (folder / "postgres").mkdir()
    (folder / "valkey").mkdir()
    with ExitStack() as stack:
        servers = {name: stack.enter_context(ExitStack()) for name in ("postgres", "valkey")}
        url = servers["postgres"].enter_context(postgres_server(data_dir=folder / "postgres" / "data", durable=True))
        receiver = stack.enter_context(receiving())
        arrivals = Arrivals()
        receiver.answer = arrivals.take
        scene = Stage(_settings(folder, url), folder, receiver, arrivals, servers)
        scene.serve_valkey()
        prepare(scene.settings)
        stack.callback(scene.stop)
        for name in ("api", *(f"pump{number}" for number in range(pumps)), "worker0", "worker1"):
            scene.start(name)
        wait_until(lambda: _ready(scene.settings.url), "answer of the API")
        _define(scene)
        yield scene


def _ready(url: str) -> bool:
    try:
        return httpx.get(f"{url}/readyz").is_success
    except httpx.TransportError:
        return False


def _define(scene: Stage) -> None:
    webhook = {
        "name": "hook",
        "url": scene.receiver.url,
        "policy": {"timeout_seconds": 3, "schedule_seconds": [1, 1, 2, 5, 5]},
    }
    action = {"webhook": "hook", "payload": {"event": "$event_id"}}
    with httpx.Client(base_url=scene.settings.url, headers={"Authorization": f"Bearer {ADMIN_KEY}"}) as api:
        api.put("/v1/entities/acme", json={}).raise_for_status()
        api.post("/v1/entities/acme/webhooks", json=webhook).raise_for_status()
        automation = {"name": "every-alias", "event": "ADD_ARTIFACT_ALIAS", "action": action}
        api.post("/v1/entities/acme/automations", json=automation).raise_for_status()


def engine_of(scene: Stage) -> Engine:
    """An engine to count with."""
    return open_engine(scene.settings)
