"""ETags: nobody overwrites what somebody else has changed since, and nobody reads twice what is the same."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import Any

import httpx
import pytest
from sqlalchemy import Engine, update

from shared.storage.database.transactions import write_transaction
from shared.storage.schema.tables import webhooks as webhooks_table
from tests.integration.api.conftest import (
    ACME,
    Api,
    automation,
    create_automation,
    create_webhook,
    full_webhook,
    problem_of,
    put_secrets,
    webhook,
)


@pytest.fixture(params=["webhooks", "automations", "secrets"])
def thing(request: pytest.FixtureRequest, api: Api) -> tuple[str, str, dict[str, Any]]:
    """The path of a definition, the method that changes it, and a change."""
    if request.param == "secrets":
        api.ok("PUT", f"{ACME}/secrets/TOKEN", {"value": "x"}, status=201)
        return f"{ACME}/secrets/TOKEN", "PUT", {"value": "y"}
    hook = create_webhook(api)
    if request.param == "webhooks":
        return f"{ACME}/webhooks/{hook['id']}", "PATCH", {"paused": True}
    return f"{ACME}/automations/{create_automation(api)['id']}", "PATCH", {"enabled": False}


def conditional(api: Api, method: str, path: str, body: object = None, **headers: str) -> httpx.Response:
    return api.send(method, path, body, headers={name.replace("_", "-"): value for name, value in headers.items()})


def tag(api: Api, path: str) -> str:
    return str(api.send("GET", path).headers["etag"])


def test_a_change_is_made_only_to_what_was_read(api: Api, thing: tuple[str, str, dict[str, Any]]) -> None:
    path, method, body = thing
    read = tag(api, path)

    changed = conditional(api, method, path, body, if_match=read)

    assert changed.status_code == 200
    assert changed.headers["etag"] == tag(api, path) != read
    for stale in (method, "DELETE"):
        problem = problem_of(conditional(api, stale, path, body if stale == method else None, if_match=read), 412)
        assert problem.headers["etag"] == changed.headers["etag"]
    problem_of(conditional(api, method, path, body, if_match=f"W/{changed.headers['etag']}x"), 400)
    problem_of(conditional(api, method, path, body, if_match="12"), 400)
    assert tag(api, path) == changed.headers["etag"]
    assert conditional(api, method, path, body, if_match="*").status_code == 200
    assert conditional(api, "DELETE", path, if_match=f'"0", {tag(api, path)}').status_code == 204
    assert conditional(api, "DELETE", path, if_match="*").status_code == 404


def test_a_created_definition_has_its_tag(api: Api) -> None:
    hook = api.send("POST", f"{ACME}/webhooks", webhook())
    assert hook.headers["etag"] == f'"{hook.json()["revision"]}"'
    made = api.send("POST", f"{ACME}/automations", automation())
    assert made.headers["etag"] == tag(api, f"{ACME}/automations/{made.json()['id']}")
    revision = f'"{made.json()["revision"]}"'
    path = f"{ACME}/automations/{made.json()['id']}"
    assert conditional(api, "PATCH", path, {"enabled": False}, if_match=revision).status_code == 200


def test_what_is_the_same_is_not_sent_again(api: Api, thing: tuple[str, str, dict[str, Any]]) -> None:
    path, method, body = thing
    read = tag(api, path)

    for wanted in (read, f"W/{read}", f'"x", {read}', "*"):
        same = conditional(api, "GET", path, if_none_match=wanted)
        assert (same.status_code, same.content, same.headers["etag"]) == (304, b"", read)
    api.ok(method, path, body)
    fresh = conditional(api, "GET", path, if_none_match=read)
    assert fresh.status_code == 200
    assert fresh.json()
    assert conditional(api, "GET", f"{path}x", if_none_match="*").status_code == 404


def test_what_changes_without_a_revision_is_sent_again(api: Api, engine: Engine) -> None:
    put_secrets(api)
    secret, unused = f"{ACME}/secrets/TOKEN", tag(api, f"{ACME}/secrets/TOKEN")
    hook = create_webhook(api, full_webhook())
    path = f"{ACME}/webhooks/{hook['id']}"
    rule = f"{ACME}/automations/{create_automation(api)['id']}"
    healthy, named = tag(api, path), tag(api, rule)
    with write_transaction(engine) as connection:
        connection.execute(update(webhooks_table).values(enabled=False, disabled_reason="410"))
    failing = tag(api, path)
    with write_transaction(engine) as connection:
        connection.execute(update(webhooks_table).values(failing_since=datetime.now(UTC)))

    assert conditional(api, "GET", secret, if_none_match=unused).json()["used_by"] == ["deploy-hook"]
    assert len({healthy, failing, tag(api, path)}) == 3
    api.ok("PATCH", path, {"name": "renamed"})
    assert conditional(api, "GET", rule, if_none_match=named).json()["action"]["webhook"] == "renamed"


def test_a_secret_can_be_created_and_never_replaced(api: Api) -> None:
    path = f"{ACME}/secrets/NEW"
    assert conditional(api, "PUT", path, {"value": "a"}, if_none_match="*").status_code == 201
    read = tag(api, path)
    problem_of(conditional(api, "PUT", path, {"value": "b"}, if_none_match="*"), 412)
    problem_of(conditional(api, "PUT", path, {"value": "b"}, if_none_match='"1"'), 400)
    assert tag(api, path) == read
    assert conditional(api, "PUT", f"{ACME}/secrets/OTHER", {"value": "b"}, if_match="*").status_code == 404


def test_of_many_changes_to_one_state_one_is_made(api: Api, thing: tuple[str, str, dict[str, Any]]) -> None:
    path, method, _ = thing
    read = tag(api, path)
    bodies = [{"value": str(n)} if method == "PUT" else {"name": f"name-{n}"} for n in range(6)]

    with ThreadPoolExecutor(6) as pool:
        answers = list(pool.map(lambda body: conditional(api, method, path, body, if_match=read), bodies))

    assert sorted(answer.status_code for answer in answers) == [200, *[412] * 5]


def test_a_condition_tells_nobody_anything(api: Api, thing: tuple[str, str, dict[str, Any]]) -> None:
    path, method, body = thing
    for key, status in (("publisher", 403), ("outsider", 404)):
        answer = api.send(method, path, body, key=key, headers={"If-Match": '"0"'})
        assert "etag" not in problem_of(answer, status).headers
