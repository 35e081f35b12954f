"""For tests of the console: one world for all tests of a process, which change only what they made themselves."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.api.console.world import World, opened_world


@pytest.fixture(scope="session")
def bare_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An SQLite file with the schema and nothing in it."""
    from shared.settings import load_settings
    from shared.storage.database.engine import open_engine
    from shared.storage.schema.migrate import migrate

    path = tmp_path_factory.mktemp("console-template") / "hookline.db"
    engine = open_engine(load_settings(database_url=f"sqlite:///{path}"))
    migrate(engine)
    engine.dispose()
    return path


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory, bare_template: Path) -> Iterator[World]:
    """A running service with something of everything; of one module, since tests leave things in it."""
    with opened_world(tmp_path_factory.mktemp("console-world"), bare_template) as world:
        yield world
