"""Dry runs over REST: what would fire and why not, on given events and on spans, without a trace."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import orjson
import pytest
from redis import Redis
from sqlalchemy import Engine, select, update

from shared.domain.events.decoding import check_event
from shared.domain.events.partitioning import partition_of
from shared.dry_runs.event_history import MAX_ENTRIES
from shared.messaging.streams import FIELD, stream_key
from shared.settings import Settings
from shared.storage.database.transactions import read_transaction, write_transaction
from shared.storage.schema.tables import metadata, partitions
from tests.integration.api.conftest import (
    ACME,
    SECRETS,
    Api,
    automation,
    create_automation,
    create_webhook,
    event,
    full_webhook,
    put_secrets,
    running,
    webhook,
)
from tests.integration.processes import wait_until

DRY_RUN = f"{ACME}/automations/dry-run"
ON_METRIC = {
    "name": "accurate",
    "event": "RUN_METRIC",
    "conditions": [{"metric": "acc", "aggregate": "AVERAGE", "window": 2, "op": "$gte", "threshold": 0.5}],
    "action": {"no_op": True},
}


def metric(step: int, *, entity: str = "acme", **metrics: float) -> dict[str, Any]:
    data = {"entity": entity, "project": "digits", "run": {"id": "r1"}, "step": step, "metrics": metrics}
    return {**event(f"step-{step}", entity=entity), "type": "RUN_METRIC", "data": data}


def add(redis: Redis, settings: Settings, raw: dict[str, Any], at_ms: int) -> None:
    """Append an event at a time of the stream."""
    partition = partition_of(check_event(raw), settings.partitions)
    redis.xadd(stream_key(partition), {FIELD: orjson.dumps(raw)}, id=f"{at_ms}-*")


def evaluated_through(engine: Engine, settings: Settings, redis: Redis) -> None:
    """Put the offset of each partition at the end of its stream, as if all was evaluated and nothing fired."""
    with write_transaction(engine) as connection:
        for partition in range(settings.partitions):
            last: Any = redis.xrevrange(stream_key(partition), count=1)
            if last:
                mine = partitions.c.partition == partition
                connection.execute(update(partitions).where(mine).values(offset=last[0][0].decode()))


def everything(engine: Engine, redis: Redis) -> list[Any]:
    """All rows and all streams; a key's last use is noted at most every ten minutes, so it is the same as before."""
    with read_transaction(engine) as connection:
        rows: list[Any] = [connection.execute(select(table)).all() for table in metadata.sorted_tables]
    return rows + sorted((key, redis.dump(key)) for key in redis.keys("*"))


def test_a_definition_is_tried_without_being_saved(api: Api, engine: Engine, redis: Redis) -> None:
    put_secrets(api)
    create_webhook(api, full_webhook())
    payload = {"by": "${event_author}", "v": "${artifact_version_string}", "t": "${ACCESS_TOKEN}", "d": "${DEPLOY}"}
    definition = automation(action={"webhook": "deploy-hook", "payload": payload})
    tried = event("e1", author="alice")
    api.ok("GET", f"{ACME}/automations", key="member")
    before = everything(engine, redis)

    answer = api.ok("POST", DRY_RUN, {"definition": definition, "event": tried}, key="member")

    assert answer["summary"] == {"events": 1, "in_scope": 1, "matched": 1, "fired": 1, "skipped": 0}
    (result,) = answer["results"]
    assert (result["outcome"], result["reason"], result["event"]["id"]) == ("fired", None, "e1")
    assert result["payload"] == {
        "by": "alice",
        "v": "acme/wandb-registry-model/llm-models:production",
        "t": "***ACCESS_TOKEN***",
        "d": "***DEPLOY***",
    }
    assert result["decisive"] == [{"text": 'alias $regex "^prod"', "held": True, "value": "production", "terms": []}]
    assert (answer["automation"], answer["next"], answer["truncated"], answer["since"]) == (None, None, False, None)
    assert not any(value in text for text in api.answers for value in SECRETS.values())
    assert everything(engine, redis) == before


