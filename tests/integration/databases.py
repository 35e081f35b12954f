"""PostgreSQL databases, lent to one test after another: to copy one takes fifty times as long as to empty it again.

A database goes back as its template is: rows, sequences, and nobody connected. One in which a test changed more than
that (tables, planner statistics, sizes) is dropped.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import psycopg
from psycopg import sql
from sqlalchemy.engine import make_url

from tests.servers import copied_database, drop_database, renamed_database

MOST_GROWTH_BYTES = 4_000_000
LEAVE_MS = 10_000
_THROW_OUT = f"""
    SELECT pg_terminate_backend(pid, {LEAVE_MS}) FROM pg_stat_activity
    WHERE datname = current_database() AND pid <> pg_backend_pid() AND backend_type = 'client backend'
"""
_SHAPE = """
    SELECT string_agg(concat_ws(' ', oid, relname, relnatts, relchecks, relhastriggers, reltuples), ',' ORDER BY oid),
           (SELECT count(*) FROM pg_db_role_setting)
    FROM pg_class WHERE relnamespace = 'public'::regnamespace
"""
_SIZE = "SELECT sum(pg_relation_size(oid)) FROM pg_class WHERE relnamespace = 'public'::regnamespace"
_TABLES = "SELECT relname FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relkind = 'r'"
_SEQUENCES = "SELECT sequencename, last_value, start_value FROM pg_sequences WHERE schemaname = 'public'"


@dataclass(frozen=True, slots=True)
class Pristine:
    """What a template holds: rows in COPY's format by table, sequences with their last and first value."""

    rows: dict[str, bytes]
    sequences: dict[str, tuple[int | None, int]]
    shape: tuple[object, ...]
    size_bytes: int


_pristine: dict[str, Pristine] = {}
_idle: dict[str, list[str]] = {}


@contextmanager
def lent_database(template: str) -> Iterator[str]:
    """The URL of a database like that of `template`, to which nobody may be connected; nobody else uses it."""
    if template not in _pristine:
        _pristine[template] = _look_at(template)
    idle = _idle.setdefault(template, [])
    # Under a new name: who still means to use it for an earlier test does not find it.
    url = renamed_database(idle.pop()) if idle else copied_database(template)
    yield url
    if _put_back(url, _pristine[template]):
        idle.append(url)
    else:
        drop_database(url)


def _look_at(url: str) -> Pristine:
    with _connected(url) as connection:
        rows = {}
        for (table,) in connection.execute(_TABLES).fetchall():
            with connection.cursor().copy(sql.SQL("COPY {} TO STDOUT").format(sql.Identifier(table))) as copied:
                rows[table] = b"".join(bytes(part) for part in copied)
        sequences = {name: (last, first) for name, last, first in connection.execute(_SEQUENCES)}
        return Pristine(rows, sequences, _shape(connection), _size_bytes(connection))


def _put_back(url: str, pristine: Pristine) -> bool:
    """Make its content that of the template; False where more than that is different."""
    with _connected(url) as connection:
        connection.execute(_THROW_OUT)
        if _shape(connection) != pristine.shape or _size_bytes(connection) > pristine.size_bytes + MOST_GROWTH_BYTES:
            return False
        with connection.transaction():
            connection.execute("SET LOCAL session_replication_role = replica")  # foreign keys do not matter meanwhile
            for table, rows in pristine.rows.items():
                connection.execute(sql.SQL("DELETE FROM {}").format(sql.Identifier(table)))
                if rows:
                    statement = sql.SQL("COPY {} FROM STDIN").format(sql.Identifier(table))
                    with connection.cursor().copy(statement) as copied:
                        copied.write(rows)
            for name, (last, first) in pristine.sequences.items():
                connection.execute("SELECT setval(%s, %s, %s)", (name, last or first, last is not None))
    return True


def _shape(connection: psycopg.Connection) -> tuple[object, ...]:
    row = connection.execute(_SHAPE).fetchone()
    assert row is not None
    return row


def _size_bytes(connection: psycopg.Connection) -> int:
    row = connection.execute(_SIZE).fetchone()
    assert row is not None
    return int(row[0])


def _connected(url: str) -> psycopg.Connection:
    plain = make_url(url).set(drivername="postgresql")
    return psycopg.connect(plain.render_as_string(hide_password=False), autocommit=True)
