"""What instance administrators see of all entities: poison entries and dead letters."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from sqlalchemy import Engine, insert

from shared.storage.database.transactions import write_transaction
from shared.storage.evaluation.poison import PoisonEntry, quarantine
from shared.storage.schema.tables import deliveries
from tests.integration.api.conftest import ACME, Api, create_webhook, webhook

NOW = datetime(2026, 11, 30, 12, 0, 0, 123456, tzinfo=UTC)


def test_poison_entries_are_listed_newest_first_and_shown(api: Api, engine: Engine) -> None:
    with write_transaction(engine) as connection:
        for age in range(3):
            entries = [PoisonEntry(f"{age}-{number}", "no event", b"{\xff<b>\0") for number in range(2)]
            quarantine(connection, age, entries, NOW - timedelta(hours=age))
    seen, cursor = [], ""
    while True:
        page = api.ok("GET", f"/v1/poison?limit=2{cursor}")
        seen += [(one["partition"], one["entry_id"]) for one in page["items"]]
        if page["next"] is None:
            break
        cursor = f"&cursor={page['next']}"
    assert seen == [(0, "0-1"), (0, "0-0"), (1, "1-1"), (1, "1-0"), (2, "2-1"), (2, "2-0")]
    one = api.ok("GET", "/v1/poison/1/1-0")
    assert (one["text"], one["base64"], one["size_bytes"]) == ("{\ufffd<b>\0", "e/88Yj4A", 6)
    for place in ("9/1-0", "1/x", "99999999999/1-0"):
        api.refused("GET", f"/v1/poison/{place}", status=404)
    for cursor in ("x", "bnVsbA", "WyJwb2lzb24iLDFlOTksMSwiMS0wIl0", "WyJwb2lzb24iLCJhIiwxLCIxLTAiXQ"):
        api.refused("GET", f"/v1/poison?cursor={cursor}", status=422)


def test_dead_letters_are_counted_by_webhook(api: Api, engine: Engine) -> None:
    hooks = [create_webhook(api, webhook(f"hook-{number}")) for number in range(3)]
    counts = {1: {"dead": 2, "refused": 1, "delivered": 4}, 2: {"dead": 5, "skipped": 3}, 3: {"delivered": 1}}
    made = {"event_id": "e", "event_source": "/t", "event_type": "RUN_STATE", "event_received_at": NOW, "payload": "{}"}
    with write_transaction(engine) as connection:
        rows = [
            {
                "id": f"dlv_{number}{status}{index}",
                "entity_id": 1,
                "webhook_id": number,
                "status": status,
                "created_at": NOW - timedelta(minutes=index),
                **made,
            }
            for number, statuses in counts.items()
            for status, count in statuses.items()
            for index in range(count)
        ]
        connection.execute(insert(deliveries), rows)
    found = api.ok("GET", "/v1/dead-letters")
    assert [(one["webhook"]["name"], one["dead"], one["refused"]) for one in found["items"]] == [
        ("hook-1", 5, 0),
        ("hook-0", 2, 1),
    ]
    assert found["complete"] is True
    assert found["items"][0] | {"newest_at": ""} == {
        "entity": "acme",
        "webhook": {"id": hooks[1]["id"], "name": "hook-1"},
        "dead": 5,
        "refused": 0,
        "newest_at": "",
    }
    api.ok("DELETE", f"{ACME}/webhooks/{hooks[1]['id']}", status=204)
    assert api.ok("GET", "/v1/dead-letters")["items"][0]["webhook"] == {"id": hooks[1]["id"], "name": ""}
