"""Engines: what a cut-off database may cost and how many connections a process opens are bounded."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import psycopg
from sqlalchemy import Engine, text
from sqlalchemy.pool import QueuePool

from shared.settings import load_settings
from shared.storage.engine import POSTGRES_OPTIONS, open_engine, writing


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
        with writing(engine) as connection:
            found = connection.scalar(text("SELECT count(*) FROM entities"))
            assert found is not None
            assert isinstance(engine.pool, QueuePool)
            return engine.pool.checkedout()

    with ThreadPoolExecutor(100) as pool:
        in_use = list(pool.map(count, range(100), timeout=60))
    engine.dispose()
    assert 1 <= max(in_use) <= 3
