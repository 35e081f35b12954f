"""What an event takes in Valkey, and a delivery in PostgreSQL: with indexes, while it waits and when it is done.

Events and payloads are the benchmark's everyday ones; the sizes of one's own decide over one's own figures.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import orjson
from sqlalchemy import func, select, text, update

from shared.observability.logs import configure_logging
from shared.storage.database.transactions import write_transaction
from shared.storage.schema.tables import attempts, deliveries, pending_deliveries, webhooks
from tests.bench.events import ALIAS_PATTERN, ENTITY, EVENT_TYPE, PAYLOAD, PROJECT, make_events
from tests.bench.figures import Figure
from tests.bench.receiver import receiver
from tests.bench.workbench import Workbench, workbench

if TYPE_CHECKING:
    from sqlalchemy import Table

AREA = "footprint"
EVENTS = 40_000
TABLES = (deliveries, attempts, pending_deliveries)


def measure(rounds: int, quick: bool) -> list[Figure]:
    """All figures of this area."""
    count = EVENTS // 10 if quick else EVENTS
    found: dict[str, list[float]] = {}
    for _ in range(rounds):
        with workbench(partitions=16) as bench:
            for name, value in _sizes(bench, count).items():
                found.setdefault(name, []).append(value)
    return [Figure(AREA, name, "bytes", tuple(values)) for name, values in found.items()]


def _sizes(bench: Workbench, count: int) -> dict[str, float]:
    """Bytes for each event or delivery."""
    configure_logging(bench.settings, "bench")  # a line for each attempt would take longer than the attempts
    events = make_events("footprint", count)
    entity = bench.entity(ENTITY)
    hook = bench.webhook(entity)
    action = {"webhook": f"wh_{hook}", "payload": PAYLOAD}
    scope, condition = {"project": PROJECT}, {"alias": {"$regex": ALIAS_PATTERN}}
    bench.define(
        entity,
        [{"name": "everyday", "event": EVENT_TYPE, "scope": scope, "filter": condition, "action": action}],
        webhook_id=hook,
    )
    memory, file = _valkey(bench)
    bench.publish(events)
    grown_memory, grown_file = (now - before for now, before in zip(_valkey(bench), (memory, file), strict=True))
    empty = sum(_table(bench, table) for table in TABLES)
    bench.evaluate()
    waiting = sum(_table(bench, table) for table in TABLES) - empty
    with receiver() as target:
        with write_transaction(bench.process.engine) as connection:
            connection.execute(update(webhooks).where(webhooks.c.id == hook).values(url=target.url))
        while bench.scalar(select(func.count()).select_from(pending_deliveries)):
            bench.process.webhooks.drain(hook)
    done = sum(_table(bench, table) for table in TABLES) - empty
    indexes = sum(_indexes(bench, table) for table in TABLES)
    with bench.process.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(text(f"VACUUM FULL {', '.join(table.name for table in TABLES)}"))
    payload = bench.scalar(select(func.avg(func.length(deliveries.c.payload))))
    return {
        "an event's JSON": sum(len(orjson.dumps(one)) for one in events) / count,
        "an event in Valkey's memory": grown_memory / count,
        "an event in the append-only file": grown_file / count,
        "a payload": float(payload),
        "a delivery that waits, in PostgreSQL": waiting / count,
        "a delivery that is done, with its attempt": done / count,
        "of that: indexes": indexes / count,
        "the same without what updates left behind": sum(_table(bench, table) for table in TABLES) / count,
    }


def _valkey(bench: Workbench) -> tuple[int, int]:
    """Bytes in memory and in the append-only file."""
    return int(bench.process.redis.info("memory")["used_memory"]), int(
        bench.process.redis.info("persistence")["aof_current_size"]
    )


def _table(bench: Workbench, table: Table) -> int:
    """A table's bytes with its indexes and what is stored beside it."""
    return int(bench.scalar(text(f"SELECT pg_total_relation_size('{table.name}')")))


def _indexes(bench: Workbench, table: Table) -> int:
    return int(bench.scalar(text(f"SELECT pg_indexes_size('{table.name}')")))
