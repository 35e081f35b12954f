"""Exports of deliveries: whole, in order, in bounded pieces, and harmless to open."""

from __future__ import annotations

import csv
import io
import json
from typing import Any

import pytest

from dispatcher.api import deliveries as routes
from dispatcher.control import deliveries as control
from dispatcher.control.exports import COLUMNS
from shared.domain.ids import IdKind, decode_id
from tests.integration.api.conftest import ACME, SECRETS, Api, automation, create_automation
from tests.integration.api.test_deliveries import History, history

__all__ = ["history"]

EXPORT = f"{ACME}/deliveries/export"


def rows(api: Api, query: str = "", key: str = "member") -> list[dict[str, str]]:
    """The rows of a CSV export."""
    answer = api.send("GET", f"{EXPORT}{query}", key=key)
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == "text/csv; charset=utf-8"
    assert "deliveries.csv" in answer.headers["content-disposition"]
    reader = csv.DictReader(io.StringIO(answer.text, newline=""))
    assert tuple(reader.fieldnames or ()) == COLUMNS
    return list(reader)


def test_an_export_is_the_list_without_payloads(api: Api, history: History) -> None:
    made = [history.add(status, attempted=1) for status in ("pending", "delivered", "dead")]

    listed = api.ok("GET", f"{ACME}/deliveries")["items"]
    answer = api.send("GET", f"{EXPORT}?format=jsonl", key="member")
    table = rows(api)

    assert answer.headers["content-type"] == "application/jsonl"
    assert [json.loads(line) for line in answer.text.splitlines()] == listed
    assert [row["id"] for row in table] == made[::-1]
    assert table[0] == {
        "id": made[2],
        "status": "dead",
        "reason": "",
        "automation_id": history.automation["id"],
        "automation": "on-production",
        "webhook_id": history.webhook["id"],
        "webhook": "deploy-hook",
        "event_id": "event-3",
        "event_source": "/test",
        "event_type": "ADD_ARTIFACT_ALIAS",
        "event_received_at": "2026-11-23T09:02:00Z",
        "attempts": "1",
        "next_attempt_at": "",
        "created_at": "2026-11-23T09:02:00Z",
        "finished_at": "",
        "replay_of": "",
    }
    assert "payload" not in answer.text
    assert not [value for value in SECRETS.values() if value in answer.text]


def test_the_filters_are_those_of_the_list(api: Api, history: History) -> None:
    made = {status: history.add(status) for status in ("pending", "delivered", "dead", "skipped")}
    other = create_automation(api, automation("other"))
    odd = history.add("dead", automation_id=decode_id(IdKind.AUTOMATION, other["id"]), webhook_id=None)

    for query in (
        "?status=dead",
        "?automation=other",
        "?webhook=deploy-hook",
        "?event=event-2",
        "?since=2026-11-23T09:02:00Z",
        "?until=2026-11-23T09:02:00Z",
        "?status=dead&webhook=deploy-hook&since=2026-11-23T09:00:00Z",
        "?status=refused",
    ):
        listed = api.ok("GET", f"{ACME}/deliveries{query}")["items"]
        assert [row["id"] for row in rows(api, query)] == [delivery["id"] for delivery in listed], query
    assert [row["id"] for row in rows(api, "?status=dead")] == [odd, made["dead"]]
    assert rows(api, "?automation=other")[0]["webhook"] == ""


def test_pages_are_read_one_at_a_time(api: Api, history: History, monkeypatch: pytest.MonkeyPatch) -> None:
    made = [history.add("dead") for _ in range(7)]
    read: list[int] = []
    walked = control.read_next

    def noting(*arguments: Any, **more: Any) -> Any:
        views, position = walked(*arguments, **more)
        read.append(len(views))
        return views, position

    monkeypatch.setattr(routes, "EXPORT_PAGE", 3)
    monkeypatch.setattr(control, "read_next", noting)

    assert [row["id"] for row in rows(api)] == made[::-1]
    assert read == [3, 3, 1]


def test_no_cell_is_a_formula(api: Api, history: History) -> None:
    hidden = (" =1", "\xa0=1", "\u3000=1", "\ufeff\u200b=1", "\n=1", "\uff1d1", " \uff0b1", "\uff0d1", "\uff20x")
    formulas = ("=HYPERLINK(1)", "+1", "-1", "@x", "\tx", *hidden)
    for text in (*formulas, "plain", 'with "quotes", commas', " plain", "a=b"):
        history.add("dead", reason=text, event_id=text)

    table = rows(api)[::-1]

    assert [row["reason"] for row in table] == [
        *(f"'{text}" for text in formulas),
        "plain",
        'with "quotes", commas',
        " plain",
        "a=b",
    ]
    assert [row["event_id"] for row in table] == [row["reason"] for row in table]


def test_an_empty_export_has_its_header(api: Api, history: History) -> None:
    assert rows(api) == []
    assert api.send("GET", f"{EXPORT}?format=jsonl").text == ""
    assert api.send("HEAD", EXPORT).content == b""
    assert history.count == 0


def test_bad_exports_are_refused_before_they_begin(api: Api, history: History) -> None:
    for query, loc in (
        ("?format=xlsx", "format"),
        ("?status=lost", "status"),
        ("?limit=3", "limit"),
        ("?webhook=nobody", "webhook"),
        ("?since=0", "since"),
    ):
        assert api.refused("GET", f"{EXPORT}{query}", status=422).locs == [[loc]], query
    api.refused("GET", EXPORT, key="publisher", status=403)
    api.refused("GET", EXPORT, key="outsider", status=404)
    assert history.count == 0


def test_head_reads_no_more_than_its_headers_need(api: Api, history: History, monkeypatch: pytest.MonkeyPatch) -> None:
    for _ in range(7):
        history.add("dead")
    monkeypatch.setattr(routes, "EXPORT_PAGE", 3)
    got, headed = api.send("GET", EXPORT), api.send("HEAD", EXPORT)
    assert (headed.status_code, headed.content) == (200, b"")
    for name in ("content-type", "content-disposition"):
        assert headed.headers[name] == got.headers[name]

    monkeypatch.setattr(routes, "_stream_export", lambda *_: pytest.fail("reads the whole history"))
    assert api.send("HEAD", EXPORT).status_code == 200
