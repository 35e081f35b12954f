"""Sources: kept like webhooks, and their requests become events of their own entity, once each."""

from __future__ import annotations

import gzip
import json
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from datetime import UTC, datetime
from typing import Any

import httpx
import pytest
from redis import Redis
from sqlalchemy import Engine, select

from dispatcher.api.fair_use import STRANGERS
from shared.domain.ids import IdKind, decode_id
from shared.messaging.streams import FIELD, stream_key
from shared.storage.database.transactions import read_transaction, write_transaction
from shared.storage.definitions.source_requests import KEPT, SourceRequest, insert_request
from shared.storage.schema.tables import source_requests
from tests.integration.api.conftest import ACME, Api
from tests.unit.domain.sources.requests import (
    REGISTERED,
    SECRET,
    azure_event,
    github_headers,
    github_push,
    gitlab_tag,
    hub_body,
    mlflow_body,
    mlflow_headers,
)

SOURCES = f"{ACME}/sources"
GENERIC: dict[str, Any] = {
    "name": "comet",
    "kind": "generic",
    "secret": "HOOK",
    "verify": {"token": {"header": "X-Token"}},
    "events": [
        {
            "when": {"body.event": "stage"},
            "type": "ADD_ARTIFACT_ALIAS",
            "data": {
                "project": "models",
                "collection": {"name": "${body.model}"},
                "artifact": {"id": "${body.id}", "metadata": {"entity": "${body.entity}"}},
                "alias": "${body.stage}",
                "entity": "other",
            },
        }
    ],
}


ON_SQLITE = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
"""For what does not depend on the database."""


@pytest.fixture
def hooked(api: Api) -> Api:
    """The API, whose entity has a secret to prove requests with."""
    api.ok("PUT", f"{ACME}/secrets/HOOK", {"value": SECRET}, status=201)
    return api


def create(api: Api, kind: str = "github", **more: Any) -> dict[str, Any]:
    body = {"name": f"from {kind}", "kind": kind, "secret": "HOOK", "project": "models", **more}
    created: dict[str, Any] = api.ok("POST", SOURCES, body, status=201)
    return created


def deliver(api: Api, path: str, body: object, headers: dict[str, str] | None = None) -> httpx.Response:
    """A request as a service sends it: without a key."""
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    sent = {"Content-Type": "application/json", **(headers or {})}
    response = api.client.request("POST", path, content=raw, headers=sent)
    api.answers.append(response.text)
    return response


def signed(body: object, event: str = "push") -> dict[str, str]:
    return github_headers(json.dumps(body).encode(), event)


def published(redis: Redis) -> list[dict[str, Any]]:
    """Every event in the streams."""
    streams: list[Any] = [redis.xrange(stream_key(partition)) for partition in range(4)]
    return [json.loads(entry[FIELD]) for stream in streams for _, entry in stream]


def history(api: Api, source: dict[str, Any]) -> list[dict[str, Any]]:
    return list(api.ok("GET", f"{SOURCES}/{source['id']}/requests", key="member")["items"])


def test_a_source_is_created_changed_and_deleted(hooked: Api) -> None:
    api, created = hooked, create(hooked)

    assert created["id"].startswith("src_")
    assert created["path"].startswith("/v1/in/")
    assert (created["enabled"], created["events"], created["verify"]) == (True, [], None)
    assert api.ok("GET", f"{SOURCES}/{created['id']}", key="member") == created
    assert api.ok("GET", f"{SOURCES}/by-name/from github", key="member") == created
    assert api.ok("GET", SOURCES, key="member") == {"items": [created], "next": None}
    changed = api.ok("PATCH", f"{SOURCES}/{created['id']}", {"project": "others", "enabled": False})
    assert changed["path"] == created["path"]
    assert (changed["project"], changed["enabled"], changed["revision"] > created["revision"]) == (
        "others",
        False,
        True,
    )
    assert api.refused("POST", SOURCES, {**GENERIC, "name": "from github"}, status=409).locs == [["name"]]
    assert "from github" in api.refused("DELETE", f"{ACME}/secrets/HOOK", status=409).detail
    assert api.ok("GET", f"{ACME}/secrets/HOOK")["used_by"] == ["from github"]
    api.ok("DELETE", f"{SOURCES}/{created['id']}", status=204)
    assert api.send("GET", f"{SOURCES}/{created['id']}").status_code == 404
    actions = [one["action"] for one in api.ok("GET", f"{ACME}/audit?action=source")["items"]]
    assert actions == ["source.delete", "source.update", "source.create"]
    api.ok("DELETE", f"{ACME}/secrets/HOOK", status=204)


