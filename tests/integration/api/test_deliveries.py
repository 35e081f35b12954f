"""Deliveries: listed by what people look for, shown with secrets masked, replayed as new ones."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from redis import Redis
from sqlalchemy import Engine, delete, insert, select, update

from dispatcher.control import deliveries as control
from shared.domain.delivery.exchange import shown_exchange
from shared.domain.ids import IdKind, decode_id
from shared.settings import Settings
from shared.storage.database.transactions import read_transaction, write_transaction
from shared.storage.definitions.entities import find_entity
from shared.storage.delivery import history as store
from shared.storage.delivery.history import new_delivery_id
from shared.storage.schema.tables import attempts, deliveries, pending_deliveries, webhooks
from tests.integration.api.conftest import (
    ACME,
    Api,
    automation,
    create_automation,
    create_webhook,
    full_webhook,
    put_secrets,
)

START = datetime(2026, 11, 23, 9, tzinfo=UTC)


@dataclass
class History:
    """Deliveries written as the workers write them, one a minute."""

    engine: Engine
    entity_id: int
    automation: Any
    webhook: Any
    count: int = 0

    def add(self, status: str, *, attempted: int = 0, claim: int | None = None, **columns: Any) -> str:
        """A delivery of this status; a pending one gets its row in the queue."""
        made = START + timedelta(minutes=self.count)
        self.count += 1
        row = {
            "id": new_delivery_id(),
            "entity_id": self.entity_id,
            "automation_id": decode_id(IdKind.AUTOMATION, self.automation["id"]),
            "webhook_id": decode_id(IdKind.WEBHOOK, self.webhook["id"]),
            "status": status,
            "payload": '{"key":"${DEPLOY}","cost":"$$5"}',
            "event_id": f"event-{self.count}",
            "event_source": "/test",
            "event_type": "ADD_ARTIFACT_ALIAS",
            "event_received_at": made,
            "created_at": made,
            "attempts": 0 if status == "pending" else attempted,
            **columns,
        }
        with write_transaction(self.engine) as connection:
            seq = connection.execute(insert(deliveries).values(row).returning(deliveries.c.seq)).scalar_one()
            if status == "pending":
                due = {"next_attempt_at": made, "attempts": attempted, "claim": claim}
                connection.execute(insert(pending_deliveries).values(seq=seq, webhook_id=row["webhook_id"], **due))
            for number in range(1, attempted + 1):
                connection.execute(
                    insert(attempts).values(
                        delivery_seq=seq,
                        number=number,
                        claim=number,
                        started_at=made,
                        duration_ms=12,
                        outcome="5xx",
                        status_code=500,
                        response_body="broken",
                        response_truncated=False,
                    )
                )
        return str(row["id"])


@pytest.fixture
def history(api: Api, engine: Engine) -> History:
    """An entity with a webhook, an automation and no deliveries."""
    put_secrets(api)
    hook = create_webhook(api, full_webhook())
    user = create_automation(api)
    with read_transaction(engine) as connection:
        entity = find_entity(connection, "acme")
    assert entity is not None
    return History(engine, entity.id, user, hook)


def ids(api: Api, query: str = "", *, key: str = "member") -> list[str]:
    """The ids of the deliveries that a query lists."""
    return [delivery["id"] for delivery in api.ok("GET", f"{ACME}/deliveries{query}", key=key)["items"]]


def test_a_pending_delivery_shows_where_its_retries_stand(api: Api, history: History) -> None:
    waiting = history.add("pending", attempted=2)
    underway = history.add("pending", attempted=2, claim=7)

    shown = api.ok("GET", f"{ACME}/deliveries/{waiting}", key="member")

    assert shown["attempts"] == 2
    assert shown["next_attempt_at"] == "2026-11-23T09:00:00Z"
    assert (shown["status"], shown["finished_at"], shown["replay_of"]) == ("pending", None, None)
    assert shown["automation"] == {"id": history.automation["id"], "name": "on-production"}
    assert shown["webhook"] == {"id": history.webhook["id"], "name": "deploy-hook"}
    assert shown["event"] == {
        "id": "event-1",
        "source": "/test",
        "type": "ADD_ARTIFACT_ALIAS",
        "received_at": "2026-11-23T09:00:00Z",
        "project": None,
        "run": None,
        "collection": None,
    }
    assert shown["payload"] == {"key": "***DEPLOY***", "cost": "$5"}
    assert shown["attempt_log"] == [
        {
            "number": number,
            "started_at": "2026-11-23T09:00:00Z",
            "duration_ms": 12,
            "outcome": "5xx",
            "status_code": 500,
            "error": None,
            "response_body": "broken",
            "response_truncated": False,
            **shown_exchange(None, None),
        }
        for number in (1, 2)
    ]
    assert api.ok("GET", f"{ACME}/deliveries/{underway}")["next_attempt_at"] is None
    listed = api.ok("GET", f"{ACME}/deliveries")["items"][1]
    assert listed == {
        name: value
        for name, value in shown.items()
        if name not in ("payload", "content_type", "attempt_log", "replays")
    }


def test_deliveries_are_found_by_what_they_are_about(api: Api, history: History) -> None:
    made = {status: history.add(status) for status in ("pending", "delivered", "dead", "refused", "skipped")}
    other = create_automation(api, automation("other"))
    odd = history.add("dead", automation_id=decode_id(IdKind.AUTOMATION, other["id"]), webhook_id=None)

    assert ids(api) == [odd, *reversed(made.values())]
    for status, id_ in made.items():
        assert ids(api, f"?status={status}&event=event-{history.count - 1}") == ([id_] if status == "skipped" else [])
    assert ids(api, "?status=dead") == [odd, made["dead"]]
    assert ids(api, "?status=pending") == [made["pending"]]
    assert ids(api, f"?automation={other['id']}") == ids(api, "?automation=other") == [odd]
    assert ids(api, f"?webhook={history.webhook['id']}") == ids(api, "?webhook=deploy-hook") == ids(api)[1:]
    assert ids(api, "?event=event-2") == [made["delivered"]]
    assert ids(api, "?since=2026-11-23T09:05:00Z") == [odd]
    assert ids(api, "?until=2026-11-23T10:01:00%2B01:00") == [made["pending"]]
    assert ids(api, "?automation=aut_999999") == []
    like_an_id = create_automation(api, automation("aut_999999"))
    fired = history.add("dead", automation_id=decode_id(IdKind.AUTOMATION, like_an_id["id"]), webhook_id=None)
    assert ids(api, "?automation=aut_999999") == ids(api, f"?automation={like_an_id['id']}") == [fired]


def test_a_pending_delivery_says_what_it_waits_for(api: Api, history: History, engine: Engine) -> None:
    soon = datetime.now(UTC) + timedelta(hours=1)
    due, underway = history.add("pending"), history.add("pending", claim=7)

    def waiting(id_: str, **columns: Any) -> Any:
        of = {"paused": False, "circuit_opened_at": None, "circuit_probe_at": None, "next_slot_at": None} | columns
        with write_transaction(engine) as connection:
            connection.execute(update(webhooks).values(of))
        shown = api.ok("GET", f"{ACME}/deliveries/{id_}", key="member")["waiting"]
        return shown["reason"], shown["until"] is not None

    assert waiting(due) == ("queued", False)
    assert waiting(due, paused=True) == ("webhook_paused", False)
    assert waiting(due, circuit_opened_at=START, circuit_probe_at=soon) == ("circuit_open", True)
    assert waiting(due, next_slot_at=soon) == ("rate_limit", True)
    assert waiting(underway) == ("attempt_underway", False)
    with write_transaction(engine) as connection:
        connection.execute(update(pending_deliveries).values(next_attempt_at=soon))
    assert waiting(due) == ("not_due", True)
    assert api.ok("GET", f"{ACME}/deliveries/{history.add('dead')}")["waiting"] is None


def test_several_values_of_one_criterion_mean_any_of_them(api: Api, history: History) -> None:
    made = {status: history.add(status) for status in ("pending", "delivered", "dead", "refused", "skipped")}
    for wanted in itertools.chain.from_iterable(itertools.combinations(made, size) for size in range(1, 6)):
        query = "&".join(f"status={status}" for status in wanted)
        assert ids(api, f"?{query}") == [id_ for status, id_ in reversed(made.items()) if status in wanted], wanted
        assert ids(api, f"?{query}&reason=nothing") == []
    assert ids(api, "?status=dead&status=dead") == [made["dead"]]
    assert ids(api, "?status=dead&status=pending&webhook=deploy-hook&limit=1") == [made["dead"]]


def test_deliveries_are_found_by_their_events_and_attempts(api: Api, history: History) -> None:
    run = history.add("dead", event_type="RUN_METRIC", event_project="churn", event_run="r1", attempted=3)
    model = history.add("delivered", event_project="registry", event_collection="m", reason="50% Off", attempted=1)
    waiting = history.add("pending", event_type="RUN_STATE", event_project="churn", event_run="r2", attempted=2)

    assert ids(api, "?event_type=RUN_METRIC") == [run]
    assert ids(api, "?event_type=RUN_METRIC&event_type=RUN_STATE") == [waiting, run]
    assert ids(api, "?project=churn") == [waiting, run]
    assert ids(api, "?run=r1") == [run]
    assert ids(api, "?collection=m") == [model]
    assert ids(api, "?reason=50%25%20off") == [model]
    assert ids(api, "?reason=_") == ids(api, "?reason=50%25%25") == []
    assert ids(api, "?min_attempts=2") == [waiting, run]
    assert ids(api, "?max_attempts=2") == [waiting, model]
    assert ids(api, "?min_attempts=2&max_attempts=2&status=pending") == [waiting]
    assert ids(api, "?response_code=500&max_attempts=1") == [model]
    assert ids(api, "?response_code=404") == []
    assert ids(api, "?response_code=404&response_code=500") == [waiting, model, run]
    shown = api.ok("GET", f"{ACME}/deliveries/{run}")["event"]
    assert (shown["project"], shown["run"], shown["collection"]) == ("churn", "r1", None)
    replayed = api.ok("POST", f"{ACME}/deliveries/replay", {"run": "r1", "event_type": ["RUN_METRIC"]}, status=202)
    assert replayed["replayed"] == 1
    assert len(ids(api, "?run=r1")) == 2


def test_times_may_be_given_as_how_long_ago(api: Api, history: History) -> None:
    now = datetime.now(UTC)
    old, new = (history.add("dead", created_at=now - timedelta(hours=hours)) for hours in (3, 1))

    assert ids(api, "?since=2h") == [new]
    assert ids(api, "?until=2h") == [old]
    assert ids(api, "?since=4h&until=30m") == [new, old]
    assert api.ok("POST", f"{ACME}/deliveries/replay", {"since": "2h"}, status=202)["replayed"] == 1
    noted = api.ok("GET", f"{ACME}/audit")["items"][0]["detail"]["criteria"]["since"]
    assert datetime.fromisoformat(noted) < now


@pytest.mark.parametrize("query", ["", "&status=dead&status=delivered", "&event_type=RUN_STATE"])
@pytest.mark.parametrize("searched", [3, 10_000])
def test_pages_can_be_turned_both_ways(
    api: Api, history: History, monkeypatch: pytest.MonkeyPatch, query: str, searched: int
) -> None:
    """Also where most of what is looked at does not match, so that pages are short or empty."""
    monkeypatch.setattr(store, "SEARCHED", searched)
    statuses, types = ("dead", "refused", "delivered"), ("RUN_STATE", *["RUN_METRIC"] * 6)
    kinds = list(zip(itertools.cycle(statuses), itertools.cycle(types), range(29), strict=False))
    made = [history.add(status, event_type=kind) for status, kind, _ in kinds]
    matching = [
        id_
        for id_, (status, kind, _) in zip(made, kinds, strict=True)
        if ("status" not in query or status != "refused") and ("type" not in query or kind == "RUN_STATE")
    ][::-1]

    def turned(member: str, cursor: str) -> Iterator[dict[str, Any]]:
        while cursor is not None:
            page = api.ok("GET", f"{ACME}/deliveries?limit=2&cursor={cursor}{query}")
            yield page
            cursor = page[member]

    first = api.ok("GET", f"{ACME}/deliveries?limit=2{query}")
    assert first["previous"] is None
    older = [first, *turned("next", first["next"])]
    assert [one["id"] for page in older for one in page["items"]] == matching
    newer = list(turned("previous", older[-1]["previous"]))
    gone_back = [one["id"] for page in reversed(newer) for one in page["items"]]
    assert gone_back == matching[: len(matching) - len(older[-1]["items"])]
    assert [one["id"] for page in turned("next", newer[-1]["next"]) for one in page["items"]] == [
        id_ for id_ in matching if id_ not in {one["id"] for one in newer[-1]["items"]}
    ]


def test_bad_queries_are_refused(api: Api, history: History) -> None:
    for query, loc in (
        ("?status=lost", "status"),
        ("?statuss=dead", "statuss"),
        ("?automation=nobody", "automation"),
        ("?webhook=nobody", "webhook"),
        ("?since=yesterday", "since"),
        ("?since=2026-11-23T09:05:00", "since"),
        ("?limit=0", "limit"),
        ("?limit=501", "limit"),
        ("?limit=many", "limit"),
        ("?cursor=bm9uc2Vuc2U", "cursor"),
        ("?cursor=%3F", "cursor"),
        ("?event_type=lost", "event_type"),
        ("?min_attempts=few", "min_attempts"),
        ("?max_attempts=-1", "max_attempts"),
        ("?max_attempts=1000001", "max_attempts"),
        ("?reason=", "reason"),
        ("?run=", "run"),
        ("?webhook=deploy-hook&webhook=deploy-hook", "webhook"),
        ("?limit=1&limit=1", "limit"),
    ):
        assert api.refused("GET", f"{ACME}/deliveries{query}", status=422).locs == [[loc]], query
    assert history.count == 0


def test_pages_go_back_in_time_and_miss_nothing(api: Api, history: History) -> None:
    made = [history.add("dead") for _ in range(5)]

    first = api.ok("GET", f"{ACME}/deliveries?status=dead&limit=3")
    made.append(history.add("dead"))
    second = api.ok("GET", f"{ACME}/deliveries?status=dead&limit=3&cursor={first['next']}")

    assert [delivery["id"] for delivery in first["items"] + second["items"]] == made[4::-1]
    assert second["next"] is None


def test_a_replay_is_a_new_delivery_that_names_the_old(
    api: Api, history: History, settings: Settings, redis: Redis
) -> None:
    old = history.add("dead", attempted=1, finished_at=START)
    before = api.ok("GET", f"{ACME}/deliveries/{old}")

    new = api.ok("POST", f"{ACME}/deliveries/{old}/replay", key="admin", status=202)

    assert new["id"] != old
    assert new["id"].startswith("dlv_")
    assert len(new["id"]) == len(old)
    assert (new["status"], new["replay_of"], new["attempts"]) == ("pending", old, 0)
    assert (new["payload"], new["event"], new["webhook"]) == (before["payload"], before["event"], before["webhook"])
    assert new["next_attempt_at"] == new["created_at"]
    assert api.ok("GET", f"{ACME}/deliveries/{old}") == before | {"replays": [new["id"]]}
    with Redis.from_url(settings.celery_broker_url) as broker:
        assert broker.llen("deliver") == 1


def test_what_can_not_be_sent_is_not_replayed(api: Api, history: History) -> None:
    refusable = [
        history.add("pending"),
        history.add("delivered", webhook_id=None, payload=None),
        history.add("skipped", payload=None),
        history.add("dead", webhook_id=999_999),
    ]

    for id_ in refusable:
        api.refused("POST", f"{ACME}/deliveries/{id_}/replay", status=409)
    api.refused("POST", f"{ACME}/deliveries/{new_delivery_id()}/replay", status=404)
    assert api.ok("POST", f"{ACME}/deliveries/replay", {"since": "2000-01-01T00:00:00Z"}, status=202) == {
        "replayed": 0,
        "id": None,
        "last_due_at": None,
    }
    assert len(ids(api)) == len(refusable)


def test_all_that_match_are_replayed(api: Api, history: History, engine: Engine) -> None:
    dead = [history.add("dead") for _ in range(3)]
    skipped = history.add("skipped")
    history.add("delivered")

    answer = api.ok("POST", f"{ACME}/deliveries/replay", {"status": "dead", "webhook": "deploy-hook"}, status=202)

    assert answer["replayed"] == 3
    pending = api.ok("GET", f"{ACME}/deliveries?status=pending")["items"]
    assert [delivery["replay_of"] for delivery in pending] == dead[::-1]
    with read_transaction(engine) as connection:
        queued = set(connection.scalars(select(pending_deliveries.c.webhook_id)))
    assert queued == {decode_id(IdKind.WEBHOOK, history.webhook["id"])}
    assert api.ok("POST", f"{ACME}/deliveries/replay", {"status": "skipped"}, status=202)["replayed"] == 1
    assert api.ok("GET", f"{ACME}/deliveries?status=pending")["items"][0]["replay_of"] == skipped


def test_a_replay_at_a_rate_is_spread_over_time_in_the_order_of_the_old_ones(
    api: Api, history: History, engine: Engine
) -> None:
    dead = [history.add("dead") for _ in range(5)]

    answer = api.ok("POST", f"{ACME}/deliveries/replay", {"status": "dead", "rate": "2/s"}, status=202)

    query = (
        select(deliveries.c.replay_of, pending_deliveries.c.next_attempt_at)
        .join(deliveries, deliveries.c.seq == pending_deliveries.c.seq)
        .order_by(pending_deliveries.c.next_attempt_at)
    )
    with read_transaction(engine) as connection:
        rows = connection.execute(query).all()
    assert [row.replay_of for row in rows] == dead
    first = rows[0].next_attempt_at
    assert [(row.next_attempt_at - first).total_seconds() for row in rows] == [0, 0.5, 1, 1.5, 2]
    assert datetime.fromisoformat(answer["last_due_at"]) == rows[-1].next_attempt_at


@pytest.mark.parametrize("rate", ["fast", "0/s", 5, {}])
def test_a_rate_that_is_none_is_refused(api: Api, history: History, rate: object) -> None:
    history.add("dead")
    problem = api.refused("POST", f"{ACME}/deliveries/replay", {"status": "dead", "rate": rate}, status=422)
    assert problem.locs == [["rate"]]
    assert ids(api, "?status=pending") == []


def test_a_rate_alone_is_no_criterion(api: Api, history: History) -> None:
    assert api.refused("POST", f"{ACME}/deliveries/replay", {"rate": "1/s"}, status=422).locs == [[]]


def test_what_was_replayed_before_can_be_left_out(api: Api, history: History) -> None:
    first, second = history.add("dead"), history.add("dead")
    api.ok("POST", f"{ACME}/deliveries/{first}/replay", status=202)

    left = {"status": "dead", "unreplayed": True}
    assert api.ok("POST", f"{ACME}/deliveries/replay", left, status=202)["replayed"] == 1
    assert api.ok("GET", f"{ACME}/deliveries?status=pending")["items"][0]["replay_of"] == second
    assert api.ok("POST", f"{ACME}/deliveries/replay", left, status=202)["replayed"] == 0
    assert api.refused("POST", f"{ACME}/deliveries/replay", {"unreplayed": True}, status=422).locs == [[]]


def test_a_delivery_names_its_replays(api: Api, history: History) -> None:
    old = history.add("delivered")
    new = [api.ok("POST", f"{ACME}/deliveries/{old}/replay", status=202)["id"] for _ in range(2)]
    assert api.ok("GET", f"{ACME}/deliveries/{old}")["replays"] == new
    assert api.ok("GET", f"{ACME}/deliveries/{new[0]}")["replays"] == []


def test_a_replay_of_too_many_is_refused_whole(api: Api, history: History, monkeypatch: pytest.MonkeyPatch) -> None:
    for _ in range(3):
        history.add("dead")
    monkeypatch.setattr(control, "MAX_REPLAYED", 2)

    problem = api.refused("POST", f"{ACME}/deliveries/replay", {"status": "dead"}, status=422)

    assert "since" in problem.detail
    assert ids(api, "?status=pending") == []
    body = {"status": "dead", "since": (START + timedelta(minutes=1)).isoformat()}
    assert api.ok("POST", f"{ACME}/deliveries/replay", body, status=202)["replayed"] == 2


def test_a_replay_can_be_counted_before(api: Api, history: History, monkeypatch: pytest.MonkeyPatch) -> None:
    old, _pending, new = history.add("dead"), history.add("pending"), history.add("refused")
    path = f"{ACME}/deliveries/replayable"

    shown = api.ok("GET", f"{path}?status=dead&status=refused", key="member")
    assert shown == {
        "count": 2,
        "oldest_created_at": "2026-11-23T09:00:00Z",
        "newest_created_at": "2026-11-23T09:02:00Z",
    }
    api.ok("POST", f"{ACME}/deliveries/{old}/replay", status=202)
    assert api.ok("GET", f"{path}?status=dead&status=refused&unreplayed=true")["count"] == 1
    assert api.ok("GET", f"{path}?event=nothing") == {
        "count": 0,
        "oldest_created_at": None,
        "newest_created_at": None,
    }
    assert api.refused("GET", f"{path}?status=lost", status=422).locs == [["status"]]
    monkeypatch.setattr(control, "MAX_REPLAYED", 1)
    assert api.ok("GET", path)["count"] == 2
    assert api.ok("GET", f"{ACME}/deliveries/{new}")["replays"] == []


def test_a_replay_needs_a_criterion_that_is_known(api: Api, history: History) -> None:
    history.add("dead")

    assert api.refused("POST", f"{ACME}/deliveries/replay", {}, status=422).locs == [[]]
    assert api.refused("POST", f"{ACME}/deliveries/replay", {"statuses": "dead"}, status=422).locs == [["statuses"]]
    assert api.refused("POST", f"{ACME}/deliveries/replay", {"webhook": "x"}, status=422).locs == [["webhook"]]
    assert len(ids(api)) == 1


def test_deleting_a_webhook_makes_dead_letters_of_what_is_pending(api: Api, history: History, engine: Engine) -> None:
    waiting = history.add("pending", attempted=2)
    delivered = history.add("delivered", attempted=1)
    api.ok("DELETE", f"{ACME}/automations/{history.automation['id']}", status=204)
    api.ok("DELETE", f"{ACME}/webhooks/{history.webhook['id']}", status=204)

    dead = api.ok("GET", f"{ACME}/deliveries/{waiting}")

    assert (dead["status"], dead["attempts"], dead["next_attempt_at"]) == ("dead", 2, None)
    assert dead["reason"] == "the webhook was deleted"
    assert dead["finished_at"]
    assert dead["webhook"]["name"] == "deploy-hook"
    assert dead["automation"]["name"] == "on-production"
    assert api.ok("GET", f"{ACME}/deliveries/{delivered}")["status"] == "delivered"
    with read_transaction(engine) as connection:
        assert connection.execute(select(pending_deliveries.c.seq)).all() == []
    api.refused("POST", f"{ACME}/deliveries/{waiting}/replay", status=409)


def test_deliveries_are_per_entity_and_replays_for_administrators(api: Api, history: History) -> None:
    id_ = history.add("dead")

    api.refused("GET", f"{ACME}/deliveries", key="outsider", status=404)
    api.refused("GET", f"{ACME}/deliveries/{id_}", key="outsider", status=404)
    api.refused("GET", f"/v1/entities/other/deliveries/{id_}", key="outsider", status=404)
    api.refused("POST", f"/v1/entities/other/deliveries/{id_}/replay", key="outsider", status=404)
    foreign = {"webhook": history.webhook["id"]}
    answer = api.ok("POST", "/v1/entities/other/deliveries/replay", foreign, key="outsider", status=202)
    assert answer == {"replayed": 0, "last_due_at": None, "id": None}
    for key in ("member", "publisher"):
        api.refused("POST", f"{ACME}/deliveries/{id_}/replay", key=key, status=403)
        api.refused("POST", f"{ACME}/deliveries/replay", {"status": "dead"}, key=key, status=403)
    api.refused("GET", f"{ACME}/deliveries", key="publisher", status=403)
    assert ids(api) == [id_]


def test_a_replay_of_many_is_followed_and_stopped(api: Api, history: History, engine: Engine) -> None:
    for _ in range(4):
        history.add("dead", attempted=1)
    other = history.add("pending")
    replayed = api.ok("POST", f"{ACME}/deliveries/replay", {"status": "dead", "rate": "1/min"}, key="admin", status=202)
    address = f"{ACME}/deliveries/replays/{replayed['id']}"
    late = api.ok("POST", f"{ACME}/deliveries/{history.add('dead', attempted=1)}/replay", key="admin", status=202)["id"]
    before = api.ok("GET", address, key="member")
    assert (before["total"], before["pending"], before["last_due_at"]) == (4, 4, replayed["last_due_at"])
    newest = api.ok("GET", f"{ACME}/deliveries?status=pending")["items"]
    mine = [one["id"] for one in newest if one["replay_of"] and one["id"] != late][::-1]
    with write_transaction(engine) as connection:
        first, second, *_ = [
            connection.execute(select(deliveries.c.seq).where(deliveries.c.id == one)).scalar_one() for one in mine
        ]
        connection.execute(update(deliveries).where(deliveries.c.seq == first).values(status="delivered"))
        connection.execute(delete(pending_deliveries).where(pending_deliveries.c.seq == first))
        underway = {"claim": 7, "next_attempt_at": datetime.now(UTC) + timedelta(hours=1)}
        connection.execute(update(pending_deliveries).where(pending_deliveries.c.seq == second).values(**underway))
    api.refused("POST", f"{address}/stop", key="member", status=403)
    stopped = api.ok("POST", f"{address}/stop", key="admin", status=200)
    assert [stopped[name] for name in ("delivered", "pending", "skipped", "dead")] == [1, 1, 2, 0]
    last = api.ok("GET", f"{ACME}/deliveries/{mine[-1]}")
    assert (last["status"], last["reason"]) == ("skipped", "its replay was stopped by acme/admin")
    for kept in (other, late):
        assert api.ok("GET", f"{ACME}/deliveries/{kept}")["status"] == "pending"
    again = api.ok("POST", f"{address}/stop", key="admin", status=200)
    assert again["skipped"] == 2
    (change,) = api.ok("GET", f"{ACME}/audit?action=delivery.stop_replay")["items"]
    assert change["detail"] == {"count": 2}
    number = replayed["id"].split("_")[1]
    for wrong in ("rpl_1_2", f"rpl_{number}_9223372036854775807", "rpl_0_1", "rpl_1", "x", f"rpl_{number}_{number}0"):
        api.refused("GET", f"{ACME}/deliveries/replays/{wrong}", status=404)
    api.refused("GET", address, key="outsider", status=404)
