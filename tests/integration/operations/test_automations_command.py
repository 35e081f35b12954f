"""`celery -A worker automations …`: through click's runner on both databases, and once as an operator's own process."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from sqlalchemy import Engine, select

import worker.commands.output
from shared.messaging.edits import revision_key
from shared.settings import Settings
from shared.storage.database.transactions import read_transaction, write_transaction
from shared.storage.definitions.entities import find_entity, insert_entity
from shared.storage.definitions.revisions import current_revision_value
from shared.storage.schema.tables import audit_log, deliveries
from shared.storage.schema.tables import automations as automations_table
from tests.integration.processes import ROOT, environment
from tests.integration.scene import Scene, alias_event, metric_event
from worker.commands.automations import automations


class Operator:
    """Runs the group's commands on a scene's storage."""

    def __init__(self, scene: Scene) -> None:
        self.scene = scene

    def run(self, *arguments: str, code: int = 0, given: object = None) -> Result:
        """One command that must end with this status."""
        text = given if isinstance(given, str | None) else json.dumps(given)
        result = CliRunner().invoke(automations, arguments, input=text)
        assert result.exit_code == code, (result.output, result.exception)
        return result

    def json(self, *arguments: str, code: int = 0, given: object = None) -> Any:
        """The JSON that a command answers."""
        return json.loads(self.run(*arguments, "--json", code=code, given=given).stdout)


@pytest.fixture
def operator(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> Operator:
    """An operator of the scene, whose storage is what the environment would name."""

    @contextmanager
    def opened() -> Iterator[tuple[Settings, Engine]]:
        yield scene.settings, scene.process.engine

    monkeypatch.setattr("worker.commands.automations.opened", opened)
    return Operator(scene)


def test_an_event_is_explained_as_a_tree(operator: Operator) -> None:
    operator.scene.automation(None, name="promoted", filter={"alias": {"$regex": "^prod"}})

    result = operator.run("explain", "acme", "promoted", "--event", "-", code=1, given=alias_event("latest"))

    assert "no_match (filter)" in result.stdout
    assert '✗ alias $regex "^prod"  ← "latest"' in result.stdout
    assert "✓ event is ADD_ARTIFACT_ALIAS" in result.stdout
    assert "promoted: of 1 events 1 in scope, 0 matched, 0 would fire, 0 would be skipped" in result.stdout
    assert operator.scene.rows() == []


@pytest.mark.parametrize("form", ["list", "lines"])
def test_events_of_a_file_are_tried_in_order(operator: Operator, tmp_path: Path, form: str) -> None:
    condition = {"metric": "acc", "op": "$gte", "threshold": 0.5}
    number = operator.scene.automation(None, event="RUN_METRIC", conditions=[condition])
    events = [metric_event(step, acc=value) for step, value in enumerate((0.1, 0.6, 0.7))]
    path = tmp_path / "events"
    path.write_text(json.dumps(events) if form == "list" else "\n".join(map(json.dumps, events)))

    answer = operator.json("explain", "acme", f"aut_{number}", "--event", str(path))
    fired = operator.json("explain", "acme", f"aut_{number}", "--event", str(path), "--only", "fired")

    assert [one["reason"] for one in answer["results"]] == ["conditions", None, "already_true"]
    assert [one["event"]["id"] for one in fired["results"]] == [events[1]["id"]]
    assert fired["summary"] == answer["summary"]


def test_a_span_is_explained_and_stored_state_is_used_when_asked_for(operator: Operator) -> None:
    scene = operator.scene
    scene.automation(scene.webhook(), name="promoted", filter={"alias": "prod"}, payload={"alias": "${alias}"})
    event = alias_event("prod")
    scene.publish(event, alias_event("latest"))
    scene.evaluate()
    rows = scene.rows()

    answer = operator.json("explain", "acme", "promoted", "--since", "1h")
    repeated = operator.json("explain", "acme", "promoted", "--event", "-", "--with-state", code=1, given=event)
    operator.run("explain", "acme", "promoted", "--since", "2h", "--until", "1h", code=1)

    assert answer["summary"] == {"events": 2, "in_scope": 2, "matched": 1, "fired": 1, "skipped": 0}
    assert [one["payload"] for one in answer["results"] if one["outcome"] == "fired"] == [{"alias": "prod"}]
    assert repeated["results"][0]["reason"] == "repeated"
    assert repeated["results"][0]["decisive"][0]["value"] == rows[0].id
    assert scene.rows() == rows


@pytest.mark.parametrize(
    ("arguments", "given", "message"),
    [
        (["acme", "absent", "--since", "1h"], None, "automation: no automation of entity 'acme'"),
        (["nobody", "promoted", "--since", "1h"], None, "entity: there is no entity 'nobody'"),
        (["acme", "promoted", "--since", "soon"], None, "since: must be a time"),
        (["acme", "promoted", "--event", "-"], "{", "event: is not JSON"),
        (["acme", "promoted", "--event", "-"], {}, "event.type: must be one of"),
        (["acme", "promoted", "--event", "-"], [], "events: must be a list of 1 to 1000"),
        (["acme", "promoted", "--event", "-"], [alias_event(), alias_event(author=7)], "events.1.data.author: "),
        (["acme", "promoted", "--event", "-"], "{}\n{", "events.1: is not JSON"),
        (["acme", "promoted"], None, "either --event or --since"),
        (["acme", "promoted", "--event", "-", "--until", "1h"], {}, "--until belongs to --since"),
        (["acme", "promoted", "--since", "1h", "--with-state"], None, "--with-state belongs to --event"),
        (["acme", "promoted", "--since", "1h", "--only", "never"], None, "Invalid value for '--only'"),
    ],
)
def test_bad_input_is_told_in_one_line_and_ends_with_2(
    operator: Operator, arguments: list[str], given: object, message: str
) -> None:
    operator.scene.automation(None, name="promoted")

    result = operator.run("explain", *arguments, code=2, given=given)

    assert message in result.stderr
    assert result.stdout == ""


def test_streams_that_are_away_are_told_in_one_line(
    operator: Operator, scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    scene.automation(None, name="promoted")
    away = scene.settings.model_copy(update={"redis_url": "redis://127.0.0.1:1/0"})

    @contextmanager
    def opened() -> Iterator[tuple[Settings, Engine]]:
        yield away, scene.process.engine

    monkeypatch.setattr("worker.commands.automations.opened", opened)

    result = operator.run("explain", "acme", "promoted", "--since", "1h", code=2)

    (line,) = result.stderr.splitlines()
    assert line.startswith("hookline: the event streams can't be read: ")


def test_an_automation_is_switched_off_and_on_under_new_revisions(operator: Operator) -> None:
    scene = operator.scene
    number = scene.automation(None, name="promoted")

    def stored() -> Any:
        with read_transaction(scene.process.engine) as connection:
            return connection.execute(select(automations_table)).one()

    before = stored()
    off = operator.run("disable", "promoted")
    after = stored()
    scene.publish(alias_event("prod"))
    scene.evaluate()
    unheard = scene.rows()
    again = operator.run("disable", "promoted")
    same = stored()
    on = operator.json("enable", f"aut_{number}", "--entity", "acme")
    scene.publish(alias_event("prod"))
    scene.evaluate()

    assert off.stdout == f"acme/promoted (aut_{number}) is disabled\n"
    assert again.stdout == f"acme/promoted (aut_{number}) was already disabled\n"
    assert (after.enabled, after.definition["enabled"]) == (False, False)
    assert after.revision > before.revision
    assert after.epoch == after.revision
    assert same == after
    assert unheard == []
    assert (on["enabled"], on["changed"], on["name"]) == (True, True, "promoted")
    assert len(scene.rows()) == 1
    with read_transaction(scene.process.engine) as connection:
        changes = connection.execute(select(audit_log)).all()
    assert [(change.user_name, change.action, change.detail["changed"]) for change in changes] == [
        ("operator (command line)", "automation.update", ["enabled"])
    ] * 2


def test_a_name_in_several_entities_needs_the_entity(operator: Operator) -> None:
    scene = operator.scene
    scene.automation(None, name="promoted")
    with write_transaction(scene.process.engine) as connection:
        insert_entity(connection, name="zeta", kind="team", parent_id=None, now=datetime.now(UTC))
        other = find_entity(connection, "zeta")
    assert other is not None
    scene.entity_id = other.id
    scene.automation(None, name="promoted")

    refused = operator.run("disable", "promoted", code=2)
    operator.run("disable", "promoted", "--entity", "zeta")
    rows = operator.json("list")

    assert "give --entity, of acme, zeta" in refused.stderr
    assert [(row["entity"], row["enabled"]) for row in rows] == [("acme", True), ("zeta", False)]
    assert [row["entity"] for row in operator.json("list", "--entity", "zeta")] == ["zeta"]
    assert "promoted" in operator.run("list").stdout


def test_a_disabled_automation_says_so(operator: Operator) -> None:
    operator.scene.automation(None, name="promoted", enabled=False)

    answer = operator.json("explain", "acme", "promoted", "--event", "-", code=1, given=alias_event())

    assert answer["results"][0]["reason"] == "automation_disabled"


CELERY = [sys.executable, "-m", "celery", "-A", "worker"]


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_the_real_command_explains_without_a_worker(scene: Scene) -> None:
    scene.automation(scene.webhook(), name="promoted", payload={"alias": "${alias}"})

    def celery(*arguments: str, given: object = None) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*CELERY, *arguments],
            input=json.dumps(given),
            env=environment(scene.settings),
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    helped = celery("--help")
    told = celery("automations", "explain", "acme", "promoted", "--event", "-", given=alias_event("prod"))
    broken = celery("automations", "explain", "acme", "promoted", "--event", "-", given={"type": "RUN_STATE"})
    disabled = celery("automations", "disable", "promoted")

    assert "automations  Hookline: list, enable, disable and explain automations." in helped.stdout
    assert told.returncode == 0, told.stderr
    assert 'payload {"alias":"prod"}' in told.stdout
    assert told.stderr == ""
    assert broken.returncode == 2
    assert "hookline: event.specversion: is required" in broken.stderr
    assert disabled.returncode == 0, disabled.stderr
    with read_transaction(scene.process.engine) as connection:
        assert connection.execute(select(deliveries)).all() == []
        assert (
            scene.process.redis.get(revision_key(scene.redis, 0)) == str(current_revision_value(connection)).encode()
        ), "workers are told"


@pytest.mark.parametrize("group", ["automations", "deliveries", "secrets", "streams", "webhooks"])
def test_the_groups_import_nothing_that_a_worker_must_not_import_early(group: str) -> None:
    code = f"import sys, worker.commands.{group}; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)

    assert "worker.commands.output" in loaded.stdout.split()
    assert not {"prometheus_client", "sqlalchemy", "redis", "shared"} & set(loaded.stdout.split())
    assert worker.commands.output.UNUSABLE == 2


def test_a_run_is_plotted(operator: Operator) -> None:
    condition = {"metric": "acc", "op": "$gt", "threshold": 0.5}
    number = operator.scene.automation(None, event="RUN_METRIC", conditions=[condition])
    operator.scene.publish(*(metric_event(step, acc=step / 4) for step in range(5)))
    operator.scene.evaluate()
    name = f"aut_{number}"
    plotted = operator.run("explain", "acme", name, "--plot", "--run", "r1", "--project", "digits")
    assert "▲ fired (1)" in plotted.stdout
    assert "acc $gt 0.5" in plotted.stdout
    found = operator.json("explain", "acme", name, "--plot", "--run", "r1", "--project", "digits")
    outcomes = [point["outcome"] for point in found["series"][0]["points"]]
    assert outcomes == ["no_match", "no_match", "no_match", "fired", "no_match"]
    operator.run("explain", "acme", name, "--plot", code=2)
    operator.run("explain", "acme", name, "--plot", "--run", "r1", code=2)
    nothing = operator.run("explain", "acme", name, "--plot", "--run", "r9", "--project", "digits")
    assert "no sample of run r9" in nothing.stdout
