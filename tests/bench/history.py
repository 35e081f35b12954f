"""A history of many million deliveries over one of fifty thousand: claim, record, lists, deep pages, export, retention.

Both databases are on one server and take turns, so that ratios hold on a machine that does other work. `--rows` is how
many deliveries are kept; a million of them with their attempts and indexes take about 1.75 GB. Two connections fill the
tables at the same time, without their indexes and keys, which are made at the end. The small table is as large as what
one search looks at, so that what is compared is the table's size.

    python -m tests.bench.history --rows 20000000
"""

from __future__ import annotations

import argparse
import multiprocessing
import statistics
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table
from sqlalchemy import func, select, text

from dispatcher.control import deliveries as control
from dispatcher.control.exports import ExportFormat, format_page
from dispatcher.control.paging import PageRequest, cursor_after, page_request
from dispatcher.pump.maintenance import REST_SECONDS
from shared.settings import load_settings
from shared.storage.accounts.users import Principal, Role
from shared.storage.database.engine import open_engine
from shared.storage.database.transactions import read_transaction, write_transaction
from shared.storage.maintenance.retention import FULFILLED, purge_deliveries
from shared.storage.schema.migrate import migrate
from shared.storage.schema.tables import attempts, deliveries
from tests.bench import volume
from tests.servers import fresh_database, postgres_server

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from multiprocessing.connection import Connection

    from sqlalchemy import Engine

ROWS, FEW = 5_000_000, 50_000
CHUNK = 500_000
FILLING = 2
"""Connections that fill the tables: one for each core."""
REPEATS = 25
BOUND = 1.3
PAGE = 50
EXPORTED_PAGES = 20
PURGED_PER_SECOND = 20_000
"""Rows that retention has to delete a second, those of attempts among them, with its rests."""
SLOWED = 1.05
"""How much longer storing, claiming and recording a batch may take meanwhile."""
TURNS, BATCHES = 6, 40
ADMIN = Principal(1, "bench", is_admin=True, roles={1: Role.ADMIN})
_DEFINITIONS = (
    volume._FILL[0],
    volume._FILL[1],
    """INSERT INTO automations (id, entity_id, name, enabled, event_type, webhook_id, definition, epoch, revision,
        created_at, updated_at)
    SELECT n, 1, 'rule-' || n, true, 'RUN_STATE', n, '{}', n, n, now(), now() FROM generate_series(1, 10) AS n""",
)
# A month: of ten webhooks, every tenth a dead letter, as in the area "volume", with what lists ask for besides.
_DELIVERIES = """
    INSERT INTO deliveries (seq, id, entity_id, automation_id, webhook_id, status, reason, payload, event_id,
        event_source, event_type, event_project, event_run, event_collection, event_received_at, attempts, created_at,
        finished_at)
    SELECT n, 'dlv_' || md5(n::text)::varchar(28), 1, n / 10 % 10 + 1, n / 10 % 10 + 1,
        CASE WHEN n % 10 = 0 THEN 'dead' ELSE 'delivered' END,
        CASE WHEN n % 10 = 0 THEN 'out of retries: the endpoint answered 503' END, :payload, 'event-' || n,
        '/platform/bench', CASE WHEN n % 3 = 0 THEN 'RUN_STATE' ELSE 'ADD_ARTIFACT_ALIAS' END, 'project-' || n % 50,
        'run-' || n % 2000, 'model-' || n % 300, at, CASE WHEN n % 10 = 0 THEN 3 ELSE 1 END, at, at
    FROM generate_series(CAST(:first AS bigint), CAST(:last AS bigint)) AS n,
        LATERAL (SELECT now() - interval '30 days' * (:count - n) / :count AS at) AS times
"""
_ATTEMPTS = """
    INSERT INTO attempts (delivery_seq, number, claim, started_at, duration_ms, outcome, status_code, response_body)
    SELECT n, CASE WHEN n % 10 = 0 THEN 3 ELSE 1 END, n, now() - interval '30 days' * (:count - n) / :count, 20,
        CASE WHEN n % 10 = 0 THEN '5xx' ELSE '2xx' END, CASE WHEN n % 10 = 0 THEN 503 ELSE 200 END, 'ok'
    FROM generate_series(CAST(:first AS bigint), CAST(:last AS bigint)) AS n
"""
_KEYS = """SELECT conrelid::regclass::text AS table, conname AS name, pg_get_constraintdef(oid) AS definition
    FROM pg_constraint WHERE conrelid IN ('deliveries'::regclass, 'attempts'::regclass) AND contype IN ('p', 'u')"""
