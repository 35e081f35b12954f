"""Claiming, recording and listing in a table of a million deliveries, over the same in a table of five thousand.

Both databases are on one server, and take turns. The small table fills a page of whatever is listed, so that what is
compared is the table's size and not that of the answer.
"""

from __future__ import annotations

import statistics
import time
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from sqlalchemy import text

from shared.settings import load_settings
from shared.storage.database.engine import open_engine
from shared.storage.database.transactions import read_transaction, write_transaction
from shared.storage.delivery.backlog import due_webhooks
from shared.storage.delivery.claims import claim
from shared.storage.delivery.history import DeliveryFilter, DeliveryStatus, list_deliveries, new_delivery_id
from shared.storage.delivery.recording import AttemptRecord, record
from shared.storage.evaluation.new_deliveries import NewDelivery, insert_deliveries
from shared.storage.schema.migrate import migrate
from shared.storage.schema.tables import deliveries
from tests.bench.figures import Figure
from tests.servers import fresh_database, postgres_server

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from sqlalchemy import Engine

AREA = "volume"
LARGE = 1_000_000
PAGE = 50
DEAD_EVERY = 10
OWNERS = 10
SMALL = PAGE * DEAD_EVERY * OWNERS
BATCH = 100
REPEATS = 50
TOKEN = 7
BOUND = 1.3
WEBHOOK, AUTOMATION, ENTITY = 1, 1, 1
PAYLOAD = '{"ref":"main","version":"acme/models/llm:v1","message":"' + "m" * 300 + '"}'

# Ten webhooks, each with its automation, share the deliveries; every tenth is a dead letter.
_FILL = (
    "INSERT INTO entities (id, name, kind, created_at) VALUES (1, 'bench', 'team', now())",
    """INSERT INTO webhooks (id, entity_id, name, url, policy, enabled, revision, created_at, updated_at)
    SELECT n, 1, 'hook-' || n, 'http://127.0.0.1:9/', '{}', true, 1, now(), now() FROM generate_series(1, 10) AS n""",
    """INSERT INTO deliveries (id, entity_id, automation_id, webhook_id, status, reason, payload, event_id,
        event_source, event_type, event_received_at, attempts, created_at, finished_at)
    SELECT 'dlv_' || md5(n::text)::varchar(28), 1, n / 10 % 10 + 1, n / 10 % 10 + 1,
        CASE WHEN n % 10 = 0 THEN 'dead' ELSE 'delivered' END, CASE WHEN n % 10 = 0 THEN 'out of retries' END,
        :payload, 'event-' || n, '/platform/bench', 'ADD_ARTIFACT_ALIAS', at, 1, at, at
    FROM generate_series(1, :count) AS n, LATERAL (SELECT now() - (:count - n) * interval '1 second' AS at) AS times""",
    """INSERT INTO attempts (delivery_seq, number, claim, started_at, duration_ms, outcome, status_code, response_body)
    SELECT seq, 1, seq, created_at, 20, 'success', 200, 'ok' FROM deliveries""",
)


