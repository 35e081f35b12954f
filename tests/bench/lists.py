"""Each filter and sort of the lists, p95 in an entity with 1,000,000 deliveries, 5,000 automations and 1,000 webhooks.

On PostgreSQL and on SQLite, through the functions that REST and the console call, views included. `quick` has a
twentieth of it.
"""

from __future__ import annotations

import random
import statistics
import tempfile
import time
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cryptography.fernet import Fernet
from sqlalchemy import text

from dispatcher.control import audit, definition_lists, deliveries, revisions
from dispatcher.control.paging import PageRequest
from shared.domain.delivery.exchange import Exchange, stored_exchange
from shared.domain.events.types import EventType
from shared.domain.ids import IdKind
from shared.settings import load_settings
from shared.storage.accounts.users import Principal, Role
from shared.storage.database.bulk import insert_rows
from shared.storage.database.engine import open_engine
from shared.storage.database.transactions import read_transaction, write_transaction
from shared.storage.schema import tables
from shared.storage.schema.migrate import migrate
from shared.vault import Vault
from tests.bench.figures import Figure
from tests.servers import fresh_database, postgres_server

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from sqlalchemy import Connection, Engine

AREA = "lists"
DELIVERIES, AUTOMATIONS, WEBHOOKS = 1_000_000, 5_000, 1_000
REVISIONS, CHANGES, PENDING = 20_000, 100_000, 10_000
AT_ONCE = 5_000
REPEATS = 40
AT_MOST_MS = 50.0
ENTITY = "bench"
ADMIN = Principal(1, "bench", is_admin=True, roles={1: Role.ADMIN})
NOW = datetime.now(UTC)
PAYLOAD = '{"ref":"main","message":"' + "m" * 200 + '"}'
EXCHANGE = stored_exchange(Exchange(600, 230, remote_address="203.0.113.7:443", reused=True), {})
_STATUSES = ("delivered",) * 90 + ("dead",) * 6 + ("refused",) * 2 + ("skipped",) * 2


def measure(rounds: int, quick: bool) -> list[Figure]:
    """All figures of this area."""
    scale = 20 if quick else 1
    figures = []
    with ExitStack() as stack:
        server = stack.enter_context(postgres_server(durable=True))
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        for name, url in (("PostgreSQL", fresh_database(server)), ("SQLite", f"sqlite:///{folder / 'lists.db'}")):
            with _filled(url, scale) as engine:
                vault = Vault.open(load_settings(secret_keys=Fernet.generate_key().decode()))
                for what, read in _lists(vault).items():
                    slow, fastest = zip(*(_timed(engine, read) for _ in range(rounds)), strict=True)
                    figures.append(
                        Figure(
                            AREA,
                            f"{what}, {name}",
                            "ms",
                            slow,
                            at_most=AT_MOST_MS,
                            against="its fastest",
                            reference=fastest,
                        )
                    )
    return figures


def _timed(engine: Engine, read: Callable[[Connection], object]) -> tuple[float, float]:
    """The 95th percentile and the least time of reading a page, in milliseconds; the first two do not count."""
    taken = []
    for number in range(REPEATS + 2):
        began = time.perf_counter()
        with read_transaction(engine) as connection:
            read(connection)
        if number > 1:
            taken.append((time.perf_counter() - began) * 1000)
    return statistics.quantiles(taken, n=20)[-1], min(taken)


_DELIVERIES: dict[str, dict[str, Any]] = {
    "all": {},
    "pending": {"status": "pending"},
    "dead": {"status": "dead"},
    "dead or refused": {"status": ["dead", "refused"]},
    "delivered or dead": {"status": ["delivered", "dead"]},
    "of an automation": {"automation": "rule-17"},
    "of a webhook": {"webhook": "hook-17"},
    "dead, of a webhook": {"webhook": "hook-17", "status": "dead"},
    "of an event": {"event": "event-4711"},
    "of an event type": {"event_type": "RUN_STATE"},
    "of no such event type": {"event_type": "UNLINK_ARTIFACT"},
    "of a project": {"project": "project-7"},
    "of no project": {"project": "nowhere"},
    "of a run": {"run": "run-12"},
    "of a collection": {"collection": "model-12"},
    "by response code": {"response_code": [503]},
    "by no response code": {"response_code": [418]},
    "by attempts": {"min_attempts": 3},
    "by reason": {"reason": "OUT OF"},
    "by no reason": {"reason": "nothing of the kind"},
    "since an hour": {"since": "1h"},
    "until a week ago": {"until": "7d", "status": "dead"},
    "of a project, dead, of a week": {"project": "project-7", "status": "dead", "since": "7d"},
}
_AUTOMATIONS: dict[str, dict[str, Any]] = {
    "all": {},
    "by name": {"name": "rule-4711"},
    "by text": {"text": "RULE-47"},
    "by no text": {"text": "nothing of the kind"},
    "enabled": {"enabled": True},
    "by event": {"event": ["RUN_METRIC", "RUN_STATE"]},
    "by scope": {"project": "project-7", "collection": "model-7"},
    "by webhook": {"webhook": "hook-17"},
    "by action": {"action": "slack"},
    **{f"sorted by {sort}": {"sort": sort} for sort in ("name", "changed", "last_fired")},
    "with stats": {"stats": True},
    "sorted by last_fired, with stats": {"sort": "last_fired", "stats": True},
    "sorted by last_fired, of an event": {"sort": "last_fired", "event": "RUN_METRIC"},
}
_WEBHOOKS: dict[str, dict[str, Any]] = {
    "all": {},
    "by name": {"name": "hook-711"},
    "by text": {"text": "HOOK-7"},
    "by state": {"state": ["paused", "circuit_open"]},
    **{f"sorted by {sort}": {"sort": sort} for sort in ("name", "changed", "last_fired")},
    "with stats": {"stats": True},
    "sorted by last_fired, with stats": {"sort": "last_fired", "stats": True},
}
_CHANGES: dict[str, dict[str, Any]] = {
    "all": {},
    "by user": {"by": "user-7"},
    "by no user": {"by": "nobody"},
    "by action": {"action": "webhook"},
    "by no action": {"action": "session"},
    "by target": {"target": "wh_7"},
    "by the target's name": {"target": "hook-7"},
    "by no target": {"target": "nothing of the kind"},
    "since an hour": {"since": "1h"},
}


