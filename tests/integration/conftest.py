"""For every integration test: real servers, migrated and empty databases of both kinds, a receiver, a scene."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from cryptography.fernet import Fernet
from redis import Redis
from sqlalchemy import Engine

from shared.config.server_urls import parse_redis
from shared.messaging.redis_clients import connect
from shared.settings import Settings, load_settings
from shared.storage.database.engine import open_engine
from shared.storage.schema.migrate import migrate
from tests.brokers import redis_cluster
from tests.integration.databases import lent_database
from tests.integration.receiver import Receiver, receiving
from tests.integration.scene import Scene, opened_scene
from tests.servers import fresh_database, postgres_server, valkey_server

SECRET_KEY = Fernet.generate_key().decode()
ADMIN_KEY = "hlk-" + "k" * 33 + "0123456789"


@pytest.fixture(scope="session")
def valkey_url() -> Iterator[str]:
    """A Valkey for the whole session."""
    with valkey_server() as url:
        yield url


@pytest.fixture(scope="session")
def cluster_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A Redis Cluster of three nodes for the whole session, as a URL for the streams."""
    with redis_cluster(tmp_path_factory.mktemp("cluster"), replicas=False) as cluster:
        yield cluster.url


@pytest.fixture
def stream_url(request: pytest.FixtureRequest, valkey_url: str) -> str:
    """The server with the streams, emptied: a Valkey, or a Redis Cluster where `--streams cluster` asks for one."""
    clustered = request.config.getoption("--streams") == "cluster"
    url: str = request.getfixturevalue("cluster_url") if clustered else valkey_url
    with Redis.from_url(valkey_url) as server, connect(parse_redis(url)) as streams:
        server.flushall()
        streams.flushall()
    return url


@pytest.fixture(scope="session")
def postgres_template() -> Iterator[str]:
    """A PostgreSQL database with the schema, as each test gets one."""
    with postgres_server() as server:
        url = fresh_database(server)
        _migrate(url)
        yield url


@pytest.fixture(scope="session")
def sqlite_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An SQLite file with the schema, to be copied for each test."""
    path = tmp_path_factory.mktemp("template") / "hookline.db"
    _migrate(f"sqlite:///{path}")
    return path


def _migrate(url: str) -> None:
    engine = open_engine(load_settings(database_url=url))
    migrate(engine)
    engine.dispose()


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """A migrated, empty database of a test's own, once on SQLite and once on PostgreSQL."""
    with migrated_database(request, tmp_path, request.param) as url:
        yield url


@contextmanager
def migrated_database(request: pytest.FixtureRequest, folder: Path, kind: str) -> Iterator[str]:
    """A database as the template of this kind, `sqlite` or `postgresql`; an SQLite file lies in the folder."""
    if kind == "sqlite":
        template: Path = request.getfixturevalue("sqlite_template")
        yield f"sqlite:///{shutil.copy(template, folder / 'hookline.db')}"
        return
    url: str = request.getfixturevalue("postgres_template")
    with lent_database(url) as own:
        yield own


@pytest.fixture
def settings(database_url: str, valkey_url: str, stream_url: str, tmp_path: Path) -> Settings:
    """Settings on the test's own database and an emptied Valkey."""
    return load_settings(
        data_dir=tmp_path / "data",
        redis_url=stream_url,
        broker_url=valkey_url.removesuffix("/0") + "/1",
        database_url=database_url,
        secret_keys=SECRET_KEY,
        admin_api_key=ADMIN_KEY,
        allowed_networks="127.0.0.0/8",
        partitions=4,
        reload_interval="0s",
    )


@pytest.fixture
def engine(settings: Settings) -> Iterator[Engine]:
    """An engine on the test's own database."""
    engine = open_engine(settings)
    yield engine
    engine.dispose()


@pytest.fixture
def redis(settings: Settings) -> Iterator[Redis]:
    """A client of the emptied Valkey."""
    with connect(parse_redis(settings.stream_url)) as redis:
        yield redis


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    """A running receiver."""
    with receiving() as receiver:
        yield receiver


@pytest.fixture
def scene(settings: Settings, redis: Redis, receiver: Receiver) -> Iterator[Scene]:
    """An entity `acme` on both databases."""
    with opened_scene(settings, redis, receiver) as scene:
        yield scene