@ON_SQLITE
def test_only_administrators_define_sources(hooked: Api) -> None:
    created = create(hooked)
    for method, path, body in (
        ("POST", SOURCES, GENERIC),
        ("PATCH", f"{SOURCES}/{created['id']}", {"enabled": False}),
        ("DELETE", f"{SOURCES}/{created['id']}", None),
    ):
        hooked.refused(method, path, body, key="member", status=403)
    hooked.refused("GET", SOURCES, key="publisher", status=403)


@ON_SQLITE
def test_a_bad_definition_is_refused_at_its_place_and_changes_nothing(hooked: Api) -> None:
    for change, loc in (
        ({"secret": "NONE"}, ["secret"]),
        ({"kind": "svn"}, ["kind"]),
        ({"name": "src_1"}, ["name"]),
        ({"former_secret": "HOOK"}, ["former_secret"]),
        ({"verify": None}, ["verify"]),
        ({"verify": {"hmac": {"header": "X", "encoding": "octal"}}}, ["verify", "hmac", "encoding"]),
        ({"events": [{**GENERIC["events"][0], "type": "DEAD_LETTER"}]}, ["events", 0, "type"]),
        ({"colour": "red"}, ["colour"]),
    ):
        assert loc in hooked.refused("POST", SOURCES, GENERIC | change, status=422).locs, change
    hooked.ok("PUT", f"{ACME}/secrets/SHORT", {"value": "guess"}, status=201)
    assert hooked.refused("POST", SOURCES, GENERIC | {"secret": "SHORT"}, status=422).locs == [["secret"]]
    decoded = {"hmac": {"header": "X-S", "key": "base64", "encoding": "base64"}}
    assert hooked.refused("POST", SOURCES, GENERIC | {"verify": decoded}, status=422).locs == [["secret"]]
    assert hooked.ok("GET", SOURCES)["items"] == []
    create(hooked)
    assert hooked.refused("PUT", f"{ACME}/secrets/HOOK", {"value": "short"}, status=422).locs == [["value"]]


@ON_SQLITE
def test_quotas_bound_sources(hooked: Api) -> None:
    hooked.ok("PATCH", ACME, {"quotas": {"sources": 1}})
    create(hooked)
    assert hooked.refused("POST", SOURCES, GENERIC, status=409).locs == [["sources"]]


def test_each_service_publishes_events_of_the_sources_entity(hooked: Api, redis: Redis) -> None:
    alias = mlflow_body("model_version_alias.created", name="churn", version="3", alias="prod")
    now = datetime.now(UTC)
    sent: list[tuple[str, object, dict[str, str], list[str]]] = [
        ("mlflow", alias, mlflow_headers(json.dumps(alias).encode(), at=now), ["ADD_ARTIFACT_ALIAS"]),
        ("github", github_push(), signed(github_push()), ["CREATE_ARTIFACT", "LINK_ARTIFACT"]),
        ("gitlab", gitlab_tag("churn#prod"), {"X-Gitlab-Token": SECRET}, ["ADD_ARTIFACT_ALIAS"]),
        ("hugging-face", hub_body(("refs/tags/x", None, "1")), {"X-Webhook-Secret": SECRET}, ["ADD_ARTIFACT_ALIAS"]),
        (
            "event-grid",
            [azure_event("ModelRegistered", REGISTERED)],
            {"X-Hookline-Token": SECRET},
            ["CREATE_ARTIFACT", "LINK_ARTIFACT"],
        ),
    ]
    expected: list[str] = []
    for kind, body, headers, types in sent:
        source = create(hooked, kind)
        for _ in range(2):  # the second is a redelivery
            answer = deliver(hooked, source["path"], body, headers)
            assert (answer.status_code, answer.json()) == (202, {"accepted": len(types), "ignored": []})
        first, again = history(hooked, source)
        assert first["events"] == again["events"]
        assert [event["type"] for event in first["events"]] == types
        expected += types * 2
    events = published(redis)
    assert sorted(event["type"] for event in events) == sorted(expected)
    assert len({(event["source"], event["id"]) for event in events}) == len(expected) // 2
    assert {event["data"]["entity"] for event in events} == {"acme"}


@ON_SQLITE
def test_a_senders_idempotency_key_is_none_of_hooklines(hooked: Api) -> None:
    source = create(hooked, "gitlab")
    headers = {
        "X-Gitlab-Token": SECRET,
        "Idempotency-Key": "k" * 300,
        "Authorization": f"Bearer {hooked.keys['admin']}",
    }
    for _ in range(2):
        answer = deliver(hooked, source["path"], gitlab_tag("churn#prod"), headers)
        assert (answer.status_code, answer.json()["accepted"]) == (202, 1)
        assert "idempotent-replayed" not in answer.headers


