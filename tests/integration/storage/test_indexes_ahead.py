"""An index of a large table is made while others write to it, once, whoever else makes it and whoever is ended."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from sqlalchemy import Connection, Engine, event, text
from sqlalchemy.exc import OperationalError

from shared.settings import load_settings
from shared.storage.database.engine import open_engine
from shared.storage.database.transactions import read_transaction
from shared.storage.schema.indexes_ahead import ATTEMPTS_INTERNAL, make_indexes_ahead
from shared.storage.schema.migrate import current_revision, migrate, newest_revision
from tests.integration.processes import wait_until
from tests.integration.storage.test_migrations import at
from tests.servers import drop_database, fresh_database, postgres_server

BEFORE = "0018"
ATTEMPT = text(
    "INSERT INTO attempts (delivery_seq, number, claim, started_at, duration_ms, outcome)"
    " VALUES (:seq, 1, 1, now(), 1, 'internal')"
)
VALID = text("SELECT indisvalid FROM pg_index WHERE indexrelid = to_regclass(:name)")
MAKE = f"CREATE INDEX CONCURRENTLY {ATTEMPTS_INTERNAL.name} ON attempts (started_at) WHERE outcome = 'internal'"


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    """A PostgreSQL server for this module."""
    with postgres_server() as url:
        yield url


@pytest.fixture
def engine(server: str) -> Iterator[Engine]:
    """A database of the version before the index."""
    url = fresh_database(server)
    engine = open_engine(load_settings(database_url=url))
    at(engine, BEFORE)
    yield engine
    engine.dispose()
    drop_database(url)


def _state(connection: Connection) -> bool | None:
    """Whether the index can be used; None where there is none."""
    state: bool | None = connection.scalar(VALID, {"name": ATTEMPTS_INTERNAL.name})
    return state


def _valid(engine: Engine) -> bool | None:
    with read_transaction(engine) as connection:
        return _state(connection)


def _number(engine: Engine) -> int:
    """PostgreSQL's number of the index, which another index of its name has not."""
    with read_transaction(engine) as connection:
        return int(connection.scalar(text("SELECT to_regclass(:name)::oid::bigint"), {"name": ATTEMPTS_INTERNAL.name}))


def test_attempts_are_recorded_while_the_index_is_made(engine: Engine) -> None:
    with ThreadPoolExecutor() as threads, engine.connect() as other:
        other.execute(ATTEMPT, {"seq": 1})
        migrating = threads.submit(migrate, engine)
        wait_until(lambda: _valid(engine) is False or migrating.done(), "index that is being made")
        assert not migrating.done(), "it waits for the transaction that was there before"
        with engine.begin() as worker:
            worker.execute(text("SET LOCAL lock_timeout = '5s'"))
            worker.execute(ATTEMPT, {"seq": 2})
        other.commit()
        migrating.result(timeout=60)
    assert _valid(engine)
    with read_transaction(engine) as connection:
        assert current_revision(connection) == newest_revision()


def test_several_make_it_once(engine: Engine) -> None:
    with ThreadPoolExecutor() as threads:
        for made in [threads.submit(migrate, engine) for _ in range(4)]:
            made.result(timeout=120)
    assert _valid(engine)


def test_what_one_that_was_ended_left_is_made_anew(engine: Engine) -> None:
    with (
        engine.connect() as other,
        engine.connect().execution_options(isolation_level="AUTOCOMMIT") as ended,
    ):
        other.execute(ATTEMPT, {"seq": 1})
        ended.execute(text("SET statement_timeout = '200ms'"))
        with pytest.raises(OperationalError):
            ended.execute(text(MAKE))
        other.rollback()
        ended.invalidate()
    assert _valid(engine) is False
    make_indexes_ahead(engine)
    assert _valid(engine)


def test_what_another_finishes_between_two_questions_is_kept(engine: Engine) -> None:
    with (
        ThreadPoolExecutor() as threads,
        engine.connect() as other,
        engine.connect().execution_options(isolation_level="AUTOCOMMIT") as maker,
    ):
        other.execute(ATTEMPT, {"seq": 1})
        making = threads.submit(maker.execute, text(MAKE))
        wait_until(lambda: _valid(engine) is False, "index that is being made")

        def finish(_connection: object, _cursor: object, statement: str, *_more: object) -> None:
            if "pg_stat_progress_create_index" in statement and not making.done():
                other.commit()
                making.result(timeout=60)

        made = _number(engine)
        event.listen(engine, "before_cursor_execute", finish)
        make_indexes_ahead(engine)
    assert making.done()
    assert (_valid(engine), _number(engine)) == (True, made)


def test_an_empty_database_has_nothing_to_make(server: str) -> None:
    url = fresh_database(server)
    engine = open_engine(load_settings(database_url=url))
    make_indexes_ahead(engine)
    assert _valid(engine) is None
    migrate(engine)
    assert _valid(engine)
    engine.dispose()
    drop_database(url)
