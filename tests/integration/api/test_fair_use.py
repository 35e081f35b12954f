"""A user's worst costs that user: what is slow has few places and threads of its own, and others are served."""

from __future__ import annotations

import gzip
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import httpx
import orjson
import pytest

from dispatcher.api import dry_runs as dry_run_routes
from dispatcher.api import fair_use, idempotency
from dispatcher.control import definition_lists, deliveries, dry_runs, manifest_export
from tests.integration.api.conftest import ACME, Api, automation, create_webhook, event, problem_of, webhook
from tests.integration.receiver import Answer, receiving

SECONDS = 60


@dataclass
class Gate:
    """Holds calls until it is opened."""

    open: threading.Event = field(default_factory=threading.Event)
    entered: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(0))

    def before(self, call: Callable[..., Any]) -> Callable[..., Any]:
        """The call, once the gate is open."""

        def held(*arguments: Any, **named: Any) -> Any:
            self.entered.release()
            assert self.open.wait(SECONDS)
            return call(*arguments, **named)

        return held

    def wait_for(self, number: int) -> None:
        """Until so many calls have come."""
        for _ in range(number):
            assert self.entered.acquire(timeout=SECONDS)


@contextmanager
def many(
    api: Api, gate: Gate, number: int, *request: Any, key: str = "admin"
) -> Iterator[list[Future[httpx.Response]]]:
    """So many requests of one user at the same time; all are answered in the end."""
    with ThreadPoolExecutor(number) as pool:
        sent = [pool.submit(api.send, *request, key=key) for _ in range(number)]
        try:
            yield sent
        finally:
            gate.open.set()


def answered(sent: list[Future[httpx.Response]], number: int) -> list[httpx.Response]:
    """The answers that come while the others are held."""
    done: set[Future[httpx.Response]] = set()
    while len(done) < number:
        found, _ = wait(set(sent) - done, SECONDS, return_when="FIRST_COMPLETED")
        assert found
        done |= found
    return [one.result() for one in done]


def others_are_served(api: Api) -> None:
    """Health, metrics, publishing and other users' requests, while something is held."""
    assert api.client.request("GET", "/readyz").json()["status"] == "ready"
    assert api.client.request("GET", "/healthz").status_code == 200
    assert api.client.request("GET", "/metrics").status_code == 200
    large = [event(artifact={"id": "QQ==", "version": "v1", "metadata": {"k": "x" * 300_000}}) for _ in range(2)]
    for batch in ([event()], large):
        api.ok("POST", "/v1/events", batch, key="publisher", status=202)
    assert api.ok("GET", f"{ACME}/secrets", key="member")["items"] == []


DRY_RUN = {"definition": automation(), "event": event()}


@pytest.mark.parametrize(
    ("module", "held", "request_"),
    [
        (dry_runs, "run", ("POST", f"{ACME}/automations/dry-run", DRY_RUN)),
        (idempotency, "write_transaction", ("POST", f"{ACME}/apply", {"automations": []})),
        (manifest_export, "export", ("GET", f"{ACME}/export")),
        (deliveries, "read_next", ("GET", f"{ACME}/deliveries/export")),
    ],
    ids=["dry runs", "manifests", "exports of definitions", "exports of deliveries"],
)
def test_what_is_slow_has_two_places_of_a_user(
    api: Api, monkeypatch: pytest.MonkeyPatch, module: Any, held: str, request_: Any
) -> None:
    create_webhook(api)
    gate = Gate()
    monkeypatch.setattr(module, held, gate.before(getattr(module, held)))
    with many(api, gate, 30, *request_) as sent:
        gate.wait_for(1)
        for refused in answered(sent, 28):
            assert "2 " in problem_of(refused, 429).detail
            assert refused.headers["Retry-After"] == "1"
        assert not gate.entered.acquire(blocking=False)  # the other one waits for the first
        others_are_served(api)
        with ThreadPoolExecutor(1) as pool:
            of_another = pool.submit(api.send, *request_, key="root")
            gate.wait_for(1)
            gate.open.set()
            assert of_another.result().is_success
    assert sum(one.result().is_success for one in sent) == 2
    assert api.send(*request_, key="admin").is_success


def test_tests_of_webhooks_have_two_places_of_a_user(api: Api) -> None:
    gate = Gate()
    with receiving() as receiver:
        receiver.answer = gate.before(lambda _request: Answer(200))
        path = f"{ACME}/webhooks/{create_webhook(api, webhook(url=receiver.url))['id']}/test"
        with many(api, gate, 10, "POST", path) as sent:
            gate.wait_for(2)
            assert {one.status_code for one in answered(sent, 8)} == {429}
            others_are_served(api)
        assert sum(one.result().status_code == 200 for one in sent) == 2


