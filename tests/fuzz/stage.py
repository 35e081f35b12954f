"""A database with something of each kind, for targets that read or write one; it looks the same to every input.

SQLite in a folder of its own, made once a process. Nothing connects to a stream or a broker.
"""

from __future__ import annotations

import asyncio
import atexit
import sqlite3
import tempfile
from collections.abc import Iterator
from contextlib import AsyncExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from pathlib import Path

from cryptography.fernet import Fernet
from sqlalchemy import Connection

from dispatcher.api.resources import ApiResources, open_resources
from dispatcher.control import automations, catalog, secrets, slack, webhooks
from shared.settings import Settings, load_settings
from shared.storage.accounts.api_keys import hash_key
from shared.storage.accounts.users import Principal, find_principal
from shared.storage.database.transactions import write_transaction
from shared.storage.maintenance import first_start

KEY = "hlk-" + "f" * 33 + "0123456789"
ENTITY = "acme"
SECRETS = {
    "TOKEN": "tok-5e6f2b",
    "SIGNING": "whsec_c2lnbmluZy1rZXktb2YtMjQtYnl0ZXMh",
    "OLD_SIGNING": "a signing key of thirty-two byte",
    "SLACK_URL": "https://hooks.slack.com/services/T000/B000/XXXXXXXXXXXXXXXXXXXXXXXX",
}
WEBHOOK = {
    "name": "deploy-hook",
    "url": "https://hooks.example.com/deploy",
    "access_token": "TOKEN",
    "secrets": ["TOKEN"],
}
SLACK = {"name": "alerts", "url_secret": "SLACK_URL", "team": "acme", "channel": "#ml"}
AUTOMATION = {
    "name": "on-production",
    "event": "ADD_ARTIFACT_ALIAS",
    "scope": {"project": "wandb-registry-model", "collection": "llm-models"},
    "filter": {"alias": {"$regex": "^prod"}},
    "action": {"webhook": "deploy-hook", "payload": {"by": "${event_author}", "token": "${TOKEN}"}},
}


@dataclass(frozen=True, slots=True)
class Stage:
    """What one process opened, and who asks: an instance admin."""

    resources: ApiResources
    principal: Principal
    _live: Path
    _pristine: sqlite3.Connection

    def restore(self) -> None:
        """Make the database what it was in the beginning."""
        with sqlite3.connect(self._live) as live:
            self._pristine.backup(live)
        live.close()

    @contextmanager
    def rolled_back(self) -> Iterator[Connection]:
        """A transaction that may write, and of which nothing stays."""
        with self.resources.engine.connect().execution_options(hookline_write=True) as connection:
            transaction = connection.begin()
            try:
                yield connection
            finally:
                transaction.rollback()


@cache
def stage() -> Stage:
    """The process's stage, closed when the process ends."""
    stack = AsyncExitStack()
    folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="hookline-fuzz-")))
    runner = asyncio.Runner()
    settings = _settings(folder)
    first_start.prepare(settings)
    resources = runner.run(stack.enter_async_context(open_resources(settings)))
    with write_transaction(resources.engine) as connection:
        principal = find_principal(connection, hash_key(KEY), now=datetime.now(UTC))
        assert principal is not None
        _fill(connection, principal, resources)
    pristine = sqlite3.connect(":memory:", check_same_thread=False)
    with sqlite3.connect(folder / "hookline.db") as live:
        live.backup(pristine)
    live.close()

    def close() -> None:
        pristine.close()
        runner.run(stack.aclose())
        runner.close()

    atexit.register(close)
    return Stage(resources, principal, folder / "hookline.db", pristine)


def _settings(folder: Path) -> Settings:
    return load_settings(
        data_dir=folder,
        redis_url="redis://127.0.0.1:9/0",
        broker_url="redis://127.0.0.1:9/1",
        database_url=f"sqlite:///{folder / 'hookline.db'}",
        secret_keys=Fernet.generate_key().decode(),
        admin_api_key=KEY,
    )


def _fill(connection: Connection, principal: Principal, resources: ApiResources) -> None:
    catalog.put_entity(connection, principal, ENTITY, {})
    for name, value in SECRETS.items():
        secrets.put(
            connection, principal, ENTITY, name, {"value": value}, vault=resources.vault, settings=resources.settings
        )
    webhooks.create(connection, principal, ENTITY, WEBHOOK, checks=resources.checks)
    slack.create(connection, principal, ENTITY, SLACK, checks=resources.checks)
    automations.create(connection, principal, ENTITY, AUTOMATION)
    catalog.put_project(connection, principal, ENTITY, "plain", {})
