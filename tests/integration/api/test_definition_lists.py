"""Lists of automations, webhooks and Slack integrations: found, sorted, with how their deliveries went; and by name."""

from __future__ import annotations

import random
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import quote

import pytest
from sqlalchemy import Engine, event, insert, update

from shared.domain.ids import IdKind, decode_id
from shared.storage.database.transactions import read_transaction, write_transaction
from shared.storage.definitions import definition_lists
from shared.storage.definitions.definition_lists import AutomationFilter, Sort, list_automation_rows
from shared.storage.definitions.entities import find_entity
from shared.storage.delivery import delivery_stats
from shared.storage.delivery.history import new_delivery_id
from shared.storage.schema.tables import deliveries, pending_deliveries, webhooks
from tests.integration.api.conftest import (
    ACME,
    Api,
    automation,
    create_automation,
    create_webhook,
    full_webhook,
    put_secrets,
)

NOW = datetime.now(UTC)


@pytest.fixture
def defined(api: Api) -> dict[str, dict[str, Any]]:
    """Three automations, of two webhooks."""
    put_secrets(api)
    create_webhook(api, full_webhook())
    create_webhook(api, {"name": "other", "url": "https://elsewhere.example/hook"})
    noop = {"action": {"no_op": True}}
    made = (
        automation("b", description="Tells the Judges"),
        automation("a", **noop, event="CREATE_ARTIFACT", scope={"project": "p"}, filter={}),
        automation("wh_1", **noop, enabled=False),
    )
    return {one["name"]: create_automation(api, one) for one in made}


def names(api: Api, query: str = "", what: str = "automations") -> list[str]:
    """The names that a list has."""
    return [one["name"] for one in api.ok("GET", f"{ACME}/{what}{query}", key="member")["items"]]


def test_those_that_watch_a_place_are_found(api: Api, defined: dict[str, Any]) -> None:
    everywhere = automation("everywhere", action={"no_op": True}, event="RUN_STATE", states=["failed"], filter={})
    create_automation(api, {**everywhere, "scope": {}})
    create_automation(api, {**everywhere, "scope": {}, "name": "made", "event": "CREATE_ARTIFACT", "states": None})
    create_automation(api, {**everywhere, "scope": {}, "name": "dead", "event": "DEAD_LETTER", "states": None})
    assert sorted(names(api, "?applies_to_project=p")) == ["a", "everywhere", "made"]
    assert sorted(names(api, "?applies_to_project=wandb-registry-model")) == ["b", "everywhere", "made", "wh_1"]
    place = "?applies_to_project=wandb-registry-model&applies_to_collection="
    assert sorted(names(api, f"{place}llm-models")) == ["b", "made", "wh_1"]
    assert names(api, f"{place}others") == ["made"], "no run is in a collection"


def deliver(engine: Engine, entity_id: int, automation_id: str, status: str, **columns: Any) -> None:
    """Store a delivery to the first webhook."""
    row = {
        "id": new_delivery_id(),
        "entity_id": entity_id,
        "automation_id": decode_id(IdKind.AUTOMATION, automation_id),
        "webhook_id": 1,
        "status": status,
        "event_id": "e",
        "event_source": "/t",
        "event_type": "RUN_STATE",
        "event_received_at": NOW,
        "created_at": NOW,
        **columns,
    }
    with write_transaction(engine) as connection:
        seq = connection.execute(insert(deliveries).values(row).returning(deliveries.c.seq)).scalar_one()
        if status == "pending":
            queued = {"seq": seq, "webhook_id": row["webhook_id"], "next_attempt_at": NOW}
            connection.execute(insert(pending_deliveries).values(queued))


def acme(engine: Engine) -> int:
    with read_transaction(engine) as connection:
        entity = find_entity(connection, "acme")
    assert entity is not None
    return entity.id


