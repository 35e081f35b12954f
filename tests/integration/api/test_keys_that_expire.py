"""Keys that end by themselves: it is said when they are made, told before they end, and named when they are refused."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import Engine, select, update

from dispatcher.api.caller_cache import TOLD_BEFORE
from shared.storage.accounts.members import has_entity_admin, has_instance_admin
from shared.storage.database.transactions import read_transaction, write_transaction
from shared.storage.definitions.entities import find_entity
from shared.storage.schema.tables import api_keys
from tests.integration.api.conftest import ACME, Api, problem_of
from worker.operations.keys import list_keys

HEADER = "Hookline-Key-Expires"


def ending(after: timedelta) -> str:
    return (datetime.now(UTC) + after).isoformat()


def end(api: Api, engine: Engine, key: str, at: datetime) -> None:
    """Let a key end at a time, which nobody can ask for."""
    with write_transaction(engine) as connection:
        changed = connection.execute(update(api_keys).where(api_keys.c.name == key).values(expires_at=at))
        assert changed.rowcount == 1
    api.client.app.state.resources.callers.clear()


def test_a_key_says_when_it_ends_and_is_refused_then(api: Api, engine: Engine) -> None:
    far, near = ending(TOLD_BEFORE * 2), ending(TOLD_BEFORE / 2)
    made = api.ok(
        "POST", "/v1/keys", {"name": "nightly", "entity": "acme", "role": "member", "expires_at": far}, status=201
    )
    assert datetime.fromisoformat(made["expires_at"]) == datetime.fromisoformat(far)
    listed = {one["id"]: one for one in api.ok("GET", "/v1/keys?limit=100")["items"]}
    assert listed[made["id"]]["expires_at"] == made["expires_at"]
    assert [one["expires_at"] for one in listed.values() if one["name"] == "member"] == [None]
    api.keys["nightly"] = made["key"]
    assert HEADER not in api.send("GET", "/v1/me", key="nightly").headers

    end(api, engine, "nightly", datetime.fromisoformat(near))
    told = api.send("GET", f"{ACME}/deliveries", key="nightly")
    assert told.headers[HEADER] == f"{datetime.fromisoformat(near):%Y-%m-%dT%H:%M:%SZ}"

    past = datetime.now(UTC) - timedelta(hours=1)
    end(api, engine, "nightly", past)
    problem = problem_of(api.send("GET", "/v1/me", key="nightly"), 401)
    assert problem.detail == f"this API key expired at {past:%Y-%m-%dT%H:%M:%SZ}: make another one"
    api.ok("DELETE", f"/v1/keys/{made['id']}", status=204)
    assert "unknown or revoked" in problem_of(api.send("GET", "/v1/me", key="nightly"), 401).detail

    changes = api.ok("GET", f"{ACME}/audit")["items"]
    noted = next(one for one in changes if one["action"] == "key.create" and one["target"]["name"] == "nightly")
    assert datetime.fromisoformat(noted["detail"]["expires_at"]) == datetime.fromisoformat(far)


def test_a_key_is_not_remembered_beyond_its_end(api: Api, engine: Engine) -> None:
    callers = api.client.app.state.resources.callers
    soon = datetime.now(UTC) + timedelta(minutes=1)
    end(api, engine, "member", soon)
    api.ok("GET", "/v1/me", key="member")
    [caller] = [one for one in callers._known.values() if one.expires_at is not None]
    assert caller.expires_at == soon
    end(api, engine, "member", datetime.now(UTC) - timedelta(seconds=1))
    assert api.send("GET", "/v1/me", key="member").status_code == 401


@pytest.mark.parametrize("wrong", ["2020-01-01T00:00:00Z", "2126-01-01T00:00:00Z", "tomorrow", "2027-01-01", 7, ""])
def test_an_end_that_is_none_is_refused(api: Api, engine: Engine, wrong: object) -> None:
    problem = api.refused("POST", "/v1/keys", {"name": "x", "expires_at": wrong}, status=422)
    assert problem.locs == [["expires_at"]]
    with read_transaction(engine) as connection:
        assert connection.execute(select(api_keys.c.id).where(api_keys.c.name == "x")).first() is None


def test_whose_only_key_has_ended_administers_nothing(api: Api, engine: Engine) -> None:
    end(api, engine, "admin", datetime.now(UTC) - timedelta(seconds=1))
    with read_transaction(engine) as connection:
        entity = find_entity(connection, "acme")
        assert entity is not None
        assert has_instance_admin(connection)
        assert not has_entity_admin(connection, entity.id)


def test_operators_see_which_keys_end(api: Api, engine: Engine) -> None:
    assert api.keys
    end(api, engine, "admin", datetime.now(UTC) - timedelta(days=1))
    end(api, engine, "member", datetime.now(UTC) + timedelta(days=3))
    end(api, engine, "publisher", datetime.now(UTC) + timedelta(days=30))
    found = list_keys(engine, timedelta(days=14))
    assert [(one["name"], one["state"]) for one in found] == [("admin", "expired"), ("member", "active")]
    assert {one["name"] for one in list_keys(engine, None)} > {"admin", "member", "publisher"}
