"""No command of operators lets names, events or answers of others give orders to the terminal."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager

import click
import pytest
from click.testing import CliRunner
from sqlalchemy import Engine, update

from shared.settings import Settings
from shared.storage.database.transactions import write_transaction
from shared.storage.schema.tables import automations as automations_table
from shared.storage.schema.tables import webhooks as webhooks_table
from tests.integration.receiver import Answer
from tests.integration.scene import Scene, alias_event
from tests.unit.domain.test_visible_text import raw_controls
from worker.commands import automations, deliveries, streams, webhooks

SEEN = "\x9b2J\x85\u202egnp\u2066\u200f"
"""What names of older versions, and those in events, may hold."""
OBEYED = f"\x1b[2J\x1b]0;PWNED\x07{SEEN}\x7f\r\nforged line\t\b\b"
GROUPS = {"automations": automations, "deliveries": deliveries, "streams": streams, "webhooks": webhooks}


@pytest.fixture
def operated(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> Scene:
    """A scene with hostile names, one delivery that was answered hostilely, and what the environment would name."""

    @contextmanager
    def opened() -> Iterator[tuple[Settings, Engine]]:
        yield scene.settings, scene.process.engine

    for group in GROUPS.values():
        monkeypatch.setattr(group, "opened", opened)
    hook = scene.webhook("hook")
    made = scene.automation(
        hook, name=f"automation {SEEN}", description=OBEYED, filter={"alias": f"prod{SEEN}"}, payload={"a": OBEYED}
    )
    scene.receiver.answer = lambda _request: Answer(400, body=OBEYED.encode())
    event = alias_event(f"prod{SEEN}", event_id=f"event {SEEN}", collection=f"llm {SEEN}") | {"source": f"/s {SEEN}"}
    scene.publish(event)
    scene.evaluate()
    scene.deliver()
    with write_transaction(scene.process.engine) as connection:
        connection.execute(
            update(webhooks_table)
            .where(webhooks_table.c.id == hook)
            .values(disabled_reason=OBEYED, name=f"hook {SEEN}")
        )
        connection.execute(
            update(automations_table).where(automations_table.c.id == made).values(name=f"automation {SEEN}")
        )
    return scene


def _commands() -> Iterator[tuple[str, ...]]:
    """Each command of each group, and `--json` where it has that."""
    for name, module in GROUPS.items():
        group = getattr(module, name)
        assert isinstance(group, click.Group)
        for command in sorted(group.commands):
            options = {option for parameter in group.commands[command].params for option in parameter.opts}
            for more in ((), ("--json",)) if "--json" in options else ((),):
                yield (name, command, *more)


@pytest.mark.parametrize("command", [*_commands()], ids=" ".join)
def test_a_command_prints_nothing_that_a_terminal_obeys(operated: Scene, command: tuple[str, ...]) -> None:
    group, name, *more = command
    (delivery,) = operated.rows()
    arguments: dict[str, list[str]] = {
        "automation": [f"automation {SEEN}"],
        "entity": ["acme"],
        "webhook": ["wh_1"],
        "delivery": [delivery.id],
        "revision": ["1"],
    }
    parameters = getattr(GROUPS[group], group).commands[name].params
    given = [
        value
        for parameter in parameters
        if isinstance(parameter, click.Argument) and parameter.name is not None
        for value in arguments.get(parameter.name, ["1"])
    ]
    if name == "explain":
        given += ["--event", "-"]
    tried = alias_event(f"prod{SEEN}", event_id=f"event {SEEN} again", author=SEEN)
    result = CliRunner().invoke(
        getattr(GROUPS[group], group), [name, *given, *more], input=json.dumps(tried), color=True
    )
    assert result.exception is None or isinstance(result.exception, SystemExit), result.output
    shown = click.unstyle(result.output)
    assert raw_controls(shown) == [], shown
    if (group, name) == ("deliveries", "show") and not more:
        assert "\\x1b[2J" in shown
        assert not any(line.startswith("forged") for line in shown.splitlines())


@pytest.mark.parametrize("wrong", [f"no {SEEN}", f"no {OBEYED}"])
def test_what_is_wrong_is_told_without_it(operated: Scene, wrong: str) -> None:
    for group in (automations.automations, webhooks.webhooks, deliveries.deliveries):
        result = CliRunner().invoke(group, ["show", wrong])
        assert result.exit_code != 0
        assert raw_controls(result.output) == []