def measure(rounds: int, quick: bool) -> list[Figure]:
    """All figures of this area."""
    with ExitStack() as stack:
        server = stack.enter_context(postgres_server(durable=True))
        began = time.monotonic()
        large = stack.enter_context(_table(server, LARGE // 20 if quick else LARGE))
        filling = time.monotonic() - began
        small = stack.enter_context(_table(server, SMALL))
        repeats = REPEATS // 5 if quick else REPEATS
        taken = {name: _compare(work, large, small, rounds, repeats) for name, work in _OPERATIONS.items()}
    figures = [
        Figure(AREA, name, "ms", many, against=f"a table of {SMALL:,}", reference=few, ratio_at_most=BOUND)
        for name, (many, few) in taken.items()
    ]
    return [*figures, Figure(AREA, "filling the table", "s", (filling,))]


@contextmanager
def _table(server: str, count: int) -> Iterator[Engine]:
    """A database with `count` finished deliveries, as a database is after autovacuum has come by."""
    engine = open_engine(load_settings(database_url=fresh_database(server)))
    try:
        migrate(engine)
        with _careless(engine), write_transaction(engine) as connection:
            # Indexes are built in one go afterwards, which takes a fraction of the time.
            for index in deliveries.indexes:
                index.drop(connection)
            for statement in _FILL:
                given = {"count": count, "payload": PAYLOAD}
                connection.execute(text(statement), {k: v for k, v in given.items() if f":{k}" in statement})
            for index in deliveries.indexes:
                index.create(connection)
        _execute(engine, "VACUUM ANALYZE", "CHECKPOINT")
        yield engine
    finally:
        engine.dispose()


@contextmanager
def _careless(engine: Engine) -> Iterator[None]:
    """A server that does not wait for its disk, while the tables are filled; what is measured is durable."""
    _execute(engine, *(f"ALTER SYSTEM SET {setting} = {value}" for setting, value in _CARELESS.items()), _RELOAD)
    yield
    _execute(engine, *(f"ALTER SYSTEM RESET {setting}" for setting in _CARELESS), _RELOAD)


_CARELESS = {"fsync": "off", "full_page_writes": "off", "max_wal_size": "'8GB'", "maintenance_work_mem": "'256MB'"}
_RELOAD = "SELECT pg_reload_conf()"


def _execute(engine: Engine, *statements: str) -> None:
    """Each in a transaction of its own."""
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        for statement in statements:
            connection.execute(text(statement))


def _compare(
    work: Callable[[Engine], float], large: Engine, small: Engine, rounds: int, repeats: int
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Median milliseconds of each round, in the large and in the small table, which take turns."""
    many, few = [], []
    for _ in range(rounds):
        taken: dict[Engine, list[float]] = {large: [], small: []}
        for number in range(repeats):
            for engine in (large, small) if number % 2 else (small, large):
                taken[engine].append(work(engine) * 1000)
        many.append(statistics.median(taken[large]))
        few.append(statistics.median(taken[small]))
    return tuple(many), tuple(few)


def _claim(engine: Engine) -> float:
    """Seconds to claim a batch."""
    return _deliver(engine)[0]


def _record(engine: Engine) -> float:
    """Seconds to record a batch."""
    return _deliver(engine)[1]


def _deliver(engine: Engine) -> tuple[float, float]:
    """Put a batch into the queue, claim it, and record its end: seconds of the last two."""
    now = datetime.now(UTC)
    rows: list[NewDelivery] = [
        {
            "id": new_delivery_id(),
            "entity_id": ENTITY,
            "automation_id": AUTOMATION,
            "webhook_id": WEBHOOK,
            "status": "pending",
            "reason": None,
            "payload": PAYLOAD,
            "event_id": f"fresh-{number}",
            "event_source": "/platform/bench",
            "event_type": "ADD_ARTIFACT_ALIAS",
            "event_project": "registry",
            "event_run": None,
            "event_collection": "churn",
            "event_received_at": now,
            "created_at": now,
            "finished_at": None,
        }
        for number in range(BATCH)
    ]
    with write_transaction(engine) as connection:
        insert_deliveries(connection, rows)
    began = time.perf_counter()
    with write_transaction(engine) as connection:
        until = now + timedelta(seconds=30)
        claimed = claim(connection, WEBHOOK, limit=BATCH, now=now, lease_until=until, token=TOKEN)
    claiming = time.perf_counter() - began
    ends = [
        AttemptRecord(
            seq=one.seq,
            number=1,
            started_at=now,
            duration_ms=12,
            outcome="success",
            status_code=200,
            error=None,
            response_body="ok",
            response_truncated=False,
            next_attempt_at=None,
            final_status="delivered",
            reason=None,
        )
        for one in claimed
    ]
    began = time.perf_counter()
    with write_transaction(engine) as connection:
        ended = record(connection, ends, token=TOKEN, now=now)
    recording = time.perf_counter() - began
    if len(ended) != BATCH:
        raise RuntimeError(f"{len(ended)} of {BATCH} deliveries were claimed and recorded")
    return claiming, recording


def _sweep(engine: Engine) -> float:
    """Seconds to look for webhooks that have something due, as the dispatcher does."""
    began = time.perf_counter()
    with read_transaction(engine) as connection:
        due_webhooks(connection, datetime.now(UTC))
    return time.perf_counter() - began


def _listing(wanted: DeliveryFilter, expected: int = PAGE, entity_id: int | None = ENTITY) -> Callable[[Engine], float]:
    """Seconds to read the first page of deliveries."""

    def read(engine: Engine) -> float:
        began = time.perf_counter()
        with read_transaction(engine) as connection:
            page = list_deliveries(connection, entity_id, wanted, before=None, limit=PAGE)
        taken = time.perf_counter() - began
        if len(page) < expected:
            raise RuntimeError(f"a page of {len(page)} deliveries")
        return taken

    return read


_DEAD = DeliveryStatus.DEAD
_OPERATIONS: dict[str, Callable[[Engine], float]] = {
    f"claim {BATCH}": _claim,
    f"record {BATCH}": _record,
    "look for due webhooks": _sweep,
    "list the newest": _listing(DeliveryFilter()),
    "list the newest, all entities": _listing(DeliveryFilter(), entity_id=None),
    "list dead letters": _listing(DeliveryFilter(statuses=(_DEAD,))),
    "list dead letters, all entities": _listing(DeliveryFilter(statuses=(_DEAD,)), entity_id=None),
    "list a webhook's": _listing(DeliveryFilter(webhook_id=WEBHOOK)),
    "list a webhook's dead letters": _listing(DeliveryFilter(webhook_id=2, statuses=(_DEAD,))),
    "list an automation's dead letters": _listing(DeliveryFilter(automation_id=2, statuses=(_DEAD,))),
    "list an event's": _listing(DeliveryFilter(event_id="event-100"), expected=1),
    "list what is pending": _listing(DeliveryFilter(statuses=(DeliveryStatus.PENDING,)), expected=0),
}