def test_automations_are_found_by_what_they_are(api: Api, defined: dict[str, dict[str, Any]]) -> None:
    assert names(api) == ["b", "a", "wh_1"]
    assert names(api, "?name=a") == ["a"]
    assert names(api, "?text=judges") == names(api, "?text=B") == ["b"]
    assert names(api, "?text=%25") == []
    assert names(api, "?event=CREATE_ARTIFACT") == ["a"]
    assert names(api, "?event=CREATE_ARTIFACT&event=ADD_ARTIFACT_ALIAS") == ["b", "a", "wh_1"]
    assert names(api, "?project=p") == ["a"]
    assert names(api, "?webhook=deploy-hook") == names(api, "?webhook=wh_1") == names(api, "?action=webhook") == ["b"]
    assert names(api, "?action=no_op&enabled=true") == ["a"]
    assert names(api, "?enabled=false") == ["wh_1"]
    for query, loc in (
        ("?event=lost", "event"),
        ("?sort=size", "sort"),
        ("?webhook=nobody", "webhook"),
        ("?action=mail", "action"),
        ("?cursor=x", "cursor"),
        ("?sort=name&cursor=YWZ0ZXIgMQ", "cursor"),
        ("?sort=last_fired&cursor=WzFd", "cursor"),
        ("?names=a", "names"),
    ):
        assert api.refused("GET", f"{ACME}/automations{query}", status=422).locs == [[loc]], query


def test_webhooks_are_found_by_what_they_are(api: Api, defined: dict[str, dict[str, Any]], engine: Engine) -> None:
    assert names(api, what="webhooks") == ["deploy-hook", "other"]
    assert names(api, "?text=ELSEWHERE", "webhooks") == names(api, "?name=other", "webhooks") == ["other"]
    assert names(api, "?sort=name", "slack") == []
    states: tuple[tuple[str, dict[str, Any]], ...] = (
        ("circuit_open", {"circuit_opened_at": NOW, "circuit_probe_at": NOW + timedelta(days=1)}),
        ("circuit_half_open", {"circuit_probe_at": NOW - timedelta(days=1)}),
        ("paused", {"paused": True}),
        ("disabled", {"enabled": False}),
    )
    for state, columns in states:
        with write_transaction(engine) as connection:
            connection.execute(update(webhooks).where(webhooks.c.name == "other").values(columns))
        for asked in ("active", *(name for name, _ in states)):
            expected = ["deploy-hook"] if asked == "active" else ["other"] if asked == state else []
            assert names(api, f"?state={asked}", "webhooks") == expected, (state, asked)
        assert names(api, f"?state=active&state={state}", "webhooks") == ["deploy-hook", "other"]


@pytest.mark.parametrize("what", ["automations", "webhooks"])
@pytest.mark.parametrize("sort", ["created", "name", "changed", "last_fired"])
def test_each_order_goes_on_where_a_page_ended(
    api: Api, defined: dict[str, dict[str, Any]], engine: Engine, what: str, sort: str
) -> None:
    entity_id = acme(engine)
    for name in ("wh_1", "b", "wh_1"):
        deliver(engine, entity_id, defined[name]["id"], "delivered")
    deliver(engine, entity_id, defined["b"]["id"], "skipped")
    deliver(engine, entity_id, defined["b"]["id"], "delivered", replay_of="dlv_x")
    api.ok("PATCH", f"{ACME}/automations/{defined['b']['id']}", {"description": "new"})
    expected = {
        ("automations", "created"): ["b", "a", "wh_1"],
        ("automations", "name"): ["a", "b", "wh_1"],
        ("automations", "changed"): ["b", "wh_1", "a"],
        ("automations", "last_fired"): ["wh_1", "b", "a"],
        ("webhooks", "changed"): ["other", "deploy-hook"],
    }
    page = api.ok("GET", f"{ACME}/{what}?sort={sort}&limit=1")
    found = [one["name"] for one in page["items"]]
    while (cursor := page["next"]) is not None:
        page = api.ok("GET", f"{ACME}/{what}?sort={sort}&limit=1&cursor={cursor}")
        found += [one["name"] for one in page["items"]]
    assert found == expected.get((what, sort), ["deploy-hook", "other"])


