"""What one GraphQL document may cost: its lists, what it reads, and how long it takes."""

from __future__ import annotations

from typing import Any

import pytest

from dispatcher.graphql import budget
from tests.integration.api.conftest import ACME, Api, automation, create_automation, create_webhook

PAYLOAD = 200_000
PROJECT = "wandb-registry-model"


def query(api: Api, document: str, **variables: Any) -> tuple[int, Any]:
    """The status and the body of a document's answer."""
    answer = api.send("POST", "/graphql", {"query": document, "variables": variables}, key="member")
    return answer.status_code, answer.json()


def create_large(api: Api, number: int) -> list[str]:
    """Automations with large payloads on one project, and a small one on another; the names of the large ones."""
    create_webhook(api)
    action = {"webhook": "deploy-hook", "payload": {"text": "x" * PAYLOAD}}
    for index in range(number):
        create_automation(api, automation(f"large {index}", action=action))
    create_automation(api, automation("elsewhere", scope={"project": "other"}))
    return [f"large {index}" for index in range(number)]


def aliases(number: int) -> str:
    fields = " ".join(f'a{index}: project(name: "{PROJECT}") {{ triggers {{ name }} }}' for index in range(number))
    return f'{{ entity(name: "acme") {{ {fields} }} }}'


def test_a_document_asks_for_few_lists(api: Api) -> None:
    status, body = query(api, aliases(50))
    assert status == 400
    assert "cost" in body["errors"][0]["message"]


def test_an_entity_s_automations_are_read_once_for_a_document(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    names = create_large(api, 3)
    monkeypatch.setattr(budget, "MAX_READ_BYTES", 4 * PAYLOAD)
    status, body = query(api, aliases(20))
    assert status == 200, body
    for found in body["data"]["entity"].values():
        assert [each["name"] for each in found["triggers"]] == names
    pages = " ".join(f'a{index}: triggers(filters: "{{}}") {{ edges {{ node {{ name }} }} }}' for index in range(20))
    status, body = query(api, f'{{ entity(name: "acme") {{ {pages} }} }}')
    assert status == 200, body
    for found in body["data"]["entity"].values():
        assert [each["node"]["name"] for each in found["edges"]] == [*names, "elsewhere"]


def test_a_document_reads_so_much_and_no_more(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    create_large(api, 3)
    monkeypatch.setattr(budget, "MAX_READ_BYTES", 2 * PAYLOAD)
    for document in (aliases(1), '{ entity(name: "acme") { triggers { edges { node { name } } } } }'):
        status, body = query(api, document)
        assert status == 400
        assert "page by page" in body["errors"][0]["message"]
    status, body = query(api, '{ entity(name: "acme") { project(name: "other") { triggers { name } } } }')
    assert body["data"]["entity"]["project"]["triggers"] == [{"name": "elsewhere"}]


def test_a_document_ends_in_time_and_changes_nothing_then(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(budget, "MAX_SECONDS", -1.0)
    mutation = 'mutation { upsertModel(input: {name: "late", entityName: "acme"}) { inserted } }'
    for document in ("{ viewer { name } }", mutation):
        status, body = query(api, document)
        assert status == 400
        assert "ask for less" in body["errors"][0]["message"]
    assert api.ok("GET", f"{ACME}/projects")["items"] == []


def test_a_heavy_document_that_fails_keeps_no_other_back(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    create_large(api, 3)
    monkeypatch.setattr(budget, "HEAVY_BYTES", PAYLOAD)
    monkeypatch.setattr(budget, "MAX_WAIT_SECONDS", 5.0)
    for limit, status in ((2 * PAYLOAD, 400), (20 << 20, 200), (2 * PAYLOAD, 400), (20 << 20, 200)):
        monkeypatch.setattr(budget, "MAX_READ_BYTES", limit)
        assert query(api, aliases(1))[0] == status