def test_a_filter_that_says_no_is_named_with_the_value(api: Api) -> None:
    create_webhook(api)
    answer = api.ok("POST", DRY_RUN, {"definition": automation(), "event": event(alias="latest")}, key="member")

    (result,) = answer["results"]
    assert (result["outcome"], result["reason"], result["payload"]) == ("no_match", "filter", None)
    assert result["decisive"] == [{"text": 'alias $regex "^prod"', "held": False, "value": "latest", "terms": []}]
    filters = [term for term in result["explanation"]["terms"] if term["text"] == "filter"]
    assert filters[0]["terms"] == result["decisive"]


@pytest.mark.parametrize("by", ["id", "name"])
def test_a_saved_automation_is_tried_by_id_or_name(api: Api, by: str) -> None:
    hook = create_webhook(api)
    saved = create_automation(api)
    api.ok("PATCH", f"{ACME}/webhooks/{hook['id']}", {"enabled": False})

    answer = api.ok("POST", DRY_RUN, {"automation": saved[by], "event": event()}, key="member")

    assert answer["automation"] == saved["id"]
    (result,) = answer["results"]
    assert (result["outcome"], result["reason"]) == ("skipped", "webhook_disabled")
    assert answer["summary"]["skipped"] == 1


def test_events_go_through_the_windows_in_order(api: Api) -> None:
    events = [metric(step, acc=value) for step, value in enumerate((0.1, 0.5, 0.9, 0.9))]
    answer = api.ok("POST", DRY_RUN, {"definition": ON_METRIC, "events": events}, key="member")

    assert [result["reason"] for result in answer["results"]] == ["conditions", "conditions", None, "already_true"]
    assert answer["results"][0]["decisive"][0]["text"].endswith("window has 1 of 2 values")
    assert answer["results"][1]["decisive"][0]["value"] == pytest.approx(0.3)
    assert "since step 2" in answer["results"][3]["decisive"][0]["text"]
    assert answer["summary"] == {"events": 4, "in_scope": 4, "matched": 4, "fired": 1, "skipped": 0}


def test_results_are_filtered_and_paged(api: Api) -> None:
    create_webhook(api)
    events = [event(f"e{n}", alias="production" if n % 2 else "latest") for n in range(9)]
    body = {"definition": automation(), "events": events, "only": "no_match", "limit": 2}

    ids, cursor = [], None
    while True:
        answer = api.ok("POST", DRY_RUN, body | ({"cursor": cursor} if cursor else {}), key="member")
        ids.append([result["event"]["id"] for result in answer["results"]])
        assert answer["summary"]["fired"] == 4
        if (cursor := answer["next"]) is None:
            break

    assert ids == [["e0", "e2"], ["e4", "e6"], ["e8"]]


def test_a_span_of_the_streams_is_tried(api: Api, redis: Redis, settings: Settings, engine: Engine) -> None:
    api.ok("PUT", "/v1/entities/acme", {"kind": "organization"})
    api.ok("PUT", "/v1/entities/team", {"parent": "acme"}, status=201)
    create_webhook(api)
    create_automation(api, automation(scope={}))
    now = datetime.now(UTC)
    now_ms = int(now.timestamp() * 1000)
    for minutes, entity, collection in ((50, "acme", "a"), (40, "other", "b"), (30, "team", "c"), (20, "acme", "d")):
        raw = event(f"before-{minutes}", entity=entity, collection={"name": collection})
        add(redis, settings, raw, now_ms - minutes * 60_000)
    api.ok("GET", f"{ACME}/automations", key="member")
    before = everything(engine, redis)

    today = {"automation": "on-production", "today": True}
    whole = api.ok("POST", DRY_RUN, {**today, "since": "1h"}, key="member")
    span = {"since": (now - timedelta(minutes=45)).isoformat(), "until": (now - timedelta(minutes=25)).isoformat()}
    part = api.ok("POST", DRY_RUN, {**today, **span}, key="member")

    assert [result["event"]["id"] for result in whole["results"]] == ["before-20", "before-30", "before-50"]
    assert whole["summary"]["fired"] == 3
    assert [result["event"]["id"] for result in part["results"]] == ["before-30"]
    received = datetime.fromisoformat(part["results"][0]["event"]["received_at"])
    assert abs(received - (now - timedelta(minutes=30))) < timedelta(milliseconds=2)
    assert (whole["truncated"], part["truncated"]) == (False, False)
    assert datetime.fromisoformat(part["until"]) <= now - timedelta(minutes=25)
    assert everything(engine, redis) == before