_NEXT = "SELECT setval(pg_get_serial_sequence('deliveries', 'seq'), :count)"
_LISTS: dict[str, dict[str, Any]] = {
    "all": {},
    "dead": {"status": "dead"},
    "delivered or dead": {"status": ["delivered", "dead"]},
    "of an automation": {"automation": "rule-7"},
    "of a webhook, dead": {"webhook": "hook-7", "status": "dead"},
    "of an event": {"event": "event-4711"},
    "of an event type": {"event_type": "RUN_STATE"},
    "of a project": {"project": "project-7"},
    "of no project": {"project": "nowhere"},
    "of a run": {"run": "run-12"},
    "of a collection": {"collection": "model-12"},
    "by response code": {"response_code": [503]},
    "by no response code": {"response_code": [418]},
    "by attempts": {"min_attempts": 3},
    "by reason": {"reason": "OUT OF"},
    "since an hour": {"since": "1h"},
    "until a week ago": {"until": "7d"},
    "until a week ago, dead": {"until": "7d", "status": "dead"},
    "of a project, dead, of a week": {"project": "project-7", "status": "dead", "since": "7d"},
}


def main() -> int:
    """Fill both tables, compare, and print the table."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.bench.history",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--rows", type=int, default=ROWS, metavar="N", help=f"deliveries that are kept ({ROWS:,})")
    parser.add_argument("--repeats", type=int, default=REPEATS, metavar="N", help=f"of each operation ({REPEATS})")
    options = parser.parse_args()
    if options.rows <= FEW or options.repeats < 1:
        parser.error(f"--rows must be above {FEW:,}, and --repeats above 0")
    console = Console(width=None if sys.stdout.isatty() else 140)
    with ExitStack() as stack:
        server = stack.enter_context(postgres_server(durable=True))
        began = time.monotonic()
        many = stack.enter_context(_filled(server, options.rows))
        console.print(
            f"{options.rows:,} deliveries: {_gigabytes(many):.1f} GB, filled in {time.monotonic() - began:.0f} s"
        )
        few = stack.enter_context(_filled(server, FEW))
        _compare(console, many, few, options.rows, options.repeats)
        _compare_retention(console, many, options.rows)
    return 0


@contextmanager
def _filled(server: str, count: int) -> Iterator[Engine]:
    """A database with so many finished deliveries, as it is after autovacuum has come by."""
    engine = open_engine(load_settings(database_url=fresh_database(server)))
    try:
        migrate(engine)
        indexes = [index for table in (deliveries, attempts) for index in table.indexes]
        with volume._careless(engine):
            with write_transaction(engine) as connection:
                keys = connection.execute(text(_KEYS)).all()
                for index in indexes:
                    index.drop(connection)
                for key in keys:
                    connection.execute(text(f"ALTER TABLE {key.table} DROP CONSTRAINT {key.name}"))
                for statement in _DEFINITIONS:
                    connection.execute(text(statement))
            with ThreadPoolExecutor(FILLING) as threads:
                for filled in [threads.submit(_fill, engine, first, count) for first in range(0, count, CHUNK)]:
                    filled.result()
            with write_transaction(engine) as connection:
                connection.execute(text(_NEXT), {"count": count})
                for key in keys:
                    statement = f"ALTER TABLE {key.table} ADD CONSTRAINT {key.name} {key.definition}"
                    connection.execute(text(statement))
                for index in indexes:
                    index.create(connection)
            volume._execute(engine, "VACUUM ANALYZE", "CHECKPOINT")
        yield engine
    finally:
        engine.dispose()


def _fill(engine: Engine, before: int, count: int) -> None:
    """Add the deliveries after the one with this number, up to `CHUNK`, with their attempts."""
    span = {"first": before + 1, "last": min(before + CHUNK, count)}
    with write_transaction(engine) as connection:
        connection.execute(text(_DELIVERIES), span | {"count": count, "payload": volume.PAYLOAD})
        connection.execute(text(_ATTEMPTS), span | {"count": count})


def _compare(console: Console, many: Engine, few: Engine, rows: int, repeats: int) -> None:
    table = Table(title=f"Medians in {rows:,} deliveries and in {FEW:,}, in turns", title_justify="left")
    for heading in ("what", "ms", "few: ms", "ratio", "fastest: ratio", ""):
        table.add_column(heading, justify="left" if heading == "what" else "right")
    for what, work in _operations().items():
        taken: dict[Engine, list[float]] = {many: [], few: []}
        for number in range(repeats + 3):
            for engine in (many, few) if number % 2 else (few, many):
                seconds = work(engine)
                if number > 2:  # plans are kept from then on
                    taken[engine].append(seconds * 1000)
        here, there = (statistics.median(taken[engine]) for engine in (many, few))
        least = min(taken[many]) / min(taken[few])
        missed = "" if min(here / there, least) <= BOUND else "MISSED"
        table.add_row(what, f"{here:.1f}", f"{there:.1f}", f"{here / there:.2f}", f"{least:.2f}", missed)
    console.print(table)


def _operations() -> dict[str, Callable[[Engine], float]]:
    made: dict[str, Callable[[Engine], float]] = {
        "claim 100": volume._claim,
        "record 100": volume._record,
        "look for due webhooks": volume._sweep,
    }
    for what, query in _LISTS.items():
        made[f"list, {what}"] = partial(_listed, query, 0.0)
    for what in ("all", "dead", "of a webhook, dead", "of a project"):
        made[f"list, {what}, a page in the middle"] = partial(_listed, _LISTS[what], 0.5)
    made[f"export {EXPORTED_PAGES} pages as CSV"] = _exported
    return made


def _listed(query: dict[str, Any], depth: float, engine: Engine) -> float:
    """Seconds to list a page, from so far into the history."""
    page = PageRequest()
    if depth:
        with read_transaction(engine) as connection:
            newest = connection.scalar(select(func.max(deliveries.c.seq))) or 0
        page = page_request(PAGE, cursor_after(int(newest * depth)))
    began = time.perf_counter()
    with read_transaction(engine) as connection:
        control.list_deliveries(connection, ADMIN, "bench", query, page)
    return time.perf_counter() - began


def _exported(engine: Engine) -> float:
    """Seconds for the first pages of an export."""
    began, page = time.perf_counter(), PageRequest()
    for _ in range(EXPORTED_PAGES):
        with read_transaction(engine) as connection:
            found = control.list_deliveries(connection, ADMIN, "bench", {}, page)
        format_page(found.items, ExportFormat.CSV)
        page = page_request(PAGE, found.next)
    return time.perf_counter() - began


def _compare_retention(console: Console, engine: Engine, rows: int) -> None:
    """Claim and record batches in turns alone and beside retention, which works in a process of its own."""
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe()
    url = engine.url.render_as_string(hide_password=False)
    child = context.Process(target=_retention, args=(there, url), daemon=True)
    child.start()
    there.close()
    alone: list[float] = []
    beside: list[float] = []
    purged, seconds = 0, 0.0
    try:
        here.recv()  # it is ready
        for _ in range(TURNS):
            alone += [sum(volume._deliver(engine)) * 1000 for _ in range(BATCHES)]
            here.send("go")
            beside += [sum(volume._deliver(engine)) * 1000 for _ in range(BATCHES)]
            here.send("stop")
            gone, took = here.recv()
            purged, seconds = purged + gone, seconds + took
    finally:
        child.terminate()
        child.join()
    rate, ratio = purged / seconds, statistics.median(beside) / statistics.median(alone)
    table = Table(title=f"Retention in {rows:,} deliveries, and what it does to deliveries", title_justify="left")
    for heading in ("what", "measured", "goal", ""):
        table.add_column(heading, justify="left" if heading == "what" else "right")
    reached = ("" if rate >= PURGED_PER_SECOND else "MISSED", "" if ratio <= SLOWED else "MISSED")
    table.add_row("rows/s, attempts and rests counted", f"{rate:,.0f}", f"at least {PURGED_PER_SECOND:,}", reached[0])
    both = f"{statistics.median(beside):.1f} over {statistics.median(alone):.1f} ms: {ratio:.2f}"
    table.add_row(f"claim and record {volume.BATCH}, beside it and alone", both, f"at most {SLOWED}", reached[1])
    console.print(table)


def _retention(pipe: Connection, url: str) -> None:
    """Between "go" and "stop" delete what is older than an hour, as the dispatcher does; tell rows and seconds."""
    engine = open_engine(load_settings(database_url=url))
    pipe.send("ready")
    while pipe.recv() == "go":
        rows, began = 0, time.perf_counter()
        for batch in purge_deliveries(engine, FULFILLED, before=datetime.now(UTC) - timedelta(hours=1)):
            rows += 2 * batch.rows  # each has one attempt
            if pipe.poll(REST_SECONDS):
                break
        took = time.perf_counter() - began
        pipe.recv()
        pipe.send((rows, took))


def _gigabytes(engine: Engine) -> float:
    with engine.connect() as connection:
        return float(connection.execute(text("SELECT pg_database_size(current_database())")).scalar_one()) / 1e9


if __name__ == "__main__":
    sys.exit(main())
