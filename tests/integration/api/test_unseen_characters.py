"""New names hold nothing that a terminal would obey; names of older versions, and those of events, stay usable."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

import pytest
from sqlalchemy import Engine, update

from shared.domain.visible_text import NO_UNSEEN
from shared.storage.database.transactions import write_transaction
from shared.storage.schema.tables import automations as automations_table
from tests.integration.api.conftest import ACME, Api, automation, create_automation, create_webhook, event, webhook

MARKS = ["\x1b", "\x7f", "\x85", "\x9b", "\u061c", "\u200f", "\u202e", "\u2028", "\u2066"]


@pytest.mark.parametrize("mark", MARKS, ids=lambda mark: f"U+{ord(mark):04X}")
def test_new_names_are_refused(api: Api, mark: str) -> None:
    create_webhook(api)
    name, path = f"na{mark}me", quote(f"na{mark}me", safe="")
    wanted: list[tuple[str, str, Any]] = [
        ("POST", f"{ACME}/automations", automation(name)),
        ("POST", f"{ACME}/webhooks", webhook(name)),
        ("POST", f"{ACME}/slack", {"name": name, "url": "SLACK"}),
        ("POST", f"{ACME}/apply", {"automations": [automation(name)]}),
        ("POST", f"{ACME}/apply", {"webhooks": [webhook(name)]}),
        ("PUT", f"/v1/entities/{path}", {}),
        ("PUT", f"{ACME}/secrets/{path}", {"value": "x" * 20}),
        ("PUT", f"{ACME}/projects/{path}", {}),
        ("PUT", f"{ACME}/projects/{path}/collections/c", {}),
        ("PUT", f"{ACME}/projects/p/collections/{path}", {}),
        ("POST", "/v1/users", {"name": name}),
        ("POST", "/v1/users", {"name": "name", "email": f"a{mark}@example.com"}),
        ("POST", "/v1/keys", {"name": name}),
        ("POST", "/v1/keys", {"name": name, "entity": "acme", "role": "member"}),
    ]
    for method, where, body in wanted:
        problem = api.refused(method, where, body, status=422)
        assert problem.errors, where
        assert mark not in problem.detail
    assert api.ok("GET", f"{ACME}/automations")["items"] == []
    assert api.ok("GET", f"{ACME}/projects")["items"] == []


def test_the_error_says_what_is_accepted(api: Api) -> None:
    create_webhook(api)
    expected = [{"loc": ["name"], "msg": NO_UNSEEN}]
    assert api.refused("POST", f"{ACME}/automations", automation("a\u202eb"), status=422).errors == expected
    made = create_automation(api)
    path = f"{ACME}/automations/{made['id']}"
    assert api.refused("PATCH", path, {"name": "a\x9bb"}, status=422).errors == expected
    applied = api.refused("POST", f"{ACME}/apply", {"automations": [automation("a\u2066b")]}, status=422)
    assert applied.errors == [{"loc": ["automations", 0, "name"], "msg": NO_UNSEEN}]


def test_a_name_of_an_older_version_stays(api: Api, engine: Engine) -> None:
    create_webhook(api)
    made, old = create_automation(api), "old \u202e name"
    with write_transaction(engine) as connection:
        stored = {**connection.execute(automations_table.select()).one()._mapping["definition"], "name": old}
        connection.execute(update(automations_table).values(name=old, definition=stored))
    path = f"{ACME}/automations/{made['id']}"
    assert api.ok("PATCH", path, {"description": "changed"})["name"] == old
    assert api.ok("POST", f"{ACME}/apply", {"automations": [automation(old)]})["changes"][0]["change"] == "updated"
    assert api.ok("PATCH", path, {"name": "new"})["name"] == "new"
    api.refused("PATCH", path, {"name": old}, status=422)


def test_what_events_name_can_be_watched_and_described(api: Api) -> None:
    create_webhook(api)
    odd = "mo\u202edel"
    api.ok("POST", "/v1/events", event(project=odd), key="publisher", status=202)
    create_automation(api, automation(scope={"project": odd}))
    assert api.ok("PUT", f"{ACME}/projects/{quote(odd)}", {"description": "d"})["name"] == odd