def test_the_past_is_told_by_what_the_automation_was_then(
    api: Api, redis: Redis, settings: Settings, engine: Engine
) -> None:
    create_webhook(api)
    path = f"{ACME}/automations/{create_automation(api)['id']}"
    now_ms = int(datetime.now(UTC).timestamp() * 1000)
    add(redis, settings, event("before"), now_ms - 60_000)

    def publish(event_id: str, **data: Any) -> None:
        received_ms = int(datetime.now(UTC).timestamp() * 1000) + 1
        add(redis, settings, event(event_id, **data), received_ms)
        wait_until(lambda: datetime.now(UTC).timestamp() * 1000 > received_ms + 1, "the moment after the event")

    publish("first")
    api.ok("PATCH", path, {"enabled": False}, key="member")
    publish("disabled")
    api.ok("PATCH", path, {"enabled": True, "filter": {"alias": "other"}}, key="member")
    publish("filtered")
    publish("elsewhere", project="another")
    evaluated_through(engine, settings, redis)
    asked = {"automation": "on-production", "since": "1h"}
    past = api.ok("POST", DRY_RUN, asked, key="member")
    today = api.ok("POST", DRY_RUN, {**asked, "today": True}, key="member")

    assert [(one["event"]["id"], one["outcome"], one["reason"]) for one in past["results"]] == [
        ("elsewhere", "out_of_scope", "scope"),
        ("filtered", "no_match", "filter"),
        ("disabled", "no_match", "automation_disabled"),
        ("first", "no_match", "not_recorded"),
        ("before", "no_match", "not_created"),
    ]
    told = past["results"][2]
    assert "was disabled from" in told["decisive"][0]["text"]
    assert told["decisive"][0]["text"].endswith("by acme/member")
    revisions = api.ok("GET", f"{path}/revisions")["items"]
    assert [one["in_force"]["revision"] for one in past["results"][:4]] == [
        revisions[0]["number"],
        revisions[0]["number"],
        revisions[1]["number"],
        revisions[2]["number"],
    ]
    assert (past["judged_by"], today["judged_by"]) == ("past", "today")
    assert {one["reason"] for one in today["results"]} == {"filter", "scope"}


def test_an_event_that_waits_is_not_evaluated_yet(api: Api, redis: Redis, settings: Settings) -> None:
    create_webhook(api)
    create_automation(api)
    add(redis, settings, event("waits"), int(datetime.now(UTC).timestamp() * 1000) + 1000)
    asked = {"automation": "on-production", "since": "1h", "until": "2100-01-01T00:00:00Z"}
    [waits] = api.ok("POST", DRY_RUN, asked, key="member")["results"]
    assert (waits["outcome"], waits["reason"]) == ("no_match", "not_evaluated")


@pytest.mark.parametrize(
    ("wanted", "found"),
    [
        ({}, ["e2", "e1", "e0"]),
        ({"event_id": "e1"}, ["e1"]),
        ({"collection": "b"}, ["e2"]),
        ({"reason": "scope"}, ["e2"]),
        ({"reason": "event_type"}, ["m0"]),
        ({"only": "out_of_scope"}, ["m0", "e2"]),
        ({"run": "r1"}, []),
        ({"run": "r1", "reason": "event_type"}, ["m0"]),
    ],
)
def test_results_of_a_range_are_picked(
    api: Api, redis: Redis, settings: Settings, wanted: dict[str, Any], found: list[str]
) -> None:
    create_webhook(api)
    now_ms = int(datetime.now(UTC).timestamp() * 1000)
    for place, name in enumerate(("a", "a", "b")):
        raw = event(f"e{place}", collection={"name": "llm-models" if name == "a" else name})
        add(redis, settings, raw, now_ms - 60_000 + place)
    add(redis, settings, metric(1, acc=0.5) | {"id": "m0"}, now_ms - 50_000)
    body = {"definition": automation(), "since": "1h", **wanted}
    answer = api.ok("POST", DRY_RUN, body, key="member")
    assert [one["event"]["id"] for one in answer["results"]] == found
    assert answer["summary"]["events"] == 4