def test_the_newest_deliveries_tell_the_same_order_as_each_automation_asked_by_itself(
    api: Api, defined: dict[str, dict[str, Any]], engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("c", "d", "e"):
        defined[name] = create_automation(api, automation(name))
    monkeypatch.setattr(delivery_stats, "MAX_COUNTED", 4)
    monkeypatch.setattr(definition_lists, "MAX_COUNTED", 4)
    entity_id, chance = acme(engine), random.Random(3)
    for _ in range(40):
        status = chance.choice(("delivered", "delivered", "dead", "skipped", "skipped"))
        of = chance.choice(("a", "a", "a", "a", "b", "b", "c", "d"))
        deliver(engine, entity_id, defined[of]["id"], status, replay_of=chance.choice((None, None, "dlv_x")))

    def paged(limit: int, wanted: AutomationFilter) -> list[int]:
        found, after = [], None
        with read_transaction(engine) as connection:
            while rows := list(
                list_automation_rows(connection, entity_id, wanted, Sort.LAST_FIRED, after=after, limit=limit)
            ):
                found += [row.id for _, row in rows]
                after = rows[-1][0]
        return found

    for wanted in (AutomationFilter(), AutomationFilter(event_types=("ADD_ARTIFACT_ALIAS",))):
        monkeypatch.setattr(definition_lists, "_RECENT", 0)
        expected = paged(10, wanted)
        for recent in (1, 3, 8, 1000):
            monkeypatch.setattr(definition_lists, "_RECENT", recent)
            for limit in (1, 2, 3):
                assert paged(limit, wanted) == expected, (recent, limit)


@pytest.mark.parametrize("few_pending", [1, 2])
def test_a_list_tells_how_deliveries_went_in_few_queries(
    api: Api, defined: dict[str, dict[str, Any]], engine: Engine, monkeypatch: pytest.MonkeyPatch, few_pending: int
) -> None:
    monkeypatch.setattr(delivery_stats, "MAX_COUNTED", 4)
    monkeypatch.setattr(delivery_stats, "FEW_PENDING", few_pending)
    entity_id, busy, skipped = acme(engine), defined["b"]["id"], defined["a"]["id"]
    deliver(engine, entity_id, busy, "dead", created_at=NOW - timedelta(hours=2))
    for status in ("dead", "refused", "delivered", "pending", "pending"):
        deliver(engine, entity_id, busy, status, created_at=NOW - timedelta(hours=1))
    deliver(engine, entity_id, busy, "skipped")
    deliver(engine, entity_id, busy, "delivered", replay_of="dlv_x")
    deliver(engine, entity_id, skipped, "skipped", webhook_id=None)

    with Counted(api) as queries:
        plain = api.ok("GET", f"{ACME}/automations")["items"]
        before = len(queries)
        shown = {one["name"]: one for one in api.ok("GET", f"{ACME}/automations?stats=true")["items"]}
        assert len(queries) - before <= before + 2
    assert not any("stats" in one for one in plain)
    assert shown["b"]["stats"] == {
        "last_fired_at": (NOW - timedelta(hours=1)).isoformat().replace("+00:00", "Z"),
        "waiting": 2,
        "failed": 3,
        "outcomes": ["delivered", "skipped", "pending", "pending", "delivered", "refused", "dead", "dead"],
    }
    assert shown["a"]["stats"] == {"last_fired_at": None, "waiting": 0, "failed": 0, "outcomes": ["skipped"]}
    assert shown["wh_1"]["stats"] == {"last_fired_at": None, "waiting": 0, "failed": 0, "outcomes": []}
    hooks = api.ok("GET", f"{ACME}/webhooks?stats=true")["items"]
    assert [(one["stats"]["waiting"], len(one["stats"]["outcomes"])) for one in hooks] == [(2, 8), (0, 0)]
    assert "stats" not in api.ok("GET", f"{ACME}/webhooks")["items"][0]


class Counted:
    """Collects the statements that an API's engine runs."""

    def __init__(self, api: Api) -> None:
        self._engine = api.client.app.state.resources.engine
        self._seen: list[str] = []

    def __enter__(self) -> list[str]:
        event.listen(self._engine, "before_cursor_execute", self._see)
        return self._seen

    def _see(self, _c: Any, _cursor: Any, statement: str, *_more: Any) -> None:
        if statement.lstrip().startswith("SELECT"):
            self._seen.append(statement)

    def __exit__(self, *_exc: object) -> None:
        event.remove(self._engine, "before_cursor_execute", self._see)


@pytest.fixture(params=["automations", "webhooks"])
def odd_names(api: Api, request: pytest.FixtureRequest) -> Iterator[tuple[str, dict[str, str]]]:
    """Things whose names look like ids or paths, by name, and their kind."""
    put_secrets(api)
    create_webhook(api, full_webhook())
    what = request.param
    names = ["aut_1", "test", "revisions", "a/b", "by-name", "x_1"]
    if what == "webhooks":
        names.remove("a/b")
        yield what, {name: create_webhook(api, full_webhook() | {"name": name})["id"] for name in names}
    else:
        yield what, {name: create_automation(api, automation(name))["id"] for name in [*names, "wh_1", "aut_3"]}


def test_a_name_leads_where_it_says_whatever_it_looks_like(api: Api, odd_names: tuple[str, dict[str, str]]) -> None:
    what, ids = odd_names
    for name, id_ in ids.items():
        path = f"{ACME}/{what}/by-name/{quote(name, safe='')}"
        assert api.ok("GET", path, key="member")["id"] == id_
        changed = api.ok("PATCH", path, {"enabled": False})
        assert (changed["id"], changed["name"], changed["enabled"]) == (id_, name, False)
    api.refused("GET", f"{ACME}/{what}/by-name/nobody", status=404)
    api.refused("GET", f"{ACME}/{what}/by-name/{ids['test']}x", status=404)
    tag = api.send("GET", f"{ACME}/{what}/by-name/x_1").headers["etag"]
    api.refused("DELETE", f"{ACME}/{what}/by-name/x_1", status=412, headers={"If-Match": '"1"'})
    assert api.send("DELETE", f"{ACME}/{what}/by-name/x_1", headers={"If-Match": tag}).status_code == 204
    api.refused("GET", f"{ACME}/{what}/{ids['x_1']}", status=404)


def test_projects_and_collections_are_found_by_a_part_of_the_name(api: Api) -> None:
    for project, collection in (("wandb-registry-model", "LLM_big"), ("digits", "llm"), ("50%", "x")):
        api.ok("PUT", f"{ACME}/projects/{quote(project)}/collections/{collection}", {}, key="member")
    assert names(api, "?text=DIG", "projects") == ["digits"]
    assert names(api, "?text=%25", "projects") == ["50%"]
    assert names(api, "?kind=registry", "projects") == ["wandb-registry-model"]
    assert names(api, "?kind=project&text=i", "projects") == ["digits"]
    assert names(api, "?text=_", "collections") == ["LLM_big"]
    api.refused("GET", f"{ACME}/projects?kind=registries", status=422, key="member")


def test_an_entity_is_looked_up_once_in_a_snapshot_and_each_time_where_it_may_change(api: Api, engine: Engine) -> None:
    seen: list[str] = []

    def note(_connection: Any, _cursor: Any, statement: str, *_more: Any) -> None:
        seen.append(statement)

    event.listen(engine, "before_cursor_execute", note)
    try:
        with read_transaction(engine) as connection:
            assert find_entity(connection, "acme") == find_entity(connection, "acme") is not None
            assert find_entity(connection, "never") is None is find_entity(connection, "never")
        assert len([one for one in seen if "FROM entities" in one]) == 2
        seen.clear()
        with write_transaction(engine) as connection:
            find_entity(connection, "acme"), find_entity(connection, "acme")
        assert len([one for one in seen if "FROM entities" in one]) == 2
    finally:
        event.remove(engine, "before_cursor_execute", note)
