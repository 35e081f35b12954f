"""The share of the floor: the CPU that a delivery needs whatever delivers it, over what it takes in the whole system.

The floor is the CPU of bare loops that do for each delivery what can't be left out: Valkey takes its event and gives it
back, PostgreSQL stores its row and finishes it with its attempt, by the statements that workers use, in batches of
theirs; Hookline's HTTP client sends its bytes, signed, and the receiver takes them. Of PostgreSQL and Valkey it is the
servers' CPU, without that of the loops' own Python. The whole system is workers, dispatcher, API, PostgreSQL, Valkey
and the receiver. What publishes the events is in neither. Both are measured in the same run, in turns.
"""

from __future__ import annotations

from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, cast

import orjson
import psutil
from redis import Redis
from sqlalchemy import text

from shared.settings import load_settings
from shared.storage.database.engine import open_engine
from shared.storage.database.transactions import write_statement, write_transaction
from shared.storage.delivery.history import new_delivery_id
from shared.storage.delivery.recording import AttemptRecord, Successes, record_successes
from shared.storage.evaluation.new_deliveries import NewClaims, NewDelivery, insert_deliveries
from shared.storage.schema.migrate import migrate
from tests.bench.crowds import Crowd
from tests.bench.figures import Figure
from tests.bench.processes import ProcessFailed
from tests.bench.rival import render, sign
from tests.bench.spread import Bench, running_bench
from tests.bench.volume import _FILL
from tests.bench.yardstick import client_cpu_seconds
from tests.servers import fresh_database, postgres_server, valkey_server

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from sqlalchemy import Engine

    from tests.bench.events import Event

AREA = "floor"
SIZES = {1: 0.6, 1_000: 0.5}
"""How many webhooks, and the share of the floor that is to be reached."""
EVENTS = 20_000
BATCH = 250
"""Deliveries that a worker stores, and records, at a time."""
STREAM = "floor"
PARTS = ("postgres", "valkey", "client", "receiver")
_DEFINITIONS = (
    _FILL[0],
    """INSERT INTO webhooks (id, entity_id, name, url, policy, enabled, revision, created_at, updated_at)
    SELECT n, 1, 'hook-' || n, 'http://127.0.0.1:9/', '{}', true, 1, now(), now() FROM generate_series(1, 1000) AS n""",
    """INSERT INTO automations (id, entity_id, name, enabled, event_type, webhook_id, definition, epoch, revision,
        created_at, updated_at)
    SELECT n, 1, 'rule-' || n, true, 'ADD_ARTIFACT_ALIAS', n, '{}', n, n, now(), now()
    FROM generate_series(1, 1000) AS n""",
)


@dataclass(frozen=True, slots=True)
class Part:
    """The CPU of a delivery on the floor, in microseconds."""

    postgres: float
    valkey: float
    client: float
    receiver: float

    @property
    def total(self) -> float:
        """All of it."""
        return self.postgres + self.valkey + self.client + self.receiver

    @property
    def told(self) -> str:
        """What it consists of."""
        return ", ".join(f"{name} {getattr(self, name):,.0f}" for name in PARTS)


def measure(rounds: int, quick: bool) -> list[Figure]:
    """The shares of the floor with one webhook and with 1,000, and what the floor consists of."""
    count = EVENTS // 10 if quick else EVENTS
    floors: dict[int, list[Part]] = {size: [] for size in SIZES}
    wholes: dict[int, list[float]] = {size: [] for size in SIZES}
    faults = 0
    with ExitStack() as stack:
        bench, bare = stack.enter_context(running_bench("postgresql")), stack.enter_context(_bare_servers())
        crowds = {size: Crowd(f"of-{size}", size) for size in SIZES}
        for crowd in crowds.values():
            bench.define(crowd)
        for number in range(-2, rounds):
            for size, crowd in crowds.items():
                label = f"floor{number}" if number >= 0 else f"warm{-number}"
                part = bare.round(bench, crowd.events(f"bare-{label}", count), size)
                spent = bench.endpoint.stats()["cpu_seconds"]
                one = bench.round(crowd, label, count)
                # The list of arrivals that is read for the audit is a few milliseconds of it.
                whole = one.totals_us[0] + (bench.endpoint.stats()["cpu_seconds"] - spent) / count * 1e6
                faults += one.faults
                print(
                    f"{size:,} webhooks, {label}: floor {part.total:,.0f} of {whole:,.0f} µs ({part.told})", flush=True
                )
                if number >= 0:
                    floors[size].append(part)
                    wholes[size].append(whole)
    figures = [
        Figure(
            AREA,
            f"share of the floor, {size:,} webhook{'s' * (size > 1)}",
            "of the CPU",
            tuple(part.total / whole for part, whole in zip(floors[size], wholes[size], strict=True)),
            at_least=least,
        )
        for size, least in SIZES.items()
    ]
    for size in SIZES:
        about = f"{size:,} webhook{'s' * (size > 1)}"
        figures.append(Figure(AREA, f"a delivery, {about}", "µs", tuple(wholes[size])))
        figures.append(Figure(AREA, f"its floor, {about}", "µs", tuple(part.total for part in floors[size])))
    parts = floors[1]
    figures += [
        Figure(AREA, f"the floor of {what}", "µs", tuple(getattr(part, what) for part in parts)) for what in PARTS
    ]
    return [
        *figures,
        Figure(AREA, "lost, doubled or invented", "deliveries", (float(faults),), at_most=0, promise=True),
    ]


