"""One worker's parts in this process, on a real Valkey and a durable PostgreSQL, driven drain by drain.

What a drain costs is told by this process's CPU seconds, so that neither the servers' work nor that of the machine's
other users is counted: the figure is what one core of a worker does.
"""

from __future__ import annotations

import tempfile
import time
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import orjson
from cryptography.fernet import Fernet
from sqlalchemy import insert, select

from shared.domain.automations.model import Grants
from shared.domain.automations.parsing import parse_automation
from shared.domain.events.decoding import check_event
from shared.domain.events.partitioning import partition_of
from shared.messaging.celery_app import celery_app
from shared.messaging.streams import FIELD, stream_key
from shared.settings import Settings, load_settings
from shared.storage.database.engine import open_engine
from shared.storage.database.transactions import read_transaction, write_transaction
from shared.storage.definitions.entities import insert_entity
from shared.storage.definitions.revisions import next_revision
from shared.storage.schema.migrate import migrate
from shared.storage.schema.tables import automations, entities, webhooks
from tests.servers import fresh_database, postgres_server, valkey_server
from worker.bootstrap import build_process

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

PIPELINE = 1000
ROWS = 2000


class Workbench:
    """A worker process with what benchmarks need: automations in bulk, events in streams, drains that are timed."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.process = build_process(settings, celery_app(settings))

    def renew(self) -> None:
        """Begin anew as a worker that has just started."""
        self.process.close()
        self.process = build_process(self.settings, celery_app(self.settings))

    def entity(self, name: str) -> int:
        """The id of the entity of this name, made if need be."""
        with write_transaction(self.process.engine) as connection:
            insert_entity(connection, name=name, kind="team", parent_id=None, now=datetime.now(UTC))
            return int(connection.execute(select(entities.c.id).where(entities.c.name == name)).scalar_one())

    def webhook(self, entity_id: int) -> int:
        """A webhook whose deliveries nobody sends here."""
        with write_transaction(self.process.engine) as connection:
            now = datetime.now(UTC)
            values = {"entity_id": entity_id, "name": "hook", "url": "http://127.0.0.1:9/", "policy": {}}
            values |= {"enabled": True, "revision": next_revision(connection), "created_at": now, "updated_at": now}
            return int(connection.execute(insert(webhooks).values(values).returning(webhooks.c.id)).scalar_one())

    def entities(self, names: Sequence[str]) -> list[int]:
        """The ids of new entities of these names."""
        made = [{"name": name, "kind": "team", "created_at": datetime.now(UTC)} for name in names]
        with write_transaction(self.process.engine) as connection:
            for start in range(0, len(made), ROWS):
                connection.execute(insert(entities), made[start : start + ROWS])
            ids = dict(connection.execute(select(entities.c.name, entities.c.id)).tuples().all())
        return [ids[name] for name in names]

    def define(self, entity_id: int, definitions: Iterable[dict[str, Any]], *, webhook_id: int) -> int:
        """Store automations in bulk. Returns the bytes of their texts."""
        return self.define_each(((entity_id, raw) for raw in definitions), webhook_id=webhook_id)

    def define_each(self, definitions: Iterable[tuple[int, dict[str, Any]]], *, webhook_id: int) -> int:
        """Store automations, each with the id of its entity, in bulk. Returns the bytes of their texts."""
        grants, now, text_bytes = Grants(), datetime.now(UTC), 0
        rows: list[dict[str, Any]] = []
        for entity_id, raw in definitions:
            checked = parse_automation(raw, lambda _name: grants)
            definition = checked.to_json()
            text_bytes += len(orjson.dumps(definition))
            rows.append(
                {
                    "entity_id": entity_id,
                    "name": checked.name,
                    "enabled": True,
                    "event_type": str(checked.event),
                    "scope_project": checked.scope.project,
                    "scope_collection": checked.scope.collection,
                    "webhook_id": webhook_id,
                    "definition": definition,
                    "created_at": now,
                    "updated_at": now,
                }
            )
        # Begun when all are checked, since PostgreSQL ends transactions that are idle for long.
        with write_transaction(self.process.engine) as connection:
            revision = next_revision(connection)
            for start in range(0, len(rows), ROWS):
                stored = [{**row, "epoch": revision, "revision": revision} for row in rows[start : start + ROWS]]
                connection.execute(insert(automations), stored)
        return text_bytes

    def publish(self, events: Sequence[dict[str, Any]]) -> None:
        """Append events to their streams, as a backend that XADDs by itself does."""
        partitions = self.settings.partitions
        keyed = [(stream_key(partition_of(check_event(one), partitions)), orjson.dumps(one)) for one in events]
        for start in range(0, len(keyed), PIPELINE):
            with self.process.redis.pipeline(transaction=False) as pipeline:
                for key, body in keyed[start : start + PIPELINE]:
                    pipeline.xadd(key, {FIELD: body})
                pipeline.execute()

    def evaluate(self) -> tuple[int, float]:
        """Drain every partition. Returns the events evaluated, and this process's CPU seconds."""
        began, evaluated = time.process_time(), 0
        for partition in range(self.settings.partitions):
            while count := self.process.partitions.drain(partition):
                evaluated += count
        return evaluated, time.process_time() - began

    def scalar(self, query: Any) -> Any:
        """One value from the database."""
        with read_transaction(self.process.engine) as connection:
            return connection.execute(query).scalar_one()


@contextmanager
def workbench(*, partitions: int = 4) -> Iterator[Workbench]:
    """A workbench on servers of its own."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="hookline-bench-")))
        redis_url = stack.enter_context(valkey_server(append_only=True))
        settings = load_settings(
            data_dir=folder,
            redis_url=redis_url,
            broker_url=redis_url.removesuffix("/0") + "/1",
            database_url=fresh_database(stack.enter_context(postgres_server(durable=True))),
            secret_keys=Fernet.generate_key().decode(),
            allowed_networks="127.0.0.0/8",
            partitions=partitions,
            log_level="WARNING",
        )
        engine = open_engine(settings)
        migrate(engine)
        engine.dispose()
        bench = Workbench(settings)
        stack.callback(lambda: bench.process.close())
        yield bench
