"""The API on real servers, called as a client would: two entities, and a key for each role."""

from __future__ import annotations

import itertools
import shutil
from collections.abc import Iterator
from contextlib import AsyncExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest
from anyio.from_thread import BlockingPortal, start_blocking_portal
from fastapi import FastAPI
from sqlalchemy import make_url

from shared.settings import Settings, load_settings
from shared.storage.maintenance import first_start
from tests.integration.application import lent_application
from tests.integration.conftest import ADMIN_KEY, SECRET_KEY
from tests.servers import copied_database, drop_database

_numbers = itertools.count(1)


@dataclass
class Problem:
    """A refusal, as RFC 9457 has it."""

    status: int
    detail: str
    errors: list[dict[str, Any]]
    headers: httpx.Headers

    @property
    def locs(self) -> list[list[str | int]]:
        """The places of all faults."""
        return [error["loc"] for error in self.errors]


class Client:
    """A running application, called over ASGI from a test's own thread."""

    def __init__(self, app: FastAPI, portal: BlockingPortal, client: httpx.AsyncClient) -> None:
        self.app = app
        self._portal = portal
        self._client = client

    def request(self, method: str, path: str, **more: Any) -> httpx.Response:
        """One request."""
        return self._portal.call(partial(self._client.request, method, path, **more))


@contextmanager
def running(settings: Settings) -> Iterator[Client]:
    """The application on these settings, from start-up to shut-down."""
    with lent_application(settings) as app, _started(app) as client:
        yield client


@contextmanager
def _started(app: FastAPI) -> Iterator[Client]:
    stack = AsyncExitStack()

    async def start() -> httpx.AsyncClient:
        await stack.enter_async_context(app.router.lifespan_context(app))
        transport = httpx.ASGITransport(app, raise_app_exceptions=False)
        return await stack.enter_async_context(httpx.AsyncClient(transport=transport, base_url="http://hookline"))

    with start_blocking_portal() as portal:
        client = portal.call(start)
        try:
            yield Client(app, portal, client)
        finally:
            portal.call(stack.aclose)


@dataclass
class Api:
    """A client that holds answers to the contract as it goes."""

    client: Client
    keys: dict[str, str] = field(default_factory=lambda: {"root": ADMIN_KEY})
    answers: list[str] = field(default_factory=list)
    """Every body that was answered, to look for secrets in."""

    def send(self, method: str, path: str, body: object = None, *, key: str = "root", **more: Any) -> httpx.Response:
        """One request with the key of this name."""
        headers = {"Authorization": f"Bearer {self.keys[key]}"} | more.pop("headers", {})
        if body is not None:
            more["json"] = body
        response = self.client.request(method, path, headers=headers, **more)
        self.answers.append(response.text)
        return response

    def ok(self, method: str, path: str, body: object = None, *, key: str = "root", status: int = 200) -> Any:
        """The answer to a request that must go through with this status."""
        response = self.send(method, path, body, key=key)
        assert response.status_code == status, response.text
        return response.json() if response.content else None

    def refused(
        self, method: str, path: str, body: object = None, *, status: int, key: str = "root", **more: Any
    ) -> Problem:
        """The problem that a request must be refused with."""
        return problem_of(self.send(method, path, body, key=key, **more), status)

    def key(self, name: str, **of: Any) -> str:
        """Make a key and remember it under `name`."""
        self.keys[name] = self.ok("POST", "/v1/keys", {"name": name, **of}, status=201)["key"]
        return self.keys[name]


def problem_of(response: httpx.Response, status: int) -> Problem:
    """The problem document that a response must be."""
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/problem+json"
    body = response.json()
    assert body.keys() == {"type", "title", "status", "detail", "errors"}
    assert body["status"] == status
    assert body["type"].startswith("urn:hookline:problem:")
    assert body["detail"]
    return Problem(status, body["detail"], body["errors"], response.headers)


Keys = dict[str, dict[str, str]]
"""The keys' texts, by kind of database and name."""


@pytest.fixture(scope="session")
def keys_in_template() -> Keys:
    """The keys that each kind of template holds, once it was made."""
    return {}