def test_pages_of_a_range_go_back_in_time(api: Api, redis: Redis, settings: Settings) -> None:
    create_webhook(api)
    now_ms = int(datetime.now(UTC).timestamp() * 1000)
    for place in range(5):
        add(redis, settings, event(f"e{place}"), now_ms - 60_000 + place)
    since = datetime.fromtimestamp(now_ms / 1000 - 100, UTC).isoformat()
    body = {"definition": automation(), "since": since, "until": "2100-01-01T00:00:00Z", "limit": 2}
    ids, cursor = [], None
    while True:
        answer = api.ok("POST", DRY_RUN, body | ({"cursor": cursor} if cursor else {}), key="member")
        ids.append([one["event"]["id"] for one in answer["results"]])
        if (cursor := answer["next"]) is None:
            break
    assert ids == [["e4", "e3"], ["e2", "e1"], ["e0"]]


def test_a_span_that_is_too_long_says_where_it_stopped(
    api: Api, redis: Redis, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert MAX_ENTRIES == 100_000
    monkeypatch.setattr("shared.dry_runs.event_history.CHUNK_ENTRIES", 2)
    monkeypatch.setattr("shared.dry_runs.event_history.MAX_BYTES", 1500)
    create_webhook(api)
    start_ms = 1_790_000_000_000
    for n in range(20):
        add(redis, settings, event(f"e{n}"), start_ms + n)
    span = {"since": datetime.fromtimestamp(start_ms / 1000, UTC).isoformat(), "until": "2027-01-01T00:00:00Z"}

    answer = api.ok("POST", DRY_RUN, {"definition": automation(), **span}, key="member")
    rest = {"definition": automation(), "since": answer["read_until"], "until": "2027-01-01T00:00:00Z"}
    next_answer = api.ok("POST", DRY_RUN, rest, key="member")

    assert answer["truncated"] is True
    last = answer["results"][0]["event"]
    assert 1 < answer["summary"]["events"] < 20
    assert last["received_at"] == answer["read_until"]
    assert next_answer["results"][-1]["event"] == last


def test_stored_state_is_used_when_asked_for(api: Api) -> None:
    create_automation(api, ON_METRIC)
    body = {"automation": "accurate", "events": [metric(7, acc=0.9)], "with_state": True}

    answer = api.ok("POST", DRY_RUN, body, key="member")

    assert answer["results"][0]["reason"] == "conditions"
    received = datetime.fromisoformat(answer["results"][0]["event"]["received_at"])
    assert abs(datetime.now(UTC) - received) < timedelta(minutes=1)


@pytest.mark.parametrize(
    ("body", "locs"),
    [
        ({}, [["definition"], ["event"]]),
        ({"definition": {}, "automation": "x", "event": {}, "since": "1h"}, [["definition"], ["event"]]),
        ({"automation": "absent", "event": event()}, [["automation"]]),
        ({"automation": "aut_99", "event": event()}, [["automation"]]),
        ({"definition": 7, "event": event()}, [["definition"]]),
        ({"unknown": 1}, [["unknown"]]),
        ({"definition": ON_METRIC, "events": []}, [["events"]]),
        ({"definition": ON_METRIC, "events": [{}] * 1001}, [["events"]]),
        ({"definition": ON_METRIC, "events": [metric(1, acc=1), {**metric(2), "id": ""}]}, None),
        ({"definition": ON_METRIC, "event": event(alias=7)}, [["event", "data", "alias"]]),
        ({"definition": ON_METRIC, "since": "yesterday"}, [["since"]]),
        ({"definition": ON_METRIC, "since": "2026-01-01"}, [["since"]]),
        ({"definition": ON_METRIC, "since": "1h", "until": "2h"}, [["since"]]),
        ({"definition": ON_METRIC, "since": "1h", "until": 5}, [["until"]]),
        ({"definition": ON_METRIC, "event": event(), "until": "1h"}, [["until"]]),
        ({"definition": ON_METRIC, "event": event(), "with_state": True}, [["with_state"]]),
        ({"definition": ON_METRIC, "since": "1h", "today": True}, [["today"]]),
        ({"automation": "x", "event": event(), "today": True}, [["today"]]),
        ({"automation": "x", "since": "1h"}, [["automation"]]),
        ({"definition": ON_METRIC, "since": "1h", "reason": "none"}, [["reason"]]),
        ({"definition": ON_METRIC, "event": event(), "limit": 0}, [["limit"]]),
        ({"definition": ON_METRIC, "event": event(), "limit": 501}, [["limit"]]),
        ({"definition": ON_METRIC, "event": event(), "only": "never"}, [["only"]]),
        ({"definition": ON_METRIC, "event": event(), "cursor": "zzz"}, [["cursor"]]),
    ],
)
def test_bad_input_names_the_place(api: Api, body: dict[str, Any], locs: list[list[str]] | None) -> None:
    problem = api.refused("POST", DRY_RUN, body, status=422, key="member")

    expected = [["events", 1, "id"], ["events", 1, "data", "metrics"]] if locs is None else locs
    assert sorted(problem.locs, key=str) == sorted(expected, key=str)


def test_faults_of_definition_and_events_come_together(api: Api) -> None:
    definition = automation(filter={"alais": "x", "alias": {"$regex": "("}}, action={"webhook": "absent"})
    events = [event(), event(), event(), event(alias=7)]

    problem = api.refused("POST", DRY_RUN, {"definition": definition, "events": events}, status=422, key="member")

    assert ["definition", "filter", "alais"] in problem.locs
    assert ["definition", "filter", "alias", "$regex"] in problem.locs
    assert ["definition", "action", "webhook"] in problem.locs
    assert ["events", 3, "data", "alias"] in problem.locs


def test_only_members_and_admins_may(api: Api) -> None:
    create_webhook(api)
    body = {"definition": automation(), "event": event()}

    assert api.ok("POST", DRY_RUN, body, key="admin")["summary"]["fired"] == 1
    assert api.refused("POST", DRY_RUN, body, status=403, key="publisher").detail
    assert api.refused("POST", DRY_RUN, body, status=404, key="outsider").detail
    other = {"definition": automation(action={"no_op": True}), "event": event()}
    answer = api.ok("POST", "/v1/entities/other/automations/dry-run", other, key="outsider")
    assert answer["results"][0]["reason"] == "scope"


def test_streams_that_are_away_are_a_503(settings: Settings) -> None:
    with running(settings.model_copy(update={"redis_url": "redis://127.0.0.1:1/0"})) as client:
        api = Api(client)
        span = {"definition": ON_METRIC, "since": "1h"}
        problem = api.refused("POST", DRY_RUN, span, status=503)
        assert problem.headers["retry-after"]
        assert api.ok("POST", DRY_RUN, {"definition": ON_METRIC, "event": event()})["summary"]["events"] == 1


def test_a_thousand_large_events_are_taken(api: Api) -> None:
    create_webhook(api, webhook())
    artifact = {"id": "a", "version": "v1", "metadata": {"text": "x" * 6000}}
    events = [event(f"e{n}", artifact=artifact) for n in range(1000)]

    answer = api.ok("POST", DRY_RUN, {"definition": automation(), "events": events, "limit": 1}, key="member")

    assert answer["summary"]["fired"] == 1000
