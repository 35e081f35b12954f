"""The `hookline` command: what it prints, and how it ends."""

from __future__ import annotations

import functools
import json
import os
import time
from typing import TYPE_CHECKING, Any

import httpx
import pytest
import yaml
from click.testing import CliRunner, Result

from dispatcher import cli
from dispatcher.client import commands
from dispatcher.client.api_client import Client
from dispatcher.up import composition
from shared.storage.maintenance import first_start
from shared.version import __version__
from tests.unit.domain.test_visible_text import raw_controls

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from shared.settings import Settings

WEBHOOKS = "entity: acme\nwebhooks: [{name: deploy-hook}]\n"


class Api:
    """A REST API that answers as told, and keeps what it was asked."""

    def __init__(self) -> None:
        self.answer: Callable[[httpx.Request], httpx.Response] = lambda _request: httpx.Response(500)
        self.requests: list[httpx.Request] = []

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        return self.answer(request)


@pytest.fixture
def api(monkeypatch: pytest.MonkeyPatch) -> Api:
    api = Api()
    monkeypatch.setenv("HOOKLINE_API_KEY", "the-key")
    monkeypatch.setattr(commands, "Client", functools.partial(Client, transport=httpx.MockTransport(api)))
    return api


def run(*arguments: str, stdin: str | None = None) -> Result:
    return CliRunner().invoke(cli.main, arguments, input=stdin)


def test_version() -> None:
    assert run("--version").stdout == f"hookline, version {__version__}\n"


def test_a_wrong_setting_is_one_line_that_names_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOOKLINE_PARTITIONS", "many")
    result = run("init")
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.startswith("hookline: HOOKLINE_PARTITIONS: ")
    assert result.stderr.count("\n") == 1


