"""Moving to another database: every row is there, numbers go on, and what was pending is delivered from the new one."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from redis import Redis
from sqlalchemy import Engine, insert, select

from dispatcher.cli import main
from shared.settings import Settings, load_settings
from shared.storage.database.engine import open_engine
from shared.storage.database.transactions import read_transaction, write_transaction
from shared.storage.definitions.entities import insert_entity
from shared.storage.schema.tables import entities, metadata
from tests.integration.processes import environment
from tests.integration.receiver import Answer, Receiver
from tests.integration.scene import Scene, alias_event, metric_event, opened_scene
from tests.servers import drop_database, fresh_database

pytestmark = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)


@pytest.fixture
def target_url(postgres_template: str) -> Iterator[str]:
    """An empty database on PostgreSQL, without any table."""
    url = fresh_database(postgres_template)
    yield url
    drop_database(url)


def content(engine: Engine) -> dict[str, list[tuple[Any, ...]]]:
    """Every row of every table."""
    with read_transaction(engine) as connection:
        return {
            table.name: [tuple(row) for row in connection.execute(select(table).order_by(*table.primary_key))]
            for table in metadata.sorted_tables
        }


def copy(settings: Settings, target: str) -> Any:
    variables = environment(settings.model_copy(update={"database_url": target}))
    return CliRunner().invoke(main, ["copy-database", settings.sqlalchemy_url], env=variables)


def test_a_copy_has_everything_and_goes_on(scene: Scene, target_url: str, redis: Redis, receiver: Receiver) -> None:
    receiver.answer = lambda request: Answer(204 if request.json["event"] == "first" else 503, body=b"")
    scene.secret("TOKEN", "s" * 20)
    hook = scene.webhook(access_token="TOKEN", policy={"schedule_seconds": (0.0, 0.0, 3600.0)})
    scene.automation(hook, payload={"event": "${event_id}"})
    conditions = [{"metric": "loss", "aggregate": "AVERAGE", "window": 3, "op": "$gt", "threshold": 1}]
    scene.automation(None, event="RUN_METRIC", conditions=conditions)
    _make_a_team_before_its_organization(scene)
    scene.publish(alias_event(event_id="first"), alias_event(event_id="second"), metric_event(1, loss=2))
    scene.evaluate()
    scene.deliver()
    assert [row.status for row in scene.rows()] == ["delivered", "pending"]
    before = content(scene.process.engine)

    result = copy(scene.settings, target_url)

    assert result.exit_code == 0, result.output
    assert "deliveries: 2" in result.output.splitlines()
    target = load_settings(**scene.settings.model_dump() | {"database_url": target_url})
    engine = open_engine(target)
    assert content(engine) == before
    assert all(before[name] for name in ("attempts", "metric_windows", "pending_deliveries", "secrets", "partitions"))
    engine.dispose()
    receiver.answer = lambda _request: Answer(204, body=b"")
    with opened_scene(target, redis, receiver, new=False) as moved:
        moved.publish(alias_event(event_id="third"))
        moved.evaluate()
        moved.deliver()
        assert [(row.seq, row.event_id, row.status) for row in moved.rows()][2:] == [(3, "third", "delivered")]
        assert receiver.requests[-1].headers["authorization"] == f"Bearer {'s' * 20}"


def _make_a_team_before_its_organization(scene: Scene) -> None:
    """A row that refers to a later one of its own table."""
    with write_transaction(scene.process.engine) as connection:
        organization = {"id": 900, "name": "org", "kind": "organization", "parent_id": None}
        team = {"id": 800, "name": "team", "kind": "team", "parent_id": 900}
        now = connection.execute(select(entities.c.created_at).limit(1)).scalar_one()
        connection.execute(insert(entities), [one | {"created_at": now} for one in (organization, team)])


def test_a_database_with_rows_is_left_alone(scene: Scene, database_url: str, target_url: str) -> None:
    assert copy(scene.settings, target_url).exit_code == 0
    again = copy(scene.settings, target_url)
    assert again.exit_code == 2
    assert "the target has rows already, in entities" in again.output


@pytest.mark.parametrize(
    ("source", "complaint"),
    [
        ("sqlite:////nonexistent/hookline.db", "there is no SQLite database /nonexistent/hookline.db"),
        ("sqlite:///{folder}/empty.db", "the source has schema None"),
        ("postgresql://127.0.0.1:9/hookline", "can't copy: "),
        ("mysql://127.0.0.1/hookline", "HOOKLINE_DATABASE_URL"),
    ],
)
def test_a_source_that_can_t_be_read_is_told(
    settings: Settings, target_url: str, tmp_path: Path, source: str, complaint: str
) -> None:
    (tmp_path / "empty.db").touch()
    variables = environment(settings.model_copy(update={"database_url": target_url}))
    result = CliRunner().invoke(main, ["copy-database", source.format(folder=tmp_path)], env=variables)
    assert result.exit_code == 2
    assert complaint in result.output
    assert result.output.count("\n") == 1


def test_nothing_is_kept_of_a_copy_that_fails(scene: Scene, target_url: str) -> None:
    """SQLite holds texts that PostgreSQL refuses."""
    with write_transaction(scene.process.engine) as connection:
        now = connection.execute(select(entities.c.created_at).limit(1)).scalar_one()
        insert_entity(connection, name="nul\0", kind="team", parent_id=None, now=now)
    result = copy(scene.settings, target_url)
    assert result.exit_code == 2
    assert "can't copy: " in result.output
    engine = open_engine(load_settings(database_url=target_url))
    with read_transaction(engine) as connection:
        assert connection.execute(select(entities)).all() == []
    engine.dispose()
