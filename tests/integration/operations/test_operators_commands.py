"""`celery -A worker webhooks`, `deliveries` and `streams`, through click's runner on both databases."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import click
import pytest
import time_machine
from click.shell_completion import ShellComplete
from click.testing import CliRunner
from cryptography.fernet import Fernet
from pydantic import SecretStr
from sqlalchemy import Engine, select

from shared.settings import Settings
from shared.storage.database.transactions import read_transaction
from shared.storage.schema.tables import webhooks as webhooks_table
from tests.authority import Authority
from tests.integration.receiver import Answer
from tests.integration.scene import Scene, alias_event
from worker.commands.automations import automations
from worker.commands.deliveries import deliveries
from worker.commands.streams import streams
from worker.commands.webhooks import webhooks


@pytest.fixture
def operated(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> Scene:
    """A scene whose storage is what the environment would name."""

    @contextmanager
    def opened() -> Iterator[tuple[Settings, Engine]]:
        yield scene.settings, scene.process.engine

    for group in ("automations", "webhooks", "deliveries", "streams", "completion"):
        monkeypatch.setattr(f"worker.commands.{group}.opened", opened)
    return scene


def run(group: click.Group, *arguments: str, code: int = 0) -> str:
    result = CliRunner().invoke(group, arguments)
    assert result.exit_code == code, (result.output, result.exception)
    return result.stdout


def answer(group: click.Group, *arguments: str, code: int = 0) -> Any:
    return json.loads(run(group, *arguments, "--json", code=code))


def test_the_memory_of_the_streams_is_shown(operated: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = operated.settings
    monkeypatch.setattr("shared.settings.load_settings", lambda: settings)
    empty = answer(streams, "memory")
    assert empty["total"]["length"] == 0
    assert {(row["length"], row["bytes"], row["oldest"], row["newest"]) for row in empty["partitions"]} == {
        (0, 0, None, None)
    }
    operated.publish(alias_event(event_id="e1"), alias_event(event_id="e2"))
    found = answer(streams, "memory")
    assert len(found["partitions"]) == settings.partitions
    (held,) = (row for row in found["partitions"] if row["length"])
    assert held["length"] == found["total"]["length"] == 2
    assert held["bytes"] == found["total"]["streams_bytes"] > 100
    assert held["oldest"] <= held["newest"]
    assert found["total"]["used_bytes"] == found["total"]["streams_bytes"] + found["total"]["other_bytes"]
    assert 0 < found["total"]["fill"] < 1
    assert "streams: 2 entries" in run(streams, "memory")
    run(streams, "memory", "--max-fill", "0.9999")
    run(streams, "memory", "--max-fill", "0", code=1)
    run(streams, "memory", "--max-fill", "much", code=2)
    settings = operated.settings.model_copy(update={"redis_url": "redis://127.0.0.1:1/0"})
    run(streams, "memory", code=2)


def test_dead_letters_are_found_shown_and_replayed_once(operated: Scene) -> None:
    hook = operated.webhook()
    operated.automation(hook)
    operated.receiver.answer = lambda _request: Answer(404, {"X-Request-Id": "7f2c"})
    operated.publish(alias_event(event_id="e1"), alias_event(event_id="e2"))
    assert answer(streams, "lag")["total"]["entries"] == 2
    assert "2 entries wait" in run(streams, "lag")
    operated.evaluate()
    operated.deliver()

    rows = answer(deliveries, "list", "--status", "refused", "--webhook", "hook", "--since", "1h")
    assert (
        answer(deliveries, "list", "--status", "refused", "--status", "dead", "--event-type", rows[0]["event_type"])
        == rows
    )
    assert (
        answer(deliveries, "list", "--project", rows[0]["project"], "--response-code", "404", "--min-attempts", "1")
        == rows
    )
    run(deliveries, "list", "--run", "nobody", "--reason", "nothing", "--max-attempts", "3", code=1)
    run(deliveries, "list", "--event-type", "lost", code=2)
    shown = answer(deliveries, "show", rows[0]["id"])
    run(deliveries, "replay", code=2)
    assert "2 deliveries would be replayed" in run(deliveries, "replay", "--status", "refused", "--dry-run")
    made = answer(deliveries, "replay", "--status", "refused", "--rate", "10/s", "--yes")
    run(deliveries, "replay", "--status", "refused", "--yes", code=1)

    assert {row["event_id"] for row in rows} == {"e1", "e2"}
    assert {row["entity"] for row in rows} == {"acme"}
    [attempt] = shown["attempt_log"]
    assert (attempt["status_code"], attempt["request"]["url"]) == (404, f"{operated.receiver.url}/hook")
    assert attempt["request"]["headers"]["hookline-attempt"] == "1"
    assert {"name": "X-Request-Id", "value": "7f2c"} in attempt["response_headers"]
    printed = run(deliveries, "show", rows[0]["id"])
    for told in (f"POST {operated.receiver.url}", "webhook-id: dlv_", "X-Request-Id: 7f2c", "first byte"):
        assert told in printed
    assert len(made["replays"]) == len(operated.pending()) == 2
    assert {row["replay_of"] for row in answer(deliveries, "list", "--status", "pending")} == {r["id"] for r in rows}
    assert "refused" in run(deliveries, "list", "--status", "refused")
    run(deliveries, "list", "--status", "dead", code=1)


def test_what_a_pending_delivery_waits_for_is_told(operated: Scene) -> None:
    operated.automation(operated.webhook(policy={"schedule_seconds": (600,)}))
    operated.publish(alias_event())
    operated.evaluate()
    [queued] = answer(deliveries, "list", "--status", "pending")
    assert queued["waiting"] == {"reason": "queued", "until": None}
    run(webhooks, "pause", "hook")
    assert answer(deliveries, "show", queued["id"])["waiting"]["reason"] == "webhook_paused"
    for words in (run(deliveries, "show", queued["id"]), run(deliveries, "list")):
        assert "waits for: its webhook is paused" in words
    run(webhooks, "resume", "hook")
    operated.receiver.answer = lambda _request: Answer(500)
    operated.deliver()
    [retried] = answer(deliveries, "list")
    assert retried["waiting"]["reason"] == "not_due"
    assert "the next attempt is not due yet, until 2" in run(deliveries, "list")


def test_why_nothing_can_be_sent_to_a_webhook_is_shown(operated: Scene) -> None:
    operated.secret("CERTIFICATE", Authority().issue_weak("weak").pem)
    operated.webhook("mutual", url="https://127.0.0.1/", client_certificate="CERTIFICATE")
    operated.webhook("plain")
    words = "the client certificate can't be used in TLS: ee key too small"

    shown = answer(webhooks, "show", "mutual")
    assert (shown["unusable"], shown["client_certificate"]) == (words, "CERTIFICATE")
    assert answer(webhooks, "show", "plain")["unusable"] is None
    tried = CliRunner().invoke(webhooks, ["test", "mutual"])
    assert (tried.exit_code, tried.stdout) == (2, "")
    assert words in tried.stderr

    stranger = operated.settings.model_copy(update={"secret_keys": SecretStr(Fernet.generate_key().decode())})
    operated.settings = stranger
    assert "HOOKLINE_SECRET_KEYS lacks the key" in answer(webhooks, "show", "mutual")["unusable"]


def test_a_signing_secret_is_rotated(operated: Scene) -> None:
    for name in ("ONE", "TWO"):
        operated.secret(name, f"whsec_{name.lower() * 16}")
    operated.secret("SHORT", "short")
    operated.webhook("signed", signing_secret="ONE")
    operated.webhook("unsigned")
    assert "signs with TWO, and until" in run(webhooks, "rotate-signing", "signed", "TWO", "--keep", "2h")
    shown = answer(webhooks, "show", "signed")
    assert (shown["signing_secret"], shown["former_signing_secret"]) == ("TWO", "ONE")
    left = datetime.fromisoformat(shown["former_signing_until"]) - datetime.now(UTC)
    assert timedelta(hours=1) < left <= timedelta(hours=2)
    for arguments in (("signed", "TWO"), ("signed", "NONE"), ("signed", "SHORT"), ("unsigned", "ONE"), ("signed",)):
        run(webhooks, "rotate-signing", *arguments, code=2)
    run(webhooks, "rotate-signing", "no", "ONE", code=1)
    refused = CliRunner().invoke(webhooks, ["rotate-signing", "signed", "ONE", "--keep", "soon"])
    assert (refused.exit_code, "keep: must be a duration" in refused.stderr) == (2, True)
    assert answer(webhooks, "show", "signed")["signing_secret"] == "TWO"
    assert answer(webhooks, "rotate-signing", "acme", "signed", "ONE")["former_signing_secret"] == "TWO"


@pytest.mark.parametrize("step", [timedelta(hours=2), timedelta(hours=-2)])
def test_what_is_due_and_open_is_told_by_the_databases_clock(operated: Scene, step: timedelta) -> None:
    if operated.process.engine.dialect.name != "postgresql":
        pytest.skip("SQLite has no clock but the machine's")
    policy = {"schedule_seconds": (3600,), "circuit_failures": 1, "circuit_cool_off_seconds": 3600}
    policy |= {"circuit_cool_off_cap_seconds": 3600}
    hook = operated.webhook(policy=policy)
    operated.automation(hook)
    operated.receiver.answer = lambda _request: Answer(500)
    operated.publish(alias_event())
    operated.evaluate()
    operated.deliver()

    def told() -> list[dict[str, Any]]:
        listed = [*answer(webhooks, "list"), answer(webhooks, "show", "hook")]
        recent = CliRunner().invoke(deliveries, ["list", "--since", "1h", "--json"])
        states = [{name: row[name] for name in ("state", "circuit", "due")} for row in listed]
        return [*states, *json.loads(recent.stdout)]

    before = told()
    assert before[:2] == [{"state": "circuit open", "circuit": "open", "due": 0}] * 2 and len(before) == 3
    with time_machine.travel(datetime.now(UTC) + step, tick=True):
        assert told() == before


def completed(group: click.Group, *before: str, incomplete: str) -> list[str]:
    complete = ShellComplete(group, {}, "celery", "_CELERY_COMPLETE")
    return [one.value for one in complete.get_completions(list(before), incomplete)]


def test_a_shell_completes_names(operated: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("deploy-hook", "deploy-later", "audit"):
        operated.webhook(name)
    operated.automation(None, name="promoted")
    assert completed(webhooks, "pause", incomplete="de") == ["deploy-hook", "deploy-later"]
    assert completed(webhooks, "show", "--entity", "nobody", incomplete="") == []
    assert completed(automations, "enable", incomplete="") == ["promoted"]
    assert completed(automations, "explain", "acme", incomplete="p") == ["promoted"]
    assert completed(webhooks, "pause", "acme", incomplete="au") == ["audit"]
    assert completed(webhooks, "pause", "nobody", incomplete="au") == []

    monkeypatch.setattr("worker.commands.completion.opened", lambda: 1 / 0)
    assert completed(webhooks, "pause", incomplete="de") == []


def test_one_order_of_words_and_one_status_for_what_is_not_there(operated: Scene) -> None:
    operated.webhook("deploy")
    operated.automation(None, name="promoted")
    for group, command, name in (
        (webhooks, "show", "deploy"),
        (webhooks, "pause", "deploy"),
        (webhooks, "resume", "deploy"),
        (automations, "disable", "promoted"),
        (automations, "enable", "promoted"),
        (automations, "revisions", "promoted"),
    ):
        run(group, command, name)
        run(group, command, "acme", name)
        run(group, command, name, "--entity", "acme")
        run(group, command, "acme", name, "--entity", "acme", code=2)
        run(group, command, "acme", name, "third", code=2)
        run(group, command, code=2)
        run(group, command, "nosuch", code=1)
        run(group, command, "nobody", name, code=1)
    for words in (("promoted",), ("acme", "promoted"), ("promoted", "--entity", "acme")):
        run(automations, "explain", *words, "--since", "1h", code=1)
    run(deliveries, "show", "dlv_nosuch", code=1)


def test_a_list_of_webhooks_shows_dead_letters(operated: Scene) -> None:
    operated.automation(operated.webhook("gone"))
    operated.webhook("fine")
    operated.receiver.answer = lambda _request: Answer(404)
    operated.publish(alias_event())
    operated.evaluate()
    operated.deliver()
    assert {row["name"]: row["dead"] for row in answer(webhooks, "list")} == {"gone": 1, "fine": 0}


def test_a_webhook_is_paused_resumed_and_tried(operated: Scene) -> None:
    hook = operated.webhook()
    assert run(webhooks, "pause", "hook") == f"acme/hook (wh_{hook}) is now paused\n"
    assert [row["state"] for row in answer(webhooks, "list", "--state", "paused")] == ["paused"]
    tried = answer(webhooks, "test", f"wh_{hook}")
    assert tried["request"]["bytes"] > 0
    assert f"POST {operated.receiver.url}" in run(webhooks, "test", f"wh_{hook}")
    assert answer(webhooks, "resume", "hook")["changed"] is True
    shown = answer(webhooks, "show", "hook")
    assert shown["state"] == "active"
    assert f'{{"timeout_seconds": {shown["policy"]["timeout_seconds"]},' in run(webhooks, "show", "hook")
    with read_transaction(operated.process.engine) as connection:
        stored = connection.execute(select(webhooks_table).where(webhooks_table.c.id == hook)).one()
    assert stored.resumed_at == stored.updated_at
    operated.receiver.answer = lambda _request: Answer(500)
    failed = answer(webhooks, "test", "hook", code=1)

    assert (tried["outcome"], tried["state"], failed["status"]) == ("2xx", "paused", 500)
    assert len(operated.receiver.requests) == 3