def test_an_unusable_database_is_one_line(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOOKLINE_DATABASE_URL", f"sqlite:///{tmp_path}/missing/hookline.db")
    result = run("init")
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr == "hookline: can't use the database: unable to open database file\n"


def test_init_shows_the_admin_key_once(monkeypatch: pytest.MonkeyPatch) -> None:
    outcomes = [
        first_start.Prepared("hk_0123456789", None, "0009"),
        first_start.Prepared(None, "0009", "0009"),
        first_start.Prepared(None, "0008", "0009"),
    ]

    def prepare(_settings: Settings, **_options: bool) -> first_start.Prepared:
        return outcomes.pop(0)

    monkeypatch.setattr(first_start, "prepare", prepare)
    assert run("init").stdout == "created: schema 0009\nadmin API key (shown once): hk_0123456789\n"
    assert run("init").stdout == "already initialised: schema 0009\n"
    assert run("init").stdout == "migrated: schema 0008 to 0009\n"


def accept_all(request: httpx.Request) -> httpx.Response:
    return httpx.Response(202, json={"accepted": len(json.loads(request.content))})


def test_publish_counts_what_the_api_took(api: Api) -> None:
    api.answer = accept_all
    result = run("publish", "-", "--batch", "2", stdin='{"id": 1}\n\n{"id": 2}\n{"id": 3}\n')
    assert (result.exit_code, result.stdout, result.stderr) == (0, "published 3 events\n", "")
    assert [json.loads(request.content) for request in api.requests] == [[{"id": 1}, {"id": 2}], [{"id": 3}]]


def test_publish_reads_a_file(api: Api, tmp_path: Path) -> None:
    api.answer = accept_all
    (tmp_path / "events.jsonl").write_text('{"id": 1}\n')
    assert run("publish", str(tmp_path / "events.jsonl")).stdout == "published 1 event\n"


def test_publish_at_a_rate_sends_small_batches(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [100.0]

    def sleep(seconds: float) -> None:
        clock[0] += seconds

    monkeypatch.setattr(time, "sleep", sleep)
    monkeypatch.setattr(time, "monotonic", lambda: clock[0])
    times: list[float] = []

    def answer(request: httpx.Request) -> httpx.Response:
        times.append(clock[0] - 100.0)
        clock[0] += 0.01
        return accept_all(request)

    api.answer = answer
    assert run("publish", "-", "--rate", "4", stdin="{}\n" * 5).stdout == "published 5 events\n"
    assert times == pytest.approx([0.0, 0.25, 0.5, 0.75, 1.0])


def test_publish_names_the_line_of_each_fault(api: Api, tmp_path: Path) -> None:
    file = tmp_path / "events.jsonl"
    file.write_text('{"id": 1}\n\n{"id": 2}\n{"id": 3}\n{"id": 4}\n')
    errors = [{"loc": [1, "data", "alias"], "msg": "is required"}, {"loc": ["body"], "msg": "is odd"}]

    def refuse_the_second(request: httpx.Request) -> httpx.Response:
        return (
            accept_all(request)
            if len(api.requests) == 1
            else httpx.Response(422, json={"detail": "2 faults", "errors": errors})
        )

    api.answer = refuse_the_second
    result = run("publish", str(file), "--batch", "2")
    assert (result.exit_code, result.stdout) == (1, "published 2 events\n")
    assert result.stderr.splitlines() == [
        f"hookline: {file}: lines 4 to 5 are refused together, and what follows is not sent",
        f"hookline: {file}:5: data.alias: is required",
        "hookline: body: is odd",
    ]


def test_publish_stops_at_a_line_that_is_not_json(api: Api) -> None:
    api.answer = accept_all
    result = run("publish", "-", "--batch", "1", stdin="{}\nnonsense\n{}\n")
    assert (result.exit_code, result.stdout) == (2, "published 1 event\n")
    assert result.stderr.startswith("hookline: -:2: is not JSON: ")


def test_publish_needs_a_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HOOKLINE_API_KEY", raising=False)
    result = run("publish", "-", stdin="{}\n")
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.startswith("hookline: HOOKLINE_API_KEY: is not set")


def definitions(tmp_path: Path, text: str = WEBHOOKS) -> str:
    (tmp_path / "defs.yaml").write_text(text)
    return str(tmp_path / "defs.yaml")


def created(_request: httpx.Request) -> httpx.Response:
    changes = [
        {"kind": "webhook", "name": f"hook-{'x' * 90}", "change": "created", "detail": []},
        {"kind": "automation", "name": "promotion", "change": "updated", "detail": ["enabled", "filter"]},
    ]
    return httpx.Response(200, json={"changes": changes})


@pytest.mark.parametrize(
    ("arguments", "query"),
    [(["apply"], b""), (["apply", "--dry-run"], b"dry_run=true"), (["diff"], b"dry_run=true")],
)
def test_apply_and_diff_print_the_changes(api: Api, tmp_path: Path, arguments: list[str], query: bytes) -> None:
    api.answer = created
    result = run(*arguments, "-f", definitions(tmp_path))
    assert result.exit_code == 0
    assert result.stdout.startswith("entity acme\n")
    rows = [line.strip("│").split("│") for line in result.stdout.splitlines() if line.startswith("│")]
    assert [[cell.strip() for cell in row] for row in rows] == [
        ["webhook", f"hook-{'x' * 90}", "created"],
        ["automation", "promotion", "updated: enabled, filter"],
    ]
    (request,) = api.requests
    assert request.url.query == query
    assert json.loads(request.content) == {"webhooks": [{"name": "deploy-hook"}]}


def test_changes_are_told_with_values_and_totals_and_as_an_exit_status(api: Api, tmp_path: Path) -> None:
    updated = {"kind": "automation", "name": "a", "change": "updated", "detail": ["enabled"]}
    changes = [
        updated | {"before": {"enabled": True}, "after": {"enabled": False}},
        {"kind": "webhook", "name": "same", "change": "unchanged", "detail": []},
    ]
    api.answer = lambda _request: httpx.Response(200, json={"changes": changes})
    result = run("diff", "--exit-code", "-f", definitions(tmp_path))
    assert result.exit_code == 3
    assert "enabled: true → false" in result.stdout
    assert "0 created, 1 updated, 0 deleted, 1 unchanged" in result.stdout
    assert "same" not in result.stdout
    assert run("diff", "-f", definitions(tmp_path)).exit_code == 0
    assert "same" in run("apply", "--all", "-f", definitions(tmp_path)).stdout
    changes[:] = changes[1:]
    assert run("diff", "--exit-code", "-f", definitions(tmp_path)).exit_code == 0


def test_a_fault_in_the_last_document_changes_nothing(api: Api, tmp_path: Path) -> None:
    errors = [{"loc": ["automations", 0, "event"], "msg": "is unknown"}, {"loc": ["x"], "msg": "is unknown"}]

    def refuse_beta(request: httpx.Request) -> httpx.Response:
        if "beta" in request.url.path:
            return httpx.Response(422, json={"detail": "2 faults", "errors": errors})
        return created(request)

    api.answer = refuse_beta
    result = run("apply", "-f", definitions(tmp_path, f"{WEBHOOKS}---\nentity: beta\n"))
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr == "hookline: automations.0.event: is unknown\nhookline: x: is unknown\n"
    assert all(request.url.query == b"dry_run=true" for request in api.requests)


def test_refusals_name_the_definition(api: Api, tmp_path: Path) -> None:
    errors = [
        {"loc": ["webhooks", 0, "url"], "msg": "must be https"},
        {"loc": ["webhooks", 7, "url"], "msg": "must be https"},
    ]
    api.answer = lambda _request: httpx.Response(422, json={"detail": "2 faults", "errors": errors})
    result = run("apply", "-f", definitions(tmp_path))
    assert result.exit_code == 1
    assert result.stderr.splitlines() == [
        "hookline: webhooks.0 (deploy-hook).url: must be https",
        "hookline: webhooks.7.url: must be https",
    ]


ENTITIES = """\
entities:
  - {name: org, kind: organization}
  - {name: acme, parent: org, quotas: {webhooks: 5}}
  - {name: old}
"""


def test_missing_entities_are_created_and_others_changed_as_the_file_says(api: Api, tmp_path: Path) -> None:
    quotas = {"webhooks": {"limit": 200, "used": 1}, "secrets": {"limit": 500, "used": 0}}
    stored: dict[str, dict[str, Any]] = {
        "acme": {"name": "acme", "kind": "team", "parent": None, "quotas": quotas},
        "old": {"name": "old", "kind": "organization", "parent": "org", "quotas": quotas},
    }

    def answer(request: httpx.Request) -> httpx.Response:
        if request.url.path.endswith("/apply"):
            return httpx.Response(200, json={"changes": []})
        name = request.url.path.split("/")[3]
        if request.method == "GET" and name not in stored:
            return httpx.Response(404, json={"detail": "no entity"})
        return httpx.Response(200, json=stored.get(name, {}))

    api.answer = answer
    file = definitions(tmp_path, f"{ENTITIES}---\nentity: org\nautomations: []\n")
    shown = run("diff", "--all", "-f", file)
    assert {request.method for request in api.requests} == {"GET"}, "a diff writes nothing, and tries no new entity"
    assert "1 created, 1 updated, 0 deleted, 1 unchanged" in shown.stdout
    assert 'parent: null → "org"' in shown.stdout and 'quotas: {"webhooks": 200} → {"webhooks": 5}' in shown.stdout
    api.requests.clear()
    assert run("apply", "-f", file).exit_code == 0
    written = [(one.method, one.url.path, json.loads(one.content)) for one in api.requests if one.method != "GET"]
    assert written == [
        ("PUT", "/v1/entities/org", {"kind": "organization", "parent": None}),
        ("PUT", "/v1/entities/acme", {"kind": "team", "parent": "org"}),
        ("PATCH", "/v1/entities/acme", {"quotas": {"webhooks": 5}}),
        ("POST", "/v1/entities/org/apply", {"automations": []}),
    ]


def test_a_refused_entity_is_named(api: Api, tmp_path: Path) -> None:
    api.answer = lambda request: httpx.Response(
        404 if request.method == "GET" else 403, json={"detail": "needs an admin"}
    )
    result = run("apply", "-f", definitions(tmp_path, "entities: [{name: acme}]\n"))
    assert (result.exit_code, result.stderr) == (1, "hookline: entity acme: 403: needs an admin\n")


def test_several_documents_are_tried_and_then_applied(api: Api, tmp_path: Path) -> None:
    api.answer = created
    result = run("apply", "-f", definitions(tmp_path, f"{WEBHOOKS}---\nentity: beta\n"))
    assert result.exit_code == 0
    assert [line for line in result.stdout.splitlines() if line.startswith("entity")] == ["entity acme", "entity beta"]
    assert [request.url.query for request in api.requests] == [b"dry_run=true"] * 2 + [b""] * 2


def test_a_refusal_without_faults_is_told(api: Api, tmp_path: Path) -> None:
    api.answer = lambda _request: httpx.Response(403, json={"detail": "needs the role admin"})
    result = run("apply", "-f", definitions(tmp_path))
    assert (result.exit_code, result.stderr) == (1, "hookline: 403: needs the role admin\n")


def test_an_api_that_is_away_is_told(api: Api, tmp_path: Path) -> None:
    def away(_request: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError("connection\nrefused")

    api.answer = away
    result = run("diff", "-f", definitions(tmp_path))
    assert result.exit_code == 2
    assert result.stderr == "hookline: no answer from http://127.0.0.1:8080: connection refused\n"


def test_export_prints_what_apply_takes(api: Api, tmp_path: Path) -> None:
    exports: dict[str, dict[str, Any]] = {"a": {"webhooks": [{"name": "w", "since": "2026-01-01"}]}, "b": {}}

    def answer(request: httpx.Request) -> httpx.Response:
        if request.url.path == "/v1/entities":
            return httpx.Response(200, json={"items": [{"name": name} for name in exports]})
        return httpx.Response(200, json=exports[request.url.path.split("/")[3]])

    api.answer = answer
    result = run("export")
    assert result.exit_code == 0
    assert list(yaml.safe_load_all(result.stdout)) == [{"entity": name, **exports[name]} for name in exports]
    assert list(yaml.safe_load_all(run("export", "--entity", "b").stdout)) == [{"entity": "b"}]


def test_up_refuses_a_port_in_use(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "umask", lambda _mask: 0)
    with composition.listen("127.0.0.1", 0) as taken:
        port = taken.getsockname()[1]
        result = run("up", "--port", str(port), "--data-dir", str(tmp_path / "data"))
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr == f"hookline: can't listen on 127.0.0.1:{port}: Address already in use\n"
    assert sorted(path.name for path in (tmp_path / "data").iterdir()) == ["up.lock"]


def test_api_refuses_a_port_in_use() -> None:
    with composition.listen("127.0.0.1", 0) as taken:
        result = run("api", "--port", str(taken.getsockname()[1]))
    assert result.exit_code == 2
    assert "Address already in use" in result.stderr


@pytest.mark.parametrize("status", [200, 409, 422, 500])
@pytest.mark.parametrize(
    "command", [("diff", "-f", "-"), ("apply", "-f", "-"), ("export", "--entity", "acme"), ("publish", "-")]
)
def test_what_others_wrote_gives_no_orders_to_the_terminal(api: Api, command: tuple[str, ...], status: int) -> None:
    hostile = "\x1b[2J\x1b]0;PWNED\x07\x9b2J\x85\u202egnp\u2066\x7f\rforged"
    change = {"kind": "automation", "name": hostile, "change": "updated", "detail": [hostile]}
    body = {
        "changes": [change],
        "accepted": 1,
        "automations": [{"name": hostile, "payload": {hostile: hostile}}],
        "webhooks": [],
        "items": [],
        "detail": hostile,
        "errors": [{"loc": [hostile], "msg": hostile}],
    }
    api.answer = lambda _request: httpx.Response(status, json=body)
    result = run(*command, stdin="{}\n" if command[0] == "publish" else WEBHOOKS)
    assert raw_controls(result.output) == []


def test_commands_of_the_client_get_their_arguments_as_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    from hookline import cli as client

    given: list[list[str]] = []

    def record(arguments: list[str], *, program: str) -> int:
        given.append([program, *arguments])
        return 7

    monkeypatch.setattr(client, "main", record)
    words = ["--project", "p", "--", "sh", "-c", "x", "--", "--help"]
    assert run("run", *words).exit_code == 7
    assert run("follow", "--help").exit_code == 7
    assert given == [["hookline", "run", *words], ["hookline", "follow", "--help"]]


def test_without_the_client_its_commands_say_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "hookline.cli", None)
    result = run("spool", "list")
    assert result.exit_code == 2
    assert result.stderr == "hookline: `hookline spool` is part of hookline-client, which is not installed\n"
