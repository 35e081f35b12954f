"""Secrets: write-only, replaced in place, kept while in use."""

from __future__ import annotations

from sqlalchemy import Engine, select

from shared.storage.database.transactions import read_transaction
from shared.storage.schema.tables import secrets
from tests.integration.api.conftest import (
    ACME,
    SECRETS,
    SIGNING,
    TOKEN,
    Api,
    create_webhook,
    full_webhook,
    put_secrets,
)


def test_a_secret_is_created_replaced_and_listed_without_its_value(api: Api, engine: Engine) -> None:
    created = api.ok("PUT", f"{ACME}/secrets/TOKEN", {"value": TOKEN}, key="admin", status=201)
    replaced = api.ok("PUT", f"{ACME}/secrets/TOKEN", {"value": TOKEN + "2"}, key="admin")

    assert created.keys() == {"name", "created_at", "updated_at", "used_by", "warning"}
    assert replaced["created_at"] == created["created_at"]
    assert replaced["updated_at"] > created["updated_at"]
    assert api.ok("GET", f"{ACME}/secrets", key="member")["items"] == [replaced]
    assert api.ok("GET", f"{ACME}/secrets/TOKEN", key="member") == replaced
    with read_transaction(engine) as connection:
        stored = connection.execute(select(secrets.c.ciphertext)).scalar_one()
    assert TOKEN.encode() not in stored


def test_a_value_that_could_be_guessed_is_stored_with_a_warning(api: Api) -> None:
    told = api.ok("PUT", f"{ACME}/secrets/PIN", {"value": "1234567"}, key="admin", status=201)
    assert told["warning"].startswith("The value has fewer than 8 characters and could be guessed.")
    assert api.ok("PUT", f"{ACME}/secrets/PIN", {"value": "12345678"}, key="admin")["warning"] is None


def test_no_answer_ever_holds_a_secret(api: Api) -> None:
    put_secrets(api)
    create_webhook(api, full_webhook())
    api.ok("GET", f"{ACME}/secrets")
    api.ok("GET", f"{ACME}/webhooks")
    api.ok("GET", f"{ACME}/export")
    api.refused("PUT", f"{ACME}/secrets/TOKEN", {"value": [TOKEN]}, status=422)
    api.refused("PUT", f"{ACME}/secrets/TOKEN", {"value": TOKEN, "more": SIGNING}, status=422)
    api.refused("PUT", f"{ACME}/secrets/TOKEN", {"value": TOKEN + "\n"}, status=422)

    assert not [answer for answer in api.answers for value in SECRETS.values() if value in answer]


BAD = [
    ("1TOKEN", {"value": "x"}, ["name"]),
    ("A-B", {"value": "x"}, ["name"]),
    ("A" * 256, {"value": "x"}, ["name"]),
    ("ACCESS_TOKEN", {"value": "x"}, ["name"]),
    ("event_author", {"value": "x"}, ["name"]),
    ("TOKEN", {}, ["value"]),
    ("TOKEN", {"value": ""}, ["value"]),
    ("TOKEN", {"value": "ü" * 40_000}, ["value"]),
    ("TOKEN", {"value": 5}, ["value"]),
    ("TOKEN", {"value": "a\0b"}, ["value"]),
    ("TOKEN", {"value": "x", "name": "y"}, ["name"]),
    ("TOKEN", ["x"], []),
    ("TOKEN", {"value": "x", "tok-5e6f2b": "y"}, []),
]


def test_bad_secrets_are_refused_and_change_nothing(api: Api) -> None:
    for name, body, loc in BAD:
        assert api.refused("PUT", f"{ACME}/secrets/{name}", body, status=422).locs == [loc], (name, body)
    assert api.ok("GET", f"{ACME}/secrets")["items"] == []


def test_a_secret_in_use_is_kept(api: Api) -> None:
    put_secrets(api)
    hook = create_webhook(api, full_webhook())

    for name in SECRETS:
        assert api.ok("GET", f"{ACME}/secrets/{name}")["used_by"] == ["deploy-hook"]
        problem = api.refused("DELETE", f"{ACME}/secrets/{name}", status=409)
        assert "deploy-hook" in problem.detail
    api.ok("DELETE", f"{ACME}/webhooks/{hook['id']}", status=204)
    for name in SECRETS:
        api.ok("DELETE", f"{ACME}/secrets/{name}", status=204)
    assert api.ok("GET", f"{ACME}/secrets")["items"] == []
    api.refused("DELETE", f"{ACME}/secrets/TOKEN", status=404)
    api.refused("GET", f"{ACME}/secrets/TOKEN", status=404)


def test_a_new_value_must_still_do_what_webhooks_use_it_for(api: Api) -> None:
    put_secrets(api)
    create_webhook(api, full_webhook())

    for name, value in (("TOKEN", "two\r\nlines"), ("TOKEN", " x"), ("TOKEN", "tökén"), ("SIGNING", "whsec_!")):
        problem = api.refused("PUT", f"{ACME}/secrets/{name}", {"value": value}, status=422)
        assert problem.locs == [["value"]], value
        api.ok("PUT", f"{ACME}/secrets/DEPLOY", {"value": value})


def test_secrets_are_per_entity(api: Api) -> None:
    put_secrets(api)

    assert api.ok("GET", "/v1/entities/other/secrets", key="outsider")["items"] == []
    api.refused("GET", f"{ACME}/secrets", key="outsider", status=404)
    api.refused("PUT", f"{ACME}/secrets/TOKEN", {"value": "x"}, key="outsider", status=404)
    api.refused("DELETE", f"{ACME}/secrets/TOKEN", key="outsider", status=404)
    api.refused("GET", "/v1/entities/other/secrets/TOKEN", key="outsider", status=404)


def test_pages_follow_each_other(api: Api) -> None:
    names = [f"SECRET_{number}" for number in range(7)]
    for name in names:
        api.ok("PUT", f"{ACME}/secrets/{name}", {"value": "x"}, status=201)

    seen, cursor = [], ""
    for size in (3, 3, 1):
        page = api.ok("GET", f"{ACME}/secrets?limit=3{cursor}")
        assert len(page["items"]) == size
        seen += [secret["name"] for secret in page["items"]]
        cursor = f"&cursor={page['next']}"
    assert page["next"] is None
    assert seen == names
