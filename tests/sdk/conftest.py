"""The real `wandb` client against a running API: SQLite, Valkey, a receiver, and drains worked in this process."""

from __future__ import annotations

import itertools
import os
import shutil
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest
import uvicorn
from cryptography.fernet import Fernet
from fastapi import FastAPI
from redis import Redis

from shared.messaging.celery_app import celery_app
from shared.settings import Settings, load_settings
from shared.storage.database.transactions import read_transaction
from shared.storage.delivery.backlog import due_webhooks
from shared.storage.maintenance import first_start
from tests.integration.application import lent_application
from tests.integration.conftest import ADMIN_KEY, sqlite_template, valkey_url
from tests.integration.processes import wait_until
from tests.integration.receiver import Receiver, receiving
from worker.bootstrap import WorkerProcess, build_process

__all__ = ["sqlite_template", "valkey_url"]

_numbers = itertools.count(1)
TOKEN = "tok-5e6f2b"
SIGNING = "whsec_c2lnbmluZy1rZXktb2YtMjQtYnl0ZXMh"


@pytest.fixture(scope="session", autouse=True)
def wandb_home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A home of the client's own: it writes settings, logs and a port file, and must find no key of a person."""
    home = tmp_path_factory.mktemp("wandb-home")
    own = {"HOME": str(home), "WANDB_DIR": str(home), "WANDB_CONFIG_DIR": str(home), "WANDB_ERROR_REPORTING": "false"}
    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.startswith("WANDB_")]:
            patch.delenv(name)
        for name, value in own.items():
            patch.setenv(name, value)
        yield


@contextmanager
def serving(settings: Settings, port: int = 0) -> Iterator[str]:
    """The API on a port of its own or a given one, in a thread; gives its URL."""
    with lent_application(settings) as app, _served(app, port) as url:
        yield url


@contextmanager
def _served(app: FastAPI, port: int) -> Iterator[str]:
    server = uvicorn.Server(uvicorn.Config(app, host="127.0.0.1", port=port, log_level="warning", lifespan="on"))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    wait_until(lambda: server.started or not thread.is_alive(), "API")
    try:
        port = server.servers[0].sockets[0].getsockname()[1]
        yield f"http://127.0.0.1:{port}"
    finally:
        server.should_exit = True
        thread.join()


@dataclass
class Hookline:
    """A running Hookline: REST with the keys of several people, the client with any of them, and the drains."""

    url: str
    settings: Settings
    process: WorkerProcess
    receiver: Receiver
    keys: dict[str, str] = field(default_factory=lambda: {"root": ADMIN_KEY})

    def rest(self, method: str, path: str, body: object = None, *, key: str = "root", status: int = 200) -> Any:
        """The answer of a REST request that must go through with this status."""
        headers = {"Authorization": f"Bearer {self.keys[key]}"}
        response = httpx.request(method, f"{self.url}{path}", json=body, headers=headers, timeout=60)
        assert response.status_code == status, response.text
        return response.json() if response.content else None

    def key(self, name: str, **of: Any) -> None:
        """Make a key and remember it under `name`."""
        self.keys[name] = self.rest("POST", "/v1/keys", {"name": name, **of}, status=201)["key"]

    def graphql(self, query: str, variables: dict[str, Any] | None = None, *, key: str = "admin") -> httpx.Response:
        """A document sent as the client sends it."""
        body = {"query": query, "variables": variables or {}, "operationName": ""}
        return httpx.post(f"{self.url}/graphql", json=body, auth=("api", self.keys[key]), timeout=60)

    def client(self, key: str = "admin", *, entity: str | None = None) -> Any:
        """The real client with somebody's key."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # whatever the client's own imports warn of
            import wandb
        overrides = {"base_url": self.url} | ({} if entity is None else {"entity": entity})
        return wandb.Api(overrides=overrides, api_key=self.keys[key])

    def webhook(self, name: str, *, entity: str = "acme", **members: Any) -> str:
        """Define a webhook on the receiver that answers under its name; gives its id."""
        body = {"name": name, "url": f"{self.receiver.url}/{name}", "policy": {"schedule_seconds": []}, **members}
        webhook_id: str = self.rest("POST", f"/v1/entities/{entity}/webhooks", body, status=201)["id"]
        return webhook_id

    def secret(self, name: str, value: str, *, entity: str = "acme") -> None:
        """Store a secret."""
        self.rest("PUT", f"/v1/entities/{entity}/secrets/{name}", {"value": value}, status=201)

    def collection(self, project: str, name: str, *, entity: str = "acme", type_: str = "model") -> None:
        """Register a collection and its project."""
        path = f"/v1/entities/{entity}/projects/{project}"
        self.rest("PUT", path, {})
        self.rest("PUT", f"{path}/collections/{name}", {"type": type_})

    def publish(self, *events: dict[str, Any]) -> None:
        """Publish events and work everything that follows from them."""
        self.rest("POST", "/v1/events", list(events), status=202)
        self.work()

    def work(self) -> None:
        """Work what the streams have, and everything that follows from it."""
        for partition in range(self.settings.partitions):
            self.process.partitions.drain(partition)
        while due := self._due():
            for webhook_id in due:
                self.process.webhooks.drain(webhook_id)

    def _due(self) -> list[int]:
        with read_transaction(self.process.engine) as connection:
            return [one.id for one in due_webhooks(connection, datetime.now(UTC))]


def event(type_: str, *, entity: str = "acme", project: str = "wandb-registry-model", **data: Any) -> dict[str, Any]:
    """An event of alice's; one about an artifact or a run as the type demands, unless the data says otherwise."""
    number = next(_numbers)
    common: dict[str, Any] = {"entity": entity, "project": project, "author": "alice"}
    if type_.startswith("RUN_"):
        common["run"] = {"id": "r1", "name": "brave-fox-1"}
    else:
        common["collection"] = {"name": "llm-models", "type": "model"}
    if "ARTIFACT" in type_:
        common["artifact"] = {"id": f"QXJ0aWZhY3Q6{number}", "version": "v3", "metadata": {"model_type": "llm"}}
    return {
        "specversion": "1.0",
        "id": f"event-{number}",
        "source": "/test",
        "type": type_,
        "time": "2026-11-23T09:00:00Z",
        "data": {**common, **data},
    }


