"""The events that are kept, over REST: listed both ways and within bounds; one with what each automation made of it."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import orjson
import pytest
from redis import Redis
from sqlalchemy import Engine, insert

from shared.domain.events.decoding import check_event
from shared.domain.ids import IdKind, decode_id
from shared.domain.matching.compiled import firing_id
from shared.dry_runs import event_search
from shared.messaging.streams import FIELD, stream_key
from shared.settings import Settings
from shared.storage.database.transactions import write_transaction
from shared.storage.schema.tables import deliveries
from tests.integration.api.conftest import ACME, Api, automation, create_automation, create_webhook, event, running
from tests.integration.api.test_dry_runs import ON_METRIC, add, evaluated_through, metric
from tests.integration.processes import wait_until

EVENTS = f"{ACME}/events"


def now_ms() -> int:
    return int(datetime.now(UTC).timestamp() * 1000)


def ids(page: Any) -> list[str]:
    return [one["id"] for one in page["items"]]


def test_events_are_listed_newest_first_and_both_ways(api: Api, redis: Redis, settings: Settings) -> None:
    start_ms = now_ms() - 60_000
    for place in range(7):
        add(redis, settings, event(f"e{place}", collection={"name": f"c{place % 3}"}), start_ms + place // 2)
    add(redis, settings, event("theirs", entity="other"), start_ms + 50)

    first = api.ok("GET", f"{EVENTS}?limit=3", key="member")
    second = api.ok("GET", f"{EVENTS}?limit=3&cursor={first['next']}", key="member")
    third = api.ok("GET", f"{EVENTS}?limit=3&cursor={second['next']}", key="member")
    assert sorted(ids(first) + ids(second) + ids(third)) == [f"e{place}" for place in range(7)]
    received = [one["received_at"] for page in (first, second, third) for one in page["items"]]
    assert received == sorted(received, reverse=True)
    assert third["next"] is None
    assert all(page["complete"] for page in (first, second, third))

    back = api.ok("GET", f"{EVENTS}?limit=3&cursor={third['previous']}", key="member")
    assert ids(back) == ids(second)
    assert ids(api.ok("GET", f"{EVENTS}?limit=3&cursor={back['previous']}", key="member")) == ids(first)

    nothing = api.ok("GET", f"{EVENTS}?cursor={first['previous']}", key="member")
    assert nothing["items"] == []
    add(redis, settings, event("late"), start_ms + 1000)
    assert ids(api.ok("GET", f"{EVENTS}?cursor={nothing['previous']}", key="member")) == ["late"]


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("", ["m", "quote", "e2", "e1"]),
        ("type=RUN_METRIC", ["m"]),
        ("project=digits", ["m"]),
        ("run=r1", ["m"]),
        ("collection=b", ["e2"]),
        ("author=alice", ["e1"]),
        ("source=/other", ["e2"]),
        ("id=e1", ["e1"]),
        ("id=e1&collection=b", []),
        ("collection=a%22b", ["quote"]),
        ("since=1h", ["m", "quote", "e2", "e1"]),
        ("until=55s", ["e2", "e1"]),
        ("since=57s&until=53s", ["quote", "e2"]),
    ],
)
def test_events_are_found_by_what_they_are_about(
    api: Api, redis: Redis, settings: Settings, query: str, found: list[str]
) -> None:
    now = now_ms()
    add(redis, settings, event("e1", author="alice"), now - 60_000)
    add(redis, settings, event("e2", collection={"name": "b"}) | {"source": "/other"}, now - 56_000)
    add(redis, settings, event("quote", collection={"name": 'a"b'}), now - 54_000)
    add(redis, settings, metric(1, acc=1.0) | {"id": "m"}, now - 50_000)
    assert ids(api.ok("GET", f"{EVENTS}?{query}", key="member")) == found


def test_an_escaped_text_is_found_too(api: Api, redis: Redis, settings: Settings) -> None:
    raw = orjson.dumps(event("plain")).replace(b'"plain"', b'"pl\\u0061in"')
    redis.xadd(stream_key(0), {FIELD: raw})
    assert ids(api.ok("GET", f"{EVENTS}?id=plain")) == ["plain"]
    assert settings.partitions > 0


def test_a_page_ends_at_its_bound_and_the_next_goes_on(
    api: Api, redis: Redis, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert event_search.MAX_SCANNED == 20_000
    monkeypatch.setattr(event_search.EventSearch.__init__, "__kwdefaults__", {"max_entries": 4, "max_bytes": 1 << 20})
    start_ms = now_ms() - 60_000
    for place in range(10):
        add(redis, settings, event(f"e{place}", author="rare" if place == 1 else "often"), start_ms + place)
    pages, cursor = 0, ""
    seen: list[str] = []
    while True:
        page = api.ok("GET", f"{EVENTS}?author=rare{cursor}")
        assert page["scanned"] <= 4
        pages, seen = pages + 1, seen + ids(page)
        if page["next"] is None:
            break
        assert page["complete"] is False
        cursor = f"&cursor={page['next']}"
    assert (pages, seen) == (3, ["e1"])


def test_bad_queries_are_refused(api: Api) -> None:
    for query, loc in (
        ("type=NONE", ["type"]),
        ("cursor=x", ["cursor"]),
        ("since=later", ["since"]),
        ("until=", ["until"]),
        ("limit=0", ["limit"]),
    ):
        assert loc in [one[-1:] for one in api.refused("GET", f"{EVENTS}?{query}", status=422).locs], query
    assert api.refused("GET", f"{EVENTS}/one", status=422).locs == [["id"]]
    assert api.refused("GET", f"{EVENTS}/one?entry=1-2", status=422).locs == [["entry"]]
    api.refused("GET", f"{EVENTS}/one?entry=9999:1-2", status=404)
    api.refused("GET", f"{EVENTS}/one?id=none", status=404)


def test_one_event_comes_with_what_each_automation_made_of_it(
    api: Api, redis: Redis, settings: Settings, engine: Engine
) -> None:
    create_webhook(api)
    definitions: dict[str, dict[str, Any]] = {
        "fires": {},
        "skips": {},
        "differs": {"filter": {"alias": "other"}},
        "elsewhere": {"scope": {"project": "another"}},
        "disabled": {"enabled": False},
        "gone": {},
        "was-other": {"event": "LINK_ARTIFACT", "filter": {}},
        "of-runs": {**ON_METRIC, "scope": {}, "filter": {}},
    }
    made = {
        name: create_automation(api, {**automation(), **members, "name": name})["id"]
        for name, members in definitions.items()
    }
    api.ok("DELETE", f"{ACME}/automations/{made['gone']}", status=204)
    received_ms = now_ms() + 1
    wait_until(lambda: now_ms() > received_ms + 1, "the moment of the event")
    raw = event("e1")
    add(redis, settings, raw, received_ms)
    create_automation(api, automation("late"))
    api.ok("PATCH", f"{ACME}/automations/{made['was-other']}", {"event": "ADD_ARTIFACT_ALIAS"})
    evaluated_through(engine, settings, redis)
    _stored(engine, raw, made["fires"], received_ms, "delivered", None)
    _stored(engine, raw, made["skips"], received_ms, "skipped", "cooldown")

    listed = api.ok("GET", EVENTS)["items"][0]
    by_entry = api.ok("GET", f"{EVENTS}/one?entry={listed['entry']}", key="member")
    by_id = api.ok("GET", f"{EVENTS}/one?id=e1&source=/test", key="member")

    assert by_entry == by_id
    assert by_id["event"] == raw
    assert by_id["evaluated"] is True
    assert {key: by_id[key] for key in listed} == listed
    told = {one["automation"]["name"]: one for one in by_id["automations"]}
    assert {name: (one["outcome"], one["reason"]) for name, one in told.items()} == {
        "fires": ("fired", None),
        "skips": ("skipped", "cooldown"),
        "differs": ("no_match", "filter"),
        "elsewhere": ("out_of_scope", "scope"),
        "disabled": ("no_match", "automation_disabled"),
        "gone": ("no_match", "deleted"),
        "was-other": ("out_of_scope", "event_type"),
        "late": ("no_match", "not_created"),
    }
    assert told["fires"]["delivery"] == firing_id(_number(made["fires"]), check_event(raw))
    assert told["skips"]["delivery_status"] == "skipped"
    assert told["differs"]["decisive"][0]["value"] == "production"
    assert told["gone"]["automation"]["deleted"] is True

    page = api.ok("GET", f"{EVENTS}/one?id=e1&limit=3")
    rest = api.ok("GET", f"{EVENTS}/one?id=e1&limit=500&cursor={page['next']}")
    assert [one["automation"]["name"] for one in page["automations"] + rest["automations"]] == list(told)
    assert rest["next"] is None


def _number(automation_id: str) -> int:
    number = decode_id(IdKind.AUTOMATION, automation_id)
    assert number is not None
    return number


def _stored(
    engine: Engine, raw: dict[str, Any], automation_id: str, received_ms: int, status: str, reason: str | None
) -> None:
    at = datetime.fromtimestamp(received_ms / 1000, UTC)
    row = {
        "id": firing_id(_number(automation_id), check_event(raw)),
        "entity_id": 1,
        "automation_id": _number(automation_id),
        "webhook_id": 1,
        "status": status,
        "reason": reason,
        "payload": "{}",
        "event_id": raw["id"],
        "event_source": raw["source"],
        "event_type": raw["type"],
        "event_received_at": at,
        "created_at": at,
    }
    with write_transaction(engine) as connection:
        connection.execute(insert(deliveries), [row])


def test_conditions_of_one_event_are_told_by_the_run_before_it(
    api: Api, redis: Redis, settings: Settings, engine: Engine
) -> None:
    create_automation(api, ON_METRIC)
    begin_ms = now_ms() + 1
    wait_until(lambda: now_ms() > begin_ms + 20, "the moment after the events")
    for step, value in enumerate((0.1, 0.2, 0.3)):
        add(redis, settings, metric(step, acc=value), begin_ms + step)
        add(redis, settings, metric(step, acc=0.9) | {"id": f"x{step}", "data": _other_run(step)}, begin_ms + step)
    evaluated_through(engine, settings, redis)
    [told] = api.ok("GET", f"{EVENTS}/one?id=step-2")["automations"]
    assert (told["outcome"], told["reason"]) == ("no_match", "conditions")
    assert told["decisive"][0]["value"] == pytest.approx(0.25)


def test_many_automations_share_what_is_read_of_the_run_before(
    api: Api, redis: Redis, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shared.dry_runs.event_outcomes.MAX_REPLAYED", 4)
    for name in ("one", "two"):
        create_automation(api, {**ON_METRIC, "name": name})
    begin_ms = now_ms() + 1
    wait_until(lambda: now_ms() > begin_ms + 20, "the moment after the events")
    for step in range(5):
        add(redis, settings, metric(step, acc=0.1), begin_ms + step)
    told = api.ok("GET", f"{EVENTS}/one?id=step-4")["automations"]
    assert [one["notes"][-1] for one in told] == ["windows begin 2 events before"] * 2
    [alone] = api.ok("GET", f"{EVENTS}/one?id=step-2&limit=1")["automations"]
    assert not [note for note in alone["notes"] if "windows" in note]


def _other_run(step: int) -> dict[str, Any]:
    return {"entity": "acme", "project": "digits", "run": {"id": "r2"}, "step": step, "metrics": {"acc": 0.9}}


def test_instance_administrators_see_what_nobody_else_does(api: Api, redis: Redis, settings: Settings) -> None:
    add(redis, settings, event("mine"), now_ms() - 3000)
    add(redis, settings, event("lost", entity="unknown"), now_ms() - 2000)
    redis.xadd(stream_key(0), {FIELD: b"no json"}, id=f"{now_ms() - 1000}-*")
    redis.xadd(stream_key(0), {b"x": b"y"}, id=f"{now_ms() - 500}-*")

    found = api.ok("GET", "/v1/events")["items"]
    assert [one["kind"] for one in found] == ["poison", "poison", "unknown_entity", "event"]
    assert found[1]["body"] == "no json"
    assert found[1]["reason"]
    assert found[2]["event"]["entity"] == "unknown"
    for kind, count in (("poison", 2), ("unknown_entity", 1), ("event", 1)):
        assert len(api.ok("GET", f"/v1/events?kind={kind}")["items"]) == count
    assert ids(api.ok("GET", EVENTS)) == ["mine"]
    for key in ("admin", "member", "publisher", "outsider"):
        api.refused("GET", "/v1/events", status=403, key=key)
    api.refused("GET", EVENTS, status=403, key="publisher")
    api.refused("GET", EVENTS, status=404, key="outsider")
    listed = api.ok("GET", EVENTS)["items"][0]["entry"]
    api.refused("GET", f"/v1/entities/other/events/one?entry={listed}", status=404, key="outsider")


def test_streams_that_are_away_are_a_503(settings: Settings) -> None:
    with running(settings.model_copy(update={"redis_url": "redis://127.0.0.1:1/0"})) as client:
        api = Api(client)
        for path in (EVENTS, f"{EVENTS}/one?id=x", "/v1/events"):
            assert api.refused("GET", path, status=503).headers["retry-after"]
