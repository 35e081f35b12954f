"""What a new release does to the database of a running system: from the released schema, and from this one onwards."""

from __future__ import annotations

from alembic import command
from alembic.config import Config
from sqlalchemy import text
from sqlalchemy.exc import SQLAlchemyError

from shared.storage.database.engine import open_engine
from shared.storage.database.transactions import read_transaction, write_transaction
from shared.storage.schema.migrate import MIGRATIONS, current_revision, newest_revision
from tests.faults.stage import START_SECONDS, Release, Stage, ready
from tests.integration.processes import wait_until

RELEASED = "0002"
"""The schema of version 0.1.0, the release before this one."""


def go_back(scene: Stage) -> None:
    """Bring the stage to where the earlier release leaves it.

    With a checkout of that release its processes run on its schema already. Without one this release's processes are
    there too early, as where somebody deploys before migrating: none of them may do harm, and none may say it is ready.
    """
    if _revision(scene) != RELEASED:
        parts = list(scene.parts)
        scene.stop()
        _downgrade(scene)
        for name in parts:
            scene.start(name)
        assert not ready(scene.settings.url)


def deploy(scene: Stage) -> None:
    """Migrate to this release's schema, by two deployers at once; what starts from now on is this release."""
    scene.release = Release()
    deployers = [scene.init() for _ in "ab"]
    assert [deployer.wait(timeout=START_SECONDS) for deployer in deployers] == [0, 0]
    assert _revision(scene) == newest_revision()


def grow(scene: Stage) -> None:
    """Deploy as before, and then let the schema grow as a later release may."""
    deploy(scene)
    wait_until(lambda: _grown(scene), "migration under load")


def _revision(scene: Stage) -> str | None:
    engine = open_engine(scene.settings)
    try:
        with read_transaction(engine) as connection:
            return current_revision(connection)
    finally:
        engine.dispose()


def _downgrade(scene: Stage) -> None:
    engine, config = open_engine(scene.settings), Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    with write_transaction(engine) as connection:
        config.attributes["connection"] = connection
        command.downgrade(config, RELEASED)
    engine.dispose()


def _grown(scene: Stage) -> bool:
    """Add columns and an index to the busiest tables and drop them; False where a deadlock chose the migration."""
    engine = open_engine(scene.settings)
    steps = (
        "ALTER TABLE deliveries ADD COLUMN grown text, ADD COLUMN counted integer NOT NULL DEFAULT 0",
        "ALTER TABLE pending_deliveries ADD COLUMN grown integer",
        "ALTER TABLE webhooks ADD COLUMN grown text",
        "ALTER TABLE partitions ADD COLUMN grown text",
        "CREATE INDEX ix_grown ON deliveries (created_at, counted)",
        "DROP INDEX ix_grown",
        "ALTER TABLE deliveries DROP COLUMN grown, DROP COLUMN counted",
        *(f"ALTER TABLE {table} DROP COLUMN grown" for table in ("pending_deliveries", "webhooks", "partitions")),
    )
    try:
        with write_transaction(engine) as connection:
            for step in steps:
                connection.execute(text(step))
    except SQLAlchemyError:
        return False
    finally:
        engine.dispose()
    return True