def _settings(database: Path, valkey_url: str, data_dir: Path) -> Settings:
    return load_settings(
        data_dir=data_dir,
        redis_url=valkey_url,
        broker_url=valkey_url.removesuffix("/0") + "/1",
        database_url=f"sqlite:///{database}",
        secret_keys=Fernet.generate_key().decode(),
        admin_api_key=ADMIN_KEY,
        allowed_networks="127.0.0.0/8",
        partitions=4,
        reload_interval="0s",
    )


@contextmanager
def open_hookline(settings: Settings) -> Iterator[Hookline]:
    process = build_process(settings, celery_app(settings))
    try:
        with receiving() as receiver, serving(settings) as url:
            yield Hookline(url, settings, process, receiver)
    finally:
        process.close()


@dataclass(frozen=True, slots=True)
class Populated:
    """An SQLite file with entities and keys, to be copied for each test, and the keys' texts by name."""

    path: Path
    keys: dict[str, str]


@pytest.fixture(scope="session")
def populated(sqlite_template: Path, valkey_url: str, tmp_path_factory: pytest.TempPathFactory) -> Populated:
    """The organization `corp`, its team `acme`, a stranger `other`, and a key in each role."""
    folder = tmp_path_factory.mktemp("sdk-template")
    path = Path(shutil.copy(sqlite_template, folder / "hookline.db"))
    settings = _settings(path, valkey_url, folder)
    first_start.prepare(settings)
    with open_hookline(settings) as running:
        running.rest("PUT", "/v1/entities/corp", {"kind": "organization"}, status=201)
        running.rest("PUT", "/v1/entities/acme", {"parent": "corp"}, status=201)
        running.rest("PUT", "/v1/entities/other", {}, status=201)
        roles = [{"entity": "corp", "role": "admin"}, {"entity": "acme", "role": "admin"}]
        running.rest("POST", "/v1/users", {"name": "alice", "roles": roles}, status=201)
        running.key("admin", user="alice")
        running.key("outsider", entity="other", role="admin")
        running.key("member", entity="acme", role="member")
        running.key("publisher", entity="acme", role="publisher")
    return Populated(path, running.keys)


@pytest.fixture
def settings(populated: Populated, valkey_url: str, tmp_path: Path) -> Settings:
    """Settings on a populated SQLite database of the test's own and an emptied Valkey."""
    with Redis.from_url(valkey_url) as redis:
        redis.flushall()
    return _settings(Path(shutil.copy(populated.path, tmp_path / "hookline.db")), valkey_url, tmp_path / "data")


@pytest.fixture
def hookline(settings: Settings, populated: Populated) -> Iterator[Hookline]:
    """Hookline with the organization `corp`, its team `acme`, a stranger `other`, and a key in each role."""
    with open_hookline(settings) as running:
        running.keys |= populated.keys
        yield running