def _lists(vault: Vault) -> dict[str, Callable[[Connection], object]]:
    page = PageRequest()
    made: dict[str, Callable[[Connection], object]] = {}
    for what, query in _DELIVERIES.items():
        made[f"deliveries, {what}"] = partial(_delivered, query)
    for what, query in _AUTOMATIONS.items():
        made[f"automations, {what}"] = partial(_automated, query)
    for what, query in _WEBHOOKS.items():
        made[f"webhooks, {what}"] = partial(_hooked, query, vault)
    for what, query in _CHANGES.items():
        made[f"changes, {what}"] = partial(_changed, query)
    made["revisions of an automation"] = lambda connection: revisions.list_of(
        connection, ADMIN, ENTITY, IdKind.AUTOMATION, "aut_1", page
    )
    return made


def _delivered(query: dict[str, Any], connection: Connection) -> object:
    return deliveries.list_deliveries(connection, ADMIN, ENTITY, query, PageRequest())


def _automated(query: dict[str, Any], connection: Connection) -> object:
    return definition_lists.list_automations(connection, ADMIN, ENTITY, query)


def _hooked(query: dict[str, Any], vault: Vault, connection: Connection) -> object:
    return definition_lists.list_webhooks(connection, ADMIN, ENTITY, query, vault=vault)


def _changed(query: dict[str, Any], connection: Connection) -> object:
    return audit.list_changes(connection, ADMIN, ENTITY, query, PageRequest())


@contextmanager
def _filled(url: str, scale: int) -> Iterator[Engine]:
    """A database as it is after a month of an entity's work."""
    engine = open_engine(load_settings(database_url=url))
    try:
        migrate(engine)
        large = (tables.deliveries, tables.attempts, tables.audit_log, tables.kept_revisions)
        with write_transaction(engine) as connection:
            indexes = [index for table in large for index in table.indexes]
            for index in indexes:
                index.drop(connection)
        _fill(engine, scale)
        with write_transaction(engine) as connection:
            for index in indexes:
                index.create(connection)
        with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            connection.execute(text("VACUUM ANALYZE" if engine.dialect.name == "postgresql" else "ANALYZE"))
        yield engine
    finally:
        engine.dispose()


