"""What endpoints answered, hidden from members: no way to read it is left to them, and none is taken from others."""

from __future__ import annotations

import re
from typing import Any

import pytest
from sqlalchemy import Engine, update

from shared.domain.delivery.exchange import Exchange, stored_exchange
from shared.storage.database.transactions import write_transaction
from shared.storage.schema.tables import attempts
from tests.integration.api.conftest import ACME, Api
from tests.integration.api.test_deliveries import History, history

__all__ = ["history"]

ANSWER, ERROR = "canary-of-an-answer", "canary-of-an-error"
ADDRESS = "192.0.2.77:443"
EXCHANGE = stored_exchange(Exchange(answer_headers=f"X-Echo: {ANSWER}", remote_address=ADDRESS), {})
KNOWN = {"entity": "acme", "webhook": "wh_1", "automation": "aut_1", "kind": "webhooks"}


@pytest.fixture
def delivery(api: Api, history: History, engine: Engine) -> str:
    """A delivery whose answers hold the canaries."""
    made = history.add("dead", attempted=2)
    with write_transaction(engine) as connection:
        connection.execute(
            update(attempts).values(response_body=ANSWER, error=ERROR, request_url="", exchange=EXCHANGE)
        )
    return made


def hide(api: Api, hidden: bool, *, key: str = "admin") -> Any:
    return api.ok("PATCH", ACME, {"answers_hidden": hidden}, key=key)


def texts(api: Api, delivery: str, key: str) -> list[str]:
    """The answers of every GET route, and of the other ways to read deliveries."""
    paths: dict[str, Any] = api.ok("GET", "/openapi.json")["paths"]
    known = KNOWN | {"delivery": delivery}

    def part(found: re.Match[str]) -> str:
        return known.get(found[1].removesuffix("_id"), "x")

    reads = [re.sub(r"\{(\w+)\}", part, path) for path, ways in paths.items() if "get" in ways]
    assert f"{ACME}/deliveries/{delivery}" in reads
    more = [f"{ACME}/deliveries/export?format={form}" for form in ("csv", "jsonl")]
    more += [f"{ACME}/deliveries?{query}" for query in ("status=dead", "webhook=wh_1", "event=event-1")]
    found = [api.send("GET", path, key=key).text for path in reads + more]
    graphql = "{ __schema { types { name fields { name } } } }"
    found.append(api.send("POST", "/graphql", {"query": graphql}, key=key).text)
    return [*found, api.send("POST", f"{ACME}/webhooks/wh_1/test", {}, key=key).text if key == "member" else ""]


def test_members_see_what_was_answered_unless_it_is_hidden(api: Api, delivery: str) -> None:
    path = f"{ACME}/deliveries/{delivery}"
    seen = api.ok("GET", path, key="member")
    assert {(one["response_body"], one["error"]) for one in seen["attempt_log"]} == {(ANSWER, ERROR)}
    assert api.ok("GET", ACME, key="member")["answers_hidden"] is False

    assert hide(api, True)["answers_hidden"] is True

    for key in ("member", "admin", "publisher"):
        assert api.ok("GET", ACME, key=key)["answers_hidden"] is True
    hidden = api.ok("GET", path, key="member")
    for one in seen["attempt_log"]:
        assert one["response_headers"] == [{"name": "X-Echo", "value": ANSWER}]
        assert one["connection"]["remote_address"] == ADDRESS
        one |= {"response_body": None, "error": None, "response_headers": None}
        one["connection"]["remote_address"] = None
    assert hidden == seen, "everything else is shown as before"
    for key in ("admin", "root"):
        shown = api.ok("GET", path, key=key)
        assert {(one["response_body"], one["error"]) for one in shown["attempt_log"]} == {(ANSWER, ERROR)}
    hide(api, False)
    assert ANSWER in api.send("GET", path, key="member").text


def test_no_way_to_read_shows_it_to_members(api: Api, delivery: str) -> None:
    assert any(ANSWER in text for text in texts(api, delivery, "member")), "the canaries can be found"
    hide(api, True)
    for text in texts(api, delivery, "member"):
        assert ANSWER not in text
        assert ERROR not in text
        assert ADDRESS not in text
    api.refused("POST", f"{ACME}/webhooks/wh_1/test", {}, key="member", status=403)
    assert any(ANSWER in text for text in texts(api, delivery, "admin"))


def test_a_tag_from_before_does_not_keep_the_answer_valid(api: Api, delivery: str) -> None:
    path = f"{ACME}/deliveries/{delivery}"
    tag = api.send("GET", path, key="member").headers.get("etag", '"none"')
    hide(api, True)
    again = api.send("GET", path, key="member", headers={"If-None-Match": tag})
    assert again.status_code == 200


def test_only_administrators_of_the_entity_choose(api: Api, delivery: str) -> None:
    for key, status in (("member", 403), ("publisher", 403), ("outsider", 404)):
        api.refused("PATCH", ACME, {"answers_hidden": True}, key=key, status=status)
    wrong: Any
    for wrong in ({"answers_hidden": None}, {"answers_hidden": 1}, {"answers_hidden": "yes"}, {"other": 1}, []):
        api.refused("PATCH", ACME, wrong, key="admin", status=422)
    assert api.ok("GET", ACME)["answers_hidden"] is False
    hide(api, True, key="root")
    hide(api, True)
    assert api.ok("PATCH", ACME, {}, key="admin")["answers_hidden"] is True, "an empty patch changes nothing"
    assert api.ok("PUT", ACME, {})["answers_hidden"] is True, "what PUT does not name stays"
    changes = api.ok("GET", f"{ACME}/audit", key="admin")["items"]
    noted = [change for change in changes if change["action"] == "entity.update"]
    assert len(noted) == 1
    assert noted[0]["detail"] == {"changed": ["answers_hidden"], "answers_hidden": True}
