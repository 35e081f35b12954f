"""Who may not, gets nothing and changes nothing: every operation of the OpenAPI document, with every key that may not.

An operation that nobody listed here is for administrators when it changes something, and for members when it does not.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from sqlalchemy import Engine, select

from dispatcher.api.examples import REQUESTS
from dispatcher.app import create_app
from shared.settings import load_settings
from shared.storage.database.transactions import read_transaction
from shared.storage.schema.tables import metadata
from tests.integration.api.conftest import ACME, Api, automation, create_automation, create_webhook, event, put_secrets
from tests.integration.api.test_deliveries import History
from tests.integration.api.test_deliveries import history as history

SLACK = {"name": "team", "url_secret": "SLACK_URL", "team": "acme", "channel": "#deploys"}
ENTITY = "/v1/entities/{entity}"
SOURCE = {"name": "repo", "kind": "github", "secret": "TOKEN", "project": "models"}
OPEN = {"healthz", "readyz", "metrics", "list_schemas", "get_schema", "get_vocabulary"} | {
    "list_payload_templates",
    "get_payload_template",
    "take_webhook",
}
# Each answers everybody with what is the caller's own, and is tested for that where it belongs.
OWN = {
    "get_health",
    "get_me",
    "list_keys",
    "create_key",
    "list_users",
    "list_entities",
    "get_user",
    "revoke_key",
    "list_own_invitations",
    "accept_invitation",
    "decline_invitation",
}
INSTANCE = {
    "create_user",
    "change_user",
    "delete_user",
    "put_entity",
    "delete_entity",
    "list_all_changes",
    "list_entries",
    "list_poison",
    "get_poison",
    "count_dead_letters",
}
ADMINISTRATORS = {"list_members", "get_member", "list_changes", "list_invitations"}
MEMBERS = {
    "create_automation",
    "change_automation",
    "delete_automation",
    "restore_automation_revision",
    "change_automation_by_name",
    "delete_automation_by_name",
    "dry_run",
    "try_source",
    "put_project",
    "put_collection",
    "apply",
}
ANY_ROLE = {"get_entity"}


def operations() -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Every operation of the document, as method, path and what it says."""
    document = create_app(load_settings(secret_keys="A" * 43 + "=")).openapi()
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            yield method.upper(), path, operation


OPERATIONS = {operation["operationId"]: (method, path) for method, path, operation in operations()}


def refusals(operation: str) -> dict[str, int]:
    """The status that each key that may not is refused with; None stands for no key."""
    method, path = OPERATIONS[operation]
    if operation in OPEN:
        return {}
    if operation in OWN:
        return {"nobody": 401}
    if operation in INSTANCE:
        return {"nobody": 401, "outsider": 403, "publisher": 403, "member": 403, "admin": 403}
    if operation == "publish_events":
        return {"nobody": 401, "outsider": 403, "member": 403}
    assert path.startswith(ENTITY), f"{operation}: say above who may"
    refused = {"nobody": 401, "outsider": 404}
    if operation not in ANY_ROLE:
        refused["publisher"] = 403
    if operation in ADMINISTRATORS or (method != "GET" and operation not in MEMBERS):
        refused["member"] = 403
    return refused


def dump(engine: Engine) -> dict[str, list[Any]]:
    """Everything in the database."""
    with read_transaction(engine) as connection:
        return {
            table.name: sorted(map(repr, connection.execute(select(table)).all())) for table in metadata.sorted_tables
        }


@pytest.fixture
def paths(api: Api, history: History) -> dict[str, str]:
    """Something of each kind, by the name of the parameter that names it."""
    delivery = history.add("dead", attempted=1)
    replayed = api.ok("POST", f"{ACME}/deliveries/replay", {"status": "dead"}, key="admin", status=202)
    member = next(m for m in api.ok("GET", f"{ACME}/members")["items"] if m["name"] == "acme/admin")
    api.ok("PUT", f"{ACME}/projects/p/collections/c", {})
    api.ok("PUT", f"{ACME}/secrets/SLACK_URL", {"value": "https://hooks.slack.com/services/T/B/x"}, status=201)
    slack = api.ok("POST", f"{ACME}/slack", SLACK, status=201)
    source = api.ok("POST", f"{ACME}/sources", SOURCE, status=201)
    for key in ("admin", "member", "publisher", "outsider"):
        api.send("GET", "/v1/entities", key=key)  # so that the use of each key is noted already
    return {
        "entity": "acme",
        "webhook_id": history.webhook["id"],
        "automation_id": history.automation["id"],
        "slack_id": slack["id"],
        "source_id": source["id"],
        "delivery_id": delivery,
        "name": "TOKEN",
        "project": "p",
        "collection": "c",
        "user": member["id"],
        "number": "1",
        "replay_id": replayed["id"],
        "partition": "0",
        "entry_id": "1-0",
    }


def test_every_operation_has_a_rule() -> None:
    for operation in OPERATIONS:
        refusals(operation)
    listed = OPEN | OWN | INSTANCE | ADMINISTRATORS | MEMBERS | ANY_ROLE
    assert listed <= OPERATIONS.keys()


def test_who_may_not_gets_nothing_and_changes_nothing(api: Api, engine: Engine, paths: dict[str, str]) -> None:
    before = dump(engine)

    for operation, (method, template) in OPERATIONS.items():
        path = _filled(template, paths) if operation not in OPEN | OWN else template
        for key, status in refusals(operation).items():
            for body in _bodies(operation):
                answer = _answer(api, method, path, body, key=key)
                assert answer.status_code == status, (operation, key, body, answer.text)
                assert answer.headers["content-type"] == "application/problem+json"
                assert "hooks.example.com" not in answer.text, (operation, key)
        assert dump(engine) == before, operation


def _filled(template: str, paths: dict[str, str]) -> str:
    """The path of something that is there; names are unique among things of one kind."""
    names = {
        "automations": "on-production",
        "webhooks": "deploy-hook",
        "slack": SLACK["name"],
        "sources": SOURCE["name"],
    }
    named = {"name": names[template.split("/")[4]]} if "/by-name/" in template else {}
    return template.format(**paths | named)


def _bodies(operation: str) -> list[object]:
    """A good body, and others, so that it shows that who may comes before what is sent."""
    return [[event()]] if operation == "publish_events" else [REQUESTS.get(operation), {}, None]


def _answer(api: Api, method: str, path: str, body: object, *, key: str) -> Any:
    if key == "nobody":
        return api.client.request(method, path, **({} if body is None else {"json": body}))
    return api.send(method, path, body, key=key)


def test_ids_of_one_entity_open_nothing_in_another(api: Api, engine: Engine, paths: dict[str, str]) -> None:
    put_secrets(api, "other")
    before = dump(engine)
    theirs = paths | {"entity": "other", "name": "SLACK_URL"}
    numbered = {"webhook_id", "automation_id", "slack_id", "delivery_id", "user", "name"}

    for operation, (method, template) in OPERATIONS.items():
        if template.startswith(ENTITY) and any(f"{{{name}}}" in template for name in numbered):
            if method == "PUT":
                continue  # names what is to be made
            answer = api.send(method, template.format(**theirs), REQUESTS.get(operation), key="outsider")
            assert answer.status_code == 404, (operation, answer.text)
    assert dump(engine) == before


def test_the_dump_sees_changes(api: Api, engine: Engine) -> None:
    empty = dump(engine)
    create_webhook(api)
    with_webhook = dump(engine)
    create_automation(api, automation())

    assert empty != with_webhook != dump(engine)