@ON_SQLITE
def test_a_generic_source_by_rules_stays_in_its_entity(hooked: Api, redis: Redis) -> None:
    source = hooked.ok("POST", SOURCES, GENERIC, status=201)
    body = {"event": "stage", "model": "churn", "id": "a-1", "stage": "prod", "entity": "other"}
    assert deliver(hooked, source["path"], body, {"X-Token": SECRET}).json() == {"accepted": 1, "ignored": []}
    (event,) = published(redis)
    assert event["data"]["entity"] == "acme"
    assert event["source"] == f"/in/{source['id']}"


@ON_SQLITE
def test_a_stranger_learns_nothing(hooked: Api, redis: Redis) -> None:
    source = create(hooked)
    body = github_push()
    unknown = deliver(hooked, "/v1/in/0123456789abcdef0123456789abcdef", body, signed(body))
    wrong = deliver(hooked, source["path"], body, github_headers(json.dumps(body).encode(), "push", secret="x" * 20))
    without = deliver(hooked, source["path"], b"no JSON")
    assert unknown.status_code == wrong.status_code == without.status_code == 401
    assert unknown.json() == wrong.json() == without.json()
    differing = {"x-request-id"}
    assert {name for name, value in unknown.headers.items() if wrong.headers.get(name) != value} <= differing
    assert published(redis) == []
    kept = history(hooked, source)
    assert {(one["outcome"], one["body"], len(one["events"])) for one in kept} == {("refused", None, 0)}
    assert "does not fit" in kept[-1]["reason"]
    assert not any(SECRET in answer for answer in hooked.answers)


@ON_SQLITE
def test_made_up_urls_take_no_memory_and_no_places_of_a_source(hooked: Api) -> None:
    source, resources = create(hooked), hooked.client.app.state.resources
    body = github_push()
    assert deliver(hooked, source["path"], body, signed(body)).status_code == 202
    for token in ("nobody", "x" * 20_000, "%F0%9F%98%80", "A" * 32, f"{'0' * 32}%0A"):
        assert deliver(hooked, f"/v1/in/{token}", body, signed(body)).status_code == 401
    assert list(resources.sources._known._values) == [source["path"].removeprefix("/v1/in/")]
    places = resources.threads.senders
    with ExitStack() as held:
        for _ in range(places.most_of_a_user):
            held.enter_context(places.hold(STRANGERS))
        made_up = (deliver(hooked, f"/v1/in/{number:032x}", body).status_code for number in range(3))
        assert set(made_up) == {429}
        assert deliver(hooked, source["path"], body, signed(body)).status_code == 202


@ON_SQLITE
def test_what_nests_too_deeply_fails_and_is_told_in_a_trial_too(hooked: Api, redis: Redis) -> None:
    source = hooked.ok(
        "POST", SOURCES, {**GENERIC, "kind": "mlflow", "verify": None, "events": [], "project": "p"}, status=201
    )
    deep = b'{"a":' * 400 + b"1" + b"}" * 400
    meta = b'{"name": "m", "version": "1", "key": "k", "value": %b}'
    body = b'{"entity": "model_version_tag", "action": "set", "data": %b}' % meta
    headers = mlflow_headers(body % deep, at=datetime.now(UTC))
    refused = deliver(hooked, source["path"], body % deep, headers)
    assert (refused.status_code, "Recursion" in refused.text) == (422, True)
    assert "Recursion" in history(hooked, source)[0]["reason"]
    tried = hooked.ok("POST", f"{SOURCES}/{source['id']}/test", {"body": (body % deep).decode()})
    assert "Recursion" in tried["faults"][0]["msg"]
    assert published(redis) == []


@ON_SQLITE
def test_a_key_in_base64_that_could_be_guessed_is_refused(hooked: Api) -> None:
    hooked.ok("PUT", f"{ACME}/secrets/SHORT", {"value": "whsec_AAAA"}, status=201)
    signature = {"header": "X-Sign", "key": "base64", "encoding": "base64"}
    body = {**GENERIC, "secret": "SHORT", "verify": {"hmac": signature}}
    assert hooked.refused("POST", SOURCES, body, status=422).locs == [["secret"]]
    hooked.ok("PUT", f"{ACME}/secrets/SHORT", {"value": "whsec_c2lnbmluZy1rZXktb2YtMjQtYnl0ZXMh"})
    hooked.ok("POST", SOURCES, body, status=201)
    hooked.refused("PUT", f"{ACME}/secrets/SHORT", {"value": "whsec_AAAA"}, status=422)