class BareServers:
    """A PostgreSQL and a Valkey that nobody else uses."""

    def __init__(self, engine: Engine, redis: Redis) -> None:
        self._engine, self._redis = engine, redis
        self._valkey = psutil.Process(int(redis.info("server")["process_id"]))
        with engine.connect() as connection:
            backend = psutil.Process(int(connection.execute(text("SELECT pg_backend_pid()")).scalar_one()))
        parent = backend.parent()
        if parent is None:
            raise ProcessFailed("PostgreSQL's own process was not found")
        self._postgres = parent
        self._token = 0

    def round(self, bench: Bench, events: Sequence[Event], webhooks: int) -> Part:
        """What each of these events' deliveries takes, to so many webhooks in turn."""
        bodies = [render(event) for event in events]
        count = len(events)
        before = self._postgres_seconds()
        for start in range(0, count, BATCH):
            self._deliver(events[start : start + BATCH], bodies[start : start + BATCH], start, webhooks)
        postgres = self._postgres_seconds() - before
        before = sum(self._valkey.cpu_times()[:2])
        self._stream(events)
        valkey = sum(self._valkey.cpu_times()[:2]) - before
        heads = [sign(event["id"], body) for event, body in zip(events, bodies, strict=True)]
        urls = [f"{bench.endpoint.url}/of-{webhooks}/{number % webhooks}" for number in range(count)]
        bench.endpoint.reset()
        before = bench.endpoint.stats()["cpu_seconds"]
        client = client_cpu_seconds(list(zip(urls, bodies, heads, strict=True)))
        receiver = bench.endpoint.stats()["cpu_seconds"] - before
        return Part(*(seconds / count * 1e6 for seconds in (postgres, valkey, client, receiver)))

    def _postgres_seconds(self) -> float:
        """CPU of the server's processes and of those that it has buried."""
        family = [self._postgres, *self._postgres.children()]
        return float(sum(sum(process.cpu_times()[:4]) for process in family))

    def _stream(self, events: Sequence[Event]) -> None:
        """Append all events to a stream and read them again."""
        self._redis.delete(STREAM)
        for start in range(0, len(events), BATCH):
            with self._redis.pipeline(transaction=False) as pipeline:
                for event in events[start : start + BATCH]:
                    pipeline.xadd(STREAM, {"e": orjson.dumps(event)})
                pipeline.execute()
        after = b"-"
        while page := cast("list[tuple[bytes, object]]", self._redis.xrange(STREAM, min=after, count=BATCH)):
            after = b"(" + page[-1][0]

    def _deliver(self, events: Sequence[Event], bodies: Sequence[bytes], first: int, webhooks: int) -> None:
        """Store a batch as claimed, and finish it."""
        now, self._token = datetime.now(UTC), self._token + 1
        owners = [(first + number) % webhooks + 1 for number in range(len(events))]
        rows = [_row(event, body, owner, now) for event, body, owner in zip(events, bodies, owners, strict=True)]
        claims = NewClaims(tuple(dict.fromkeys(owners)), self._token, now + timedelta(seconds=50))
        with write_transaction(self._engine) as connection:
            seqs = insert_deliveries(connection, rows, claims)
        ended: dict[int, list[AttemptRecord]] = {}
        for row, owner in zip(rows, owners, strict=True):
            ended.setdefault(owner, []).append(_delivered(seqs[row["id"]], now))
        several = [Successes(owner, self._token, results) for owner, results in ended.items()]
        with write_statement(self._engine) as connection:
            finished = record_successes(connection, several, now=now).finished
        if len(finished) != len(events):
            raise ProcessFailed(f"{len(finished)} of {len(events)} deliveries were finished")


def _row(event: Event, body: bytes, owner: int, now: datetime) -> NewDelivery:
    data = event["data"]
    return {
        "id": new_delivery_id(),
        "entity_id": 1,
        "automation_id": owner,
        "webhook_id": owner,
        "status": "pending",
        "reason": None,
        "payload": body.decode(),
        "event_id": event["id"],
        "event_source": event["source"],
        "event_type": event["type"],
        "event_project": data["project"],
        "event_run": None,
        "event_collection": data["collection"]["name"],
        "event_received_at": now,
        "created_at": now,
        "finished_at": None,
    }


def _delivered(seq: int, now: datetime) -> AttemptRecord:
    return AttemptRecord(
        seq=seq,
        number=1,
        started_at=now,
        duration_ms=3,
        outcome="success",
        status_code=200,
        error=None,
        response_body="ok",
        response_truncated=False,
        next_attempt_at=None,
        final_status="delivered",
        reason=None,
    )


@contextmanager
def _bare_servers() -> Iterator[BareServers]:
    with ExitStack() as stack:
        url = fresh_database(stack.enter_context(postgres_server(durable=True)))
        engine = open_engine(load_settings(database_url=url))
        stack.callback(engine.dispose)
        migrate(engine)
        with write_transaction(engine) as connection:
            for statement in _DEFINITIONS:
                connection.execute(text(statement))
        redis = stack.enter_context(Redis.from_url(stack.enter_context(valkey_server(append_only=True))))
        yield BareServers(engine, redis)