@pytest.fixture(scope="session")
def sqlite_template(
    sqlite_template: Path,
    valkey_url: str,
    keys_in_template: Keys,
    tmp_path_factory: pytest.TempPathFactory,
) -> Path:
    """An SQLite file that also has entities and keys."""
    folder = tmp_path_factory.mktemp("api-template")
    path = Path(shutil.copy(sqlite_template, folder / "hookline.db"))
    keys_in_template["sqlite"] = _populate(f"sqlite:///{path}", valkey_url)
    return path


@pytest.fixture(scope="session")
def postgres_template(postgres_template: str, valkey_url: str, keys_in_template: Keys) -> Iterator[str]:
    """A PostgreSQL database that also has entities and keys."""
    url = copied_database(postgres_template)
    keys_in_template["postgresql"] = _populate(url, valkey_url)
    yield url
    drop_database(url)


def _populate(database_url: str, redis_url: str) -> dict[str, str]:
    settings = load_settings(
        database_url=database_url,
        redis_url=redis_url,
        broker_url=redis_url.removesuffix("/0") + "/1",
        secret_keys=SECRET_KEY,
        admin_api_key=ADMIN_KEY,
        partitions=4,
    )
    first_start.prepare(settings)
    with running(settings) as client:
        api = Api(client)
        for entity in ("acme", "other"):
            api.ok("PUT", f"/v1/entities/{entity}", {}, status=201)
        for role in ("admin", "member", "publisher"):
            api.key(role, entity="acme", role=role)
        api.key("outsider", entity="other", role="admin")
    return api.keys


@pytest.fixture
def api(settings: Settings, keys_in_template: Keys) -> Iterator[Api]:
    """The API with the entities `acme` and `other`, and keys: root, admin, member, publisher, outsider."""
    keys = keys_in_template[make_url(settings.database_url or "").get_backend_name()]
    with running(settings) as client:
        yield Api(client, dict(keys))


ACME = "/v1/entities/acme"

TOKEN = "tok-5e6f2b"
SIGNING = "whsec_c2lnbmluZy1rZXktb2YtMjQtYnl0ZXMh"
DEPLOY = 'dep"loy\\7c1d'
SECRETS = {"TOKEN": TOKEN, "SIGNING": SIGNING, "DEPLOY": DEPLOY}


def put_secrets(api: Api, entity: str = "acme") -> None:
    """Store the three secrets."""
    for name, value in SECRETS.items():
        api.ok("PUT", f"/v1/entities/{entity}/secrets/{name}", {"value": value}, status=201)


def webhook(name: str = "deploy-hook", **members: Any) -> dict[str, Any]:
    """A webhook's definition."""
    return {"name": name, "url": "https://hooks.example.com/deploy", **members}


def full_webhook(name: str = "deploy-hook", **members: Any) -> dict[str, Any]:
    """A webhook's definition that uses every secret."""
    return webhook(name, access_token="TOKEN", signing_secret="SIGNING", secrets=["DEPLOY"], **members)


def automation(name: str = "on-production", **members: Any) -> dict[str, Any]:
    """An automation's definition, on `deploy-hook`."""
    return {
        "name": name,
        "event": "ADD_ARTIFACT_ALIAS",
        "scope": {"project": "wandb-registry-model", "collection": "llm-models"},
        "filter": {"alias": {"$regex": "^prod"}},
        "action": {"webhook": "deploy-hook", "payload": {"by": "${event_author}"}},
        **members,
    }


def create_webhook(api: Api, definition: dict[str, Any] | None = None) -> Any:
    """Define a webhook in acme."""
    return api.ok("POST", f"{ACME}/webhooks", definition or webhook(), status=201)


def create_automation(api: Api, definition: dict[str, Any] | None = None) -> Any:
    """Define an automation in acme."""
    return api.ok("POST", f"{ACME}/automations", definition or automation(), status=201)


def event(event_id: str | None = None, *, entity: str = "acme", **data: Any) -> dict[str, Any]:
    """An ADD_ARTIFACT_ALIAS event."""
    return {
        "specversion": "1.0",
        "id": event_id or f"event-{next(_numbers)}",
        "source": "/test",
        "type": "ADD_ARTIFACT_ALIAS",
        "data": {
            "entity": entity,
            "project": "wandb-registry-model",
            "collection": {"name": "llm-models", "type": "model"},
            "artifact": {"id": "QXJ0aWZhY3Q6MQ==", "version": "v3"},
            "alias": "production",
        }
        | data,
    }