@ON_SQLITE
def test_why_a_request_became_no_event_is_kept_masked(hooked: Api, redis: Redis) -> None:
    source = hooked.ok("POST", SOURCES, GENERIC, status=201)
    token = {"X-Token": SECRET}
    for body, status, outcome, reason in (
        ({"event": "other", "leak": SECRET}, 202, "ignored", "no rule's `when` holds of it"),
        ({"event": "stage", "id": "a-1", "stage": "x"}, 422, "failed", "collection.name: is required"),
        (b"{", 400, "failed", "not JSON"),
    ):
        answer = deliver(hooked, source["path"], body, token)
        assert answer.status_code == status, answer.text
        kept = history(hooked, source)[0]
        assert kept["outcome"] == outcome
        assert reason in kept["reason"]
    hooked.ok("PATCH", f"{SOURCES}/{source['id']}", {"enabled": False})
    assert deliver(hooked, source["path"], {"event": "stage"}, token).json()["accepted"] == 0
    assert "disabled" in history(hooked, source)[0]["reason"]
    assert published(redis) == []
    told = json.dumps(history(hooked, source))
    assert SECRET not in told
    assert "***HOOK***" in told


@pytest.mark.parametrize(
    ("body", "headers", "status", "reason"),
    [
        (b" " * ((1 << 20) + 1), {}, 413, "at most 1048576 bytes"),
        (b" " * ((9 << 20) + 1), {}, 413, "at most 1048576 bytes"),
        (gzip.compress(b" " * ((1 << 20) + 1)), {"Content-Encoding": "gzip"}, 413, "at most 1048576 bytes"),
        (gzip.compress(b"{}")[:-6], {"Content-Encoding": "gzip"}, 400, "not what its Content-Encoding says"),
        (b"{}", {"Content-Encoding": "gzip"}, 400, "not what its Content-Encoding says"),
        (b"{}", {"Content-Encoding": "br"}, 415, "sent as it is, or with Content-Encoding: gzip"),
    ],
    ids=["large", "larger", "large-unpacked", "cut", "no-gzip", "other-coding"],
)
def test_a_body_that_was_not_read_is_in_the_history_with_the_reason(
    hooked: Api, body: bytes, headers: dict[str, str], status: int, reason: str
) -> None:
    source = hooked.ok("POST", SOURCES, GENERIC, status=201)
    assert deliver(hooked, source["path"], body, {"X-Token": SECRET, **headers}).status_code == status
    (kept,) = history(hooked, source)
    assert (kept["outcome"], kept["body"], kept["events"]) == ("refused", None, [])
    assert reason in kept["reason"]
    assert deliver(hooked, "/v1/in/src_of_nobody", body, headers).status_code == status


def test_the_history_and_the_body_are_bounded(hooked: Api, engine: Engine) -> None:
    source = hooked.ok("POST", SOURCES, GENERIC, status=201)
    for number in range(KEPT + 3):
        deliver(hooked, source["path"], {"number": number}, {"X-Token": SECRET})
    with read_transaction(engine) as connection:
        assert len(connection.execute(select(source_requests)).all()) == KEPT
    assert json.loads(history(hooked, source)[0]["body"]) == {"number": KEPT + 2}
    assert deliver(hooked, source["path"], b" " * ((1 << 20) + 1), {"X-Token": SECRET}).status_code == 413


