"""An API in process that has something of each kind, and has it again before each request that is generated.

On SQLite alone, since what is tested is the surface. No request leaves the machine: no name resolves.
"""

from __future__ import annotations

import os
import shutil
import socket
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
from redis import Redis
from requests import Request
from schemathesis import Case

from shared.http import dns
from shared.settings import load_settings
from shared.storage.database.engine import open_engine
from shared.storage.database.transactions import read_transaction
from shared.storage.definitions.entities import find_entity
from shared.storage.maintenance import first_start
from tests.authority import Authority
from tests.integration.api.conftest import (
    ACME,
    Api,
    automation,
    create_automation,
    create_webhook,
    event,
    running,
    webhook,
)
from tests.integration.api.test_deliveries import History
from tests.integration.conftest import ADMIN_KEY, SECRET_KEY
from tests.servers import free_port

EXAMPLES = int(os.environ.get("FUZZ_EXAMPLES", "0"))
"""How many requests are made of each operation in a long run; 0 for a short one that is always the same."""
UNUSED_WEBHOOK = "wh_3"
WATCHING = "aut_2"
EVENT = "an-event"
"""The id of an event that the streams have."""
WEBHOOK, AUTOMATION, SLACK, SOURCE, KEY, USER = "wh_1", "aut_1", "slk_2", "src_1", "key_2", "usr_2"
SECRETS = ("DEPLOY_TOKEN", "SIGNING_SECRET", "UNUSED")


@dataclass
class Surface:
    """The API, and the database that it begins with."""

    api: Api
    delivery_id: str
    _live: Path
    _pristine: sqlite3.Connection
    _touched: bool = True

    def restore(self) -> None:
        """Make the database what it was in the beginning, where a request may have changed it."""
        if not self._touched:
            return
        self._touched = False
        with closing(sqlite3.connect(self._live)) as live:
            self._pristine.backup(live)

    def touch(self, method: str) -> None:
        """A request of this method is about to be made."""
        self._touched |= method not in ("GET", "HEAD", "OPTIONS")

    def send(self, case: Case[Any]) -> httpx.Response:
        """One generated request, with the key that may do everything."""
        case.headers["Authorization"] = f"Bearer {ADMIN_KEY}"
        arguments: dict[str, Any] = case.as_transport_kwargs(base_url="http://hookline")
        arguments.pop("verify", None)
        request = Request(**arguments).prepare()
        self.touch(str(request.method))
        return self.api.client.request(
            str(request.method), str(request.url), headers=dict(request.headers), content=request.body
        )


def _unresolved(*_args: object) -> list[Any]:
    raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")


@contextmanager
def surface(template: Path, valkey_url: str, folder: Path) -> Iterator[Surface]:
    """A running API on a copy of the template, which has entities, users and keys."""
    with Redis.from_url(valkey_url) as redis:
        redis.flushall()
    live = folder / "hookline.db"
    settings = load_settings(
        data_dir=folder,
        redis_url=valkey_url,
        broker_url=valkey_url.removesuffix("/0") + "/1",
        database_url=f"sqlite:///{shutil.copy(template, live)}",
        secret_keys=SECRET_KEY,
        admin_api_key=ADMIN_KEY,
        allowed_networks="127.0.0.0/8",
    )
    first_start.prepare(settings)
    with (
        pytest.MonkeyPatch.context() as patch,
        running(settings) as client,
        closing(sqlite3.connect(":memory:", check_same_thread=False)) as pristine,
    ):
        patch.setattr(dns, "resolve", _unresolved)
        api = Api(client)
        hook, delivery_id = _fill(api), ""
        engine = open_engine(settings)
        with read_transaction(engine) as connection:
            entity = find_entity(connection, "acme")
        assert entity is not None
        history = History(engine, entity.id, *hook)
        for status in ("delivered", "pending", "dead"):
            delivery_id = history.add(status, attempted=1)
        engine.dispose()
        with closing(sqlite3.connect(live)) as opened:
            opened.backup(pristine)
        yield Surface(api, delivery_id, live, pristine)


def _fill(api: Api) -> tuple[Any, Any]:
    """Something of each kind, under the names that the description's examples have where that is possible."""
    api.ok("PUT", "/v1/entities/empty", {"kind": "organization"}, status=201)
    for name in SECRETS:
        api.ok("PUT", f"{ACME}/secrets/{name}", {"value": f"the-value-of-{name}"}, status=201)
    certificate = Authority().issue("hookline").pem
    api.ok("PUT", f"{ACME}/secrets/CLIENT_CERTIFICATE", {"value": certificate}, status=201)
    url = "https://hooks.slack.com/services/T0001/B0002/s3cr3tS3cr3t"
    api.ok("PUT", f"{ACME}/secrets/SLACK_URL", {"value": url}, status=201)
    hook = create_webhook(api, webhook(url=f"https://127.0.0.1:{free_port()}/", signing_secret="SIGNING_SECRET"))
    slack = {"name": "alerts", "url_secret": "SLACK_URL", "team": "Acme", "channel": "#ml"}
    api.ok("POST", f"{ACME}/slack", slack, status=201)
    create_webhook(api, webhook("spare", url=hook["url"]))
    api.ok("PUT", f"{ACME}/projects/plain", {}, status=200)
    api.ok("PUT", f"{ACME}/projects/plain/collections/models", {"type": "model"}, status=200)
    api.ok("POST", "/v1/events", [event(EVENT)], status=202)
    made = create_automation(api, automation())
    condition = {"metric": "acc", "op": "$gt", "threshold": 0.5}
    watching = {"name": "watching", "event": "RUN_METRIC", "conditions": [condition], "action": {"no_op": True}}
    create_automation(api, watching)
    source = {"name": "repo", "kind": "github", "secret": "SIGNING_SECRET", "project": "plain"}
    api.ok("POST", f"{ACME}/sources", source, status=201)
    return made, hook