def _fill(engine: Engine, scale: int) -> None:
    with write_transaction(engine) as connection:
        connection.execute(tables.entities.insert(), {"id": 1, "name": ENTITY, "kind": "team", "created_at": NOW})
        connection.execute(tables.webhooks.insert(), [_webhook(n) for n in range(1, WEBHOOKS // scale + 1)])
        rules = [_automation(n, scale) for n in range(1, AUTOMATIONS // scale + 1)]
        connection.execute(tables.automations.insert(), rules)
    count = DELIVERIES // scale
    for begin in range(1, count + 1, AT_ONCE):
        numbers = range(begin, min(begin + AT_ONCE, count + 1))
        with write_transaction(engine) as connection:
            rows = [_delivery(n, count, scale) for n in numbers]
            insert_rows(connection, tables.deliveries, rows)
            insert_rows(connection, tables.attempts, [_attempt(row) for row in rows if row["attempts"]])
            waiting = [_pending(row) for row in rows if row["status"] == "pending"]
            insert_rows(connection, tables.pending_deliveries, waiting)
    with write_transaction(engine) as connection:
        for begin in range(0, CHANGES // scale, AT_ONCE):
            changes = [_change(n) for n in range(begin, min(begin + AT_ONCE, CHANGES // scale))]
            connection.execute(tables.audit_log.insert(), changes)
        kept = [_revision(n, scale) for n in range(REVISIONS // scale)]
        connection.execute(tables.kept_revisions.insert(), kept)


def _webhook(n: int) -> dict[str, Any]:
    slack = n % 20 == 0
    return {
        "id": n,
        "entity_id": 1,
        "name": f"hook-{n}",
        "kind": "slack" if slack else "webhook",
        "url": "" if slack else f"https://hooks.example.com/{n}",
        "policy": {},
        "enabled": n % 50 != 0,
        "paused": n % 70 == 0,
        "circuit_opened_at": NOW if n % 90 == 0 else None,
        "circuit_probe_at": NOW + timedelta(days=1) if n % 90 == 0 else None,
        "revision": n,
        "created_at": NOW,
        "updated_at": NOW,
    }


def _automation(n: int, scale: int) -> dict[str, Any]:
    event = list(EventType)[n % 10]
    hook = n % (WEBHOOKS // scale) + 1
    project, collection = f"project-{n % 50}", f"model-{n % 300}"
    kind = {"slack": f"slk_{hook}"} if hook % 20 == 0 else {"webhook": f"wh_{hook}", "payload": {"a": "${alias}"}}
    return {
        "id": n,
        "entity_id": 1,
        "name": f"rule-{n}",
        "enabled": n % 30 != 0,
        "event_type": str(event),
        "scope_project": project,
        "scope_collection": collection,
        "webhook_id": hook,
        "definition": {
            "name": f"rule-{n}",
            "description": f"What rule {n} is there for, in a sentence or two that tell enough.",
            "scope": {"project": project, "collection": collection},
            "event": str(event),
            "filter": {"alias": {"$regex": "^prod"}},
            "action": kind,
        },
        "epoch": n,
        "revision": WEBHOOKS + n,
        "created_at": NOW,
        "updated_at": NOW,
        "weight_bytes": 300,
    }


_chance = random.Random(7)


def _delivery(n: int, count: int, scale: int) -> dict[str, Any]:
    at = NOW - timedelta(days=30) * (count - n) / count
    pending = n > count - PENDING // scale
    status = "pending" if pending else _chance.choice(_STATUSES)
    # A few automations fire most of the time, and some never did: they are edited, tried and forgotten.
    number = min(int(_chance.paretovariate(0.4)), AUTOMATIONS // scale)
    hook = number % (WEBHOOKS // scale) + 1
    return {
        "seq": n,
        "id": f"dlv_{n:026d}",
        "entity_id": 1,
        "automation_id": number,
        "webhook_id": hook,
        "status": status,
        "reason": {"dead": "out of retries: the endpoint answered 503", "skipped": "cooldown"}.get(status),
        "payload": PAYLOAD,
        "event_id": f"event-{n}",
        "event_source": "/platform/bench",
        "event_type": str(list(EventType)[number % 10]),
        "event_project": f"project-{n % 50}",
        "event_run": f"run-{n % 2_000}",
        "event_collection": f"model-{n % 300}",
        "event_received_at": at,
        "attempts": 0 if status in ("pending", "skipped") else 1 if status == "delivered" else 3,
        "created_at": at,
        "finished_at": None if pending else at,
    }


def _attempt(row: dict[str, Any]) -> dict[str, Any]:
    ok = row["status"] == "delivered"
    return {
        "delivery_seq": row["seq"],
        "number": row["attempts"],
        "claim": row["seq"],
        "started_at": row["created_at"],
        "duration_ms": 20,
        "outcome": "2xx" if ok else "5xx",
        "status_code": 200 if ok else 503,
        "error": None,
        "response_body": "ok",
        "response_truncated": False,
        "request_url": "https://hooks.example.com/1",
        "exchange": EXCHANGE,
    }


def _pending(row: dict[str, Any]) -> dict[str, Any]:
    return {"seq": row["seq"], "webhook_id": row["webhook_id"], "attempts": 0, "next_attempt_at": NOW}


def _change(n: int) -> dict[str, Any]:
    return {
        "created_at": NOW - timedelta(minutes=CHANGES - n),
        "user_id": n % 40,
        "user_name": f"user-{n % 40}",
        "entity_id": 1,
        "action": ("webhook.update", "automation.update", "automation.create", "secret.put")[n % 4],
        "target": f"wh_{n % 1000}",
        "detail": {"changed": ["url"]},
        "target_name": f"hook-{n % 1000}",
    }


def _revision(n: int, scale: int) -> dict[str, Any]:
    return {
        "created_at": NOW,
        "kind": "automation",
        "target_id": n % (AUTOMATIONS // scale) + 1 if n % 2 else 1,
        "entity_id": 1,
        "revision": n,
        "change": "update",
        "changed": ["filter"],
        "user_name": "user-7",
        "reason": None,
        "content": b"",
    }
