"""Engines: what a cut-off database may cost and how many connections a process opens are bounded."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import quote

import psycopg
import pytest
from sqlalchemy import Engine, text
from sqlalchemy.exc import DBAPIError, OperationalError
from sqlalchemy.pool import QueuePool

from shared.settings import load_settings
from shared.storage.database.engine import POSTGRES_OPTIONS, SESSION, open_engine
from shared.storage.database.transactions import write_transaction
from tests.integration.processes import wait_until


def _options(engine: Engine) -> dict[str, str]:
    """What libpq makes of the connection's options."""
    with engine.connect() as connection:
        driver = connection.connection.driver_connection
        assert isinstance(driver, psycopg.Connection)
        return {one.keyword.decode(): (one.val or b"").decode() for one in driver.pgconn.info}


def test_a_database_that_is_cut_off_is_given_up(postgres_template: str) -> None:
    engine = open_engine(load_settings(database_url=postgres_template))
    found = _options(engine)
    engine.dispose()
    assert {name: found[name] for name in POSTGRES_OPTIONS} == {n: str(v) for n, v in POSTGRES_OPTIONS.items()}


def test_the_url_has_the_last_word(postgres_template: str) -> None:
    url = f"{postgres_template}{'&' if '?' in postgres_template else '?'}connect_timeout=3&tcp_user_timeout=900"
    engine = open_engine(load_settings(database_url=url))
    found = _options(engine)
    engine.dispose()
    assert (found["connect_timeout"], found["tcp_user_timeout"]) == ("3", "900")
    assert found["keepalives_idle"] == "10"


def test_more_threads_than_connections_take_turns(database_url: str) -> None:
    engine = open_engine(load_settings(database_url=database_url, database_connections=3))
    started = threading.Barrier(100)

    def count(_number: int) -> int:
        started.wait(timeout=20)
        with write_transaction(engine) as connection:
            found = connection.scalar(text("SELECT count(*) FROM entities"))
            assert found is not None
            assert isinstance(engine.pool, QueuePool)
            return engine.pool.checkedout()

    with ThreadPoolExecutor(100) as pool:
        in_use = list(pool.map(count, range(100), timeout=60))
    engine.dispose()
    assert 1 <= max(in_use) <= 3


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_who_waits_for_another_writer_of_the_process_holds_no_connection(engine: Engine) -> None:
    assert isinstance(engine.pool, QueuePool)
    asked, written = threading.Event(), threading.Event()

    def write() -> None:
        asked.set()
        with write_transaction(engine) as connection:
            connection.execute(text("DELETE FROM entities"))
            written.set()

    waiting = threading.Thread(target=write)
    with pytest.raises(ZeroDivisionError), write_transaction(engine):
        waiting.start()
        assert asked.wait(20)
        assert not written.wait(0.1)
        assert engine.pool.checkedout() == 1
        raise ZeroDivisionError  # and a turn ends that way as well
    assert written.wait(20)
    waiting.join(20)


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_a_writer_that_does_not_get_its_turn_finds_the_database_locked(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shared.storage.database.transactions.SQLITE_BUSY_SECONDS", 0.01)
    with write_transaction(engine), ThreadPoolExecutor(1) as pool:
        refused = pool.submit(write_transaction(engine).__enter__).exception(20)
    assert isinstance(refused, OperationalError)
    assert "database is locked" in str(refused)


def test_an_error_tells_no_parameter(database_url: str) -> None:
    engine = open_engine(load_settings(database_url=database_url))
    for given in ({"value": "s3cr3t"}, [{"value": "s3cr3t"}] * 2):
        with pytest.raises(DBAPIError) as raised, write_transaction(engine) as connection:
            connection.execute(text("UPDATE no_such_table SET value = :value"), given)
        assert "no_such_table" in str(raised.value) and "s3cr3t" not in str(raised.value)
    engine.dispose()


def _session(engine: Engine) -> dict[str, str]:
    """What the server goes by, of what it is asked for."""
    names = list(SESSION)
    with engine.connect() as connection:
        return {name: connection.exec_driver_sql(f"SHOW {name}").scalar_one() for name in names}


def test_a_client_that_is_cut_off_within_a_transaction_is_given_up(postgres_template: str) -> None:
    engine = open_engine(load_settings(database_url=postgres_template))
    with engine.connect():
        pass  # returned to the pool, whose reset must not undo it
    found = _session(engine)
    engine.dispose()
    assert found["idle_in_transaction_session_timeout"] == "10s"


def _with_options(url: str, options: str) -> Engine:
    joint = "&" if "?" in url else "?"
    return open_engine(load_settings(database_url=f"{url}{joint}options={quote(options)}"))


def test_who_was_given_up_finds_a_lost_connection_and_goes_on_with_another(postgres_template: str) -> None:
    engine = _with_options(postgres_template, "-c idle_in_transaction_session_timeout=50ms")
    with engine.connect() as watching:  # outside of any transaction after each look
        watching = watching.execution_options(isolation_level="AUTOCOMMIT")
        with pytest.raises(OperationalError) as refused, write_transaction(engine) as connection:
            pid = connection.exec_driver_sql("SELECT pg_backend_pid()").scalar_one()
            alive = text("SELECT count(*) FROM pg_stat_activity WHERE pid = :pid")
            wait_until(
                lambda: watching.execute(alive, {"pid": pid}).scalar_one() == 0, "end of the session", seconds=20
            )
            connection.exec_driver_sql("SELECT 1")
    assert refused.value.connection_invalidated
    with write_transaction(engine) as connection:
        assert connection.exec_driver_sql("SELECT 1").scalar_one() == 1
    engine.dispose()


def test_the_url_s_options_have_the_last_word(postgres_template: str) -> None:
    engine = _with_options(postgres_template, "-c idle_in_transaction_session_timeout=42s")
    found = _session(engine)
    engine.dispose()
    assert found["idle_in_transaction_session_timeout"] == "42s"