def test_lists_of_one_user_leave_threads_to_others(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    gate = Gate()
    monkeypatch.setattr(definition_lists, "list_automations", gate.before(definition_lists.list_automations))
    monkeypatch.setattr(api.client.app.state.resources.threads.ordinary, "most_of_a_user", 50)
    with many(api, gate, 60, "GET", f"{ACME}/automations") as sent:
        gate.wait_for(2)
        assert {one.status_code for one in answered(sent, 10)} == {429}
        assert not gate.entered.acquire(blocking=False)
        others_are_served(api)
    assert sum(one.result().status_code == 200 for one in sent) == 50


def test_a_place_is_taken_before_the_body_is_read(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(api.client.app.state.resources.threads.dry_runs.places, "most_of_a_user", 0)
    path = f"{ACME}/automations/dry-run"
    for headers in ({}, {"Idempotency-Key": "once"}):
        answer = api.send("POST", path, content=b"{" * 1000, headers=headers, key="member")
        assert problem_of(answer, 429).headers["Retry-After"] == "1"
    unknown = api.client.request("POST", path, content=b"{", headers={"Authorization": "Bearer hlk-unknown"})
    assert unknown.status_code == 401


def test_large_batches_have_few_places_of_a_user(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(api.client.app.state.resources.threads.large_batches, "most_of_a_user", 0)
    monkeypatch.setattr(fair_use, "LARGE_BYTES", 1000)
    large = [event(author="x" * 100) for _ in range(10)]
    api.ok("POST", "/v1/events", [event()], key="publisher", status=202)
    assert problem_of(api.send("POST", "/v1/events", large, key="publisher"), 429).headers["Retry-After"] == "1"
    packed = gzip.compress(orjson.dumps(large))
    assert len(packed) < 1000
    headers = {"Content-Type": "application/json", "Content-Encoding": "gzip"}
    problem_of(api.send("POST", "/v1/events", content=packed, headers=headers, key="publisher"), 429)
    small = gzip.compress(orjson.dumps([event()]))
    assert api.send("POST", "/v1/events", content=small, headers=headers, key="publisher").status_code == 202


def test_a_body_that_unpacks_to_a_large_one_waits_for_its_turn(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    """A few hundred bytes of gzip may be 8 MiB of JSON: they are no way around the turns of large bodies."""
    monkeypatch.setattr(fair_use, "LARGE_BYTES", 1000)
    turns = api.client.app.state.resources.threads.large_body_turns
    taken: list[int] = []
    monkeypatch.setattr(type(turns), "hold", _noting(type(turns).hold, turns, taken))
    headers = {"Content-Type": "application/json", "Content-Encoding": "gzip"}
    for path in ("apply", "automations", "automations/dry-run"):
        for spaces in (10, 10_000):
            content = gzip.compress(b"{" + b" " * spaces + b"}")
            assert len(content) < 1000
            answer = api.send("POST", f"{ACME}/{path}", content=content, headers=headers)
            assert answer.status_code in (200, 422), answer.text
    assert len(taken) == 3


def _noting(hold: Any, noted: Any, taken: list[int]) -> Any:
    def held(turns: Any, user_id: int) -> Any:
        if turns is noted:
            taken.append(user_id)
        return hold(turns, user_id)

    return held


def test_refusals_are_told_at_a_bounded_rate(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    threads = api.client.app.state.resources.threads
    waited: list[int] = []

    async def wait(_refusals: Any, user_id: int) -> None:
        waited.append(user_id)

    monkeypatch.setattr(type(threads.refusals), "wait", wait)
    monkeypatch.setattr(fair_use, "LARGE_BYTES", 1000)
    for places in (threads.dry_runs.places, threads.large_batches, threads.graphql.places, threads.console):
        monkeypatch.setattr(places, "most_of_a_user", 0)
    api.refused("POST", f"{ACME}/automations/dry-run", {}, status=429)
    api.refused("POST", "/v1/events", [event(author="x" * 100) for _ in range(10)], key="publisher", status=429)
    assert api.send("POST", "/graphql", {"query": "{ viewer { id } }"}).status_code == 429
    assert api.client.request("GET", "/console/sign-in").status_code == 429
    assert len(waited) == 4


def test_given_events_end_in_time(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    create_webhook(api)
    monkeypatch.setattr(dry_run_routes, "MAX_SECONDS", -1.0)
    body = {"definition": automation(), "events": [event(), event()]}
    refused = api.refused("POST", f"{ACME}/automations/dry-run", body, status=422)
    assert refused.locs == [["events"]]


def test_a_time_range_ends_in_time_and_says_where_to_go_on(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    create_webhook(api)
    path, body = f"{ACME}/automations/dry-run", {"definition": automation(), "since": "1h"}
    api.ok("POST", "/v1/events", [event() for _ in range(3)], key="publisher", status=202)
    assert api.ok("POST", path, body)["summary"]["events"] == 3
    monkeypatch.setattr(dry_run_routes, "MAX_SECONDS", -1.0)
    cut = api.ok("POST", path, body)
    assert (cut["truncated"], cut["summary"]["events"]) == (True, 1)
    assert cut["read_until"] is not None


def test_pages_of_a_visitor_take_turns_too(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    assert api.client.request("GET", "/console/sign-in", headers={"Cookie": "a=1"}).status_code != 429
    monkeypatch.setattr(api.client.app.state.resources.threads.console, "most_of_a_user", 0)
    answer = api.client.request("GET", "/console/sign-in", headers={"Cookie": "a=1"})
    assert (answer.status_code, answer.headers["Retry-After"]) == (429, "1")
    assert "This is too much at once" in answer.text and "nonce-" in answer.headers["Content-Security-Policy"]