def test_the_history_is_bounded_however_many_keep_at_the_same_time(hooked: Api, engine: Engine) -> None:
    number = decode_id(IdKind.SOURCE, create(hooked)["id"])
    assert number is not None
    request = SourceRequest(
        outcome="ignored",
        reason=None,
        events=None,
        sender="",
        headers={},
        body_bytes=0,
        body="",
        created_at=datetime.now(UTC),
    )

    def keep_some() -> None:
        for _ in range(KEPT // 4):
            with write_transaction(engine) as connection:
                insert_request(connection, number, request)

    with ThreadPoolExecutor(6) as threads:
        for done in [threads.submit(keep_some) for _ in range(6)]:
            done.result()
    with read_transaction(engine) as connection:
        ids = list(connection.execute(select(source_requests.c.id).order_by(source_requests.c.id)).scalars())
    assert len(ids) == KEPT
    assert ids == list(range(ids[-1] - KEPT + 1, ids[-1] + 1))


@ON_SQLITE
def test_event_grid_may_shake_hands(hooked: Api) -> None:
    source = create(hooked, "event-grid")
    validation = [
        {
            "id": "1",
            "topic": "t",
            "subject": "",
            "eventType": "Microsoft.EventGrid.SubscriptionValidationEvent",
            "data": {"validationCode": "code-1"},
        }
    ]
    path = source["path"]
    assert deliver(hooked, path, validation).status_code == 401
    answer = deliver(hooked, f"{path}?code={SECRET}", validation, {"aeg-event-type": "SubscriptionValidation"})
    assert (answer.status_code, answer.json()) == (200, {"validationResponse": "code-1"})
    for address in (path, "/v1/in/nobody"):
        asked = hooked.client.request("OPTIONS", address, headers={"WebHook-Request-Origin": "eventgrid.azure.net"})
        assert (asked.status_code, asked.headers["WebHook-Allowed-Origin"]) == (200, "eventgrid.azure.net")


@ON_SQLITE
def test_a_trial_shows_what_would_become_of_a_body(hooked: Api, redis: Redis) -> None:
    source = create(hooked)
    path = f"{SOURCES}/{source['id']}/test"
    push = {"headers": {"X-GitHub-Event": "push"}, "body": json.dumps(github_push())}
    tried = hooked.ok("POST", path, push, key="member")
    assert [event["type"] for event in tried["events"]] == ["CREATE_ARTIFACT", "LINK_ARTIFACT"]
    assert tried["faults"] == tried["ignored"] == []
    assert hooked.ok("POST", path, push | {"body": "{"})["faults"][0]["msg"].startswith("is not JSON")
    assert "X-GitHub-Event" in hooked.ok("POST", path, {"body": "{}"})["faults"][0]["msg"]
    assert (published(redis), history(hooked, source)) == ([], [])


@ON_SQLITE
def test_an_edit_holds_for_the_next_request(hooked: Api, redis: Redis) -> None:
    source = create(hooked)
    assert deliver(hooked, source["path"], github_push(), signed(github_push())).status_code == 202
    hooked.ok("PUT", f"{ACME}/secrets/NEXT", {"value": "another secret altogether"}, status=201)
    hooked.ok("PATCH", f"{SOURCES}/{source['id']}", {"secret": "NEXT"})
    assert deliver(hooked, source["path"], github_push(), signed(github_push())).status_code == 401
    hooked.ok("PATCH", f"{SOURCES}/{source['id']}", {"former_secret": "HOOK"})
    assert deliver(hooked, source["path"], github_push(), signed(github_push())).status_code == 202
    hooked.ok("DELETE", f"{SOURCES}/{source['id']}", status=204)
    assert deliver(hooked, source["path"], github_push(), signed(github_push())).status_code == 401


@ON_SQLITE
def test_sources_are_applied_exported_and_pruned(hooked: Api) -> None:
    hub = {"name": "hub", "kind": "hugging-face", "secret": "HOOK", "project": "models"}
    manifest = {"sources": [GENERIC, hub]}
    path = f"{ACME}/apply"
    assert [one["change"] for one in hooked.ok("POST", path, manifest)["changes"]] == ["created", "created"]
    before = hooked.ok("GET", f"{SOURCES}/by-name/hub")["path"]
    exported = hooked.ok("GET", f"{ACME}/export")
    assert exported["sources"] == [GENERIC, hub]
    again = hooked.ok("POST", path, {"sources": exported["sources"]})["changes"]
    assert [(one["kind"], one["change"]) for one in again] == [("source", "unchanged")] * 2
    edited = {"sources": [{**hub, "project": "others"}], "prune": True}
    dry = hooked.ok("POST", f"{path}?dry_run=true", edited)["changes"]
    assert dry == hooked.ok("POST", path, edited)["changes"]
    assert [(one["name"], one["change"], one["detail"]) for one in dry] == [
        ("hub", "updated", ["project"]),
        ("comet", "deleted", []),
    ]
    assert hooked.ok("GET", f"{SOURCES}/by-name/hub")["path"] == before
    hooked.ok("POST", path, {"automations": [], "prune": True})
    assert len(hooked.ok("GET", SOURCES)["items"]) == 1
    faulty = {"sources": [hub, hub, {**GENERIC, "verify": None}]}
    assert hooked.refused("POST", path, faulty, status=422).locs == [["sources", 1, "name"], ["sources", 2, "verify"]]
    hooked.refused("POST", path, manifest, key="member", status=403)
