"""The REST client: what it sends, what it makes of refusals, when it tries again."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING

import httpx
import pytest

from dispatcher.client import api_client as client_module
from dispatcher.client.api_client import Client, Refused, Unreachable
from shared.config.setting_types import InvalidSetting
from shared.domain.errors import FieldError
from shared.settings import load_settings

if TYPE_CHECKING:
    from collections.abc import Callable

Answer = httpx.Response | Exception


class Api:
    """A REST API that gives the prepared answers, one after the other, and keeps the requests."""

    def __init__(self, *answers: Answer) -> None:
        self.answers = list(answers)
        self.requests: list[httpx.Request] = []
        self.waits: list[float] = []

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    def client(self) -> Client:
        settings = load_settings(api_key="the-key", url="http://hookline.test/base")
        transport = httpx.MockTransport(self)
        return Client(settings, transport=transport, on_retry=lambda _reason, wait: self.waits.append(wait))


@pytest.fixture(autouse=True)
def _no_sleep(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time, "sleep", lambda _seconds: None)


def test_a_batch_is_one_request() -> None:
    api = Api(httpx.Response(202, json={"accepted": 2}))
    with api.client() as client:
        assert client.publish([b'{"id": "a"}', b'{"id": "b"}']) == 2
    (request,) = api.requests
    assert (request.method, str(request.url)) == ("POST", "http://hookline.test/base/v1/events")
    assert request.headers["Authorization"] == "Bearer the-key"
    assert request.headers["Content-Type"] == "application/cloudevents-batch+json"
    assert json.loads(request.content) == [{"id": "a"}, {"id": "b"}]


@pytest.mark.parametrize(
    "failure",
    [
        httpx.ConnectError("refused"),
        httpx.ReadTimeout("slow"),
        httpx.Response(503),
        httpx.Response(429, json={"detail": "too many"}),
        httpx.Response(502, text="<html>"),
    ],
)
def test_publishing_tries_again_while_the_api_is_away(failure: Answer) -> None:
    api = Api(failure, failure, httpx.Response(202, json={"accepted": 1}))
    with api.client() as client:
        assert client.publish([b"{}"]) == 1
    assert len(api.waits) == 2
    assert api.requests[0].content == api.requests[2].content


@pytest.mark.parametrize(("header", "wait"), [("7", 7.0), ("86400", 60.0), ("Wed, 01 Jan 2020 00:00:00 GMT", 0.0)])
def test_retry_after_is_honoured_up_to_a_cap(header: str, wait: float) -> None:
    api = Api(httpx.Response(503, headers={"Retry-After": header}), httpx.Response(202, json={"accepted": 1}))
    with api.client() as client:
        client.publish([b"{}"])
    assert api.waits == [wait]


def test_publishing_gives_up_in_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client_module, "GIVE_UP_SECONDS", 0.0)
    with Api(httpx.ConnectError("connection refused")).client() as client, pytest.raises(Unreachable) as caught:
        client.publish([b"{}"])
    assert str(caught.value) == "no answer from http://hookline.test/base/: connection refused"


def test_a_refusal_is_not_tried_again_and_carries_the_faults() -> None:
    problem = {"detail": "2 faults", "errors": [{"loc": [0, "data", "alias"], "msg": "is required"}]}
    api = Api(httpx.Response(422, json=problem))
    with api.client() as client, pytest.raises(Refused, match="422: 2 faults") as caught:
        client.publish([b"{}"])
    assert caught.value.errors == (FieldError((0, "data", "alias"), "is required"),)
    assert api.waits == []


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (httpx.Response(401, json={"title": "Unauthorized"}), "^401: Unauthorized$"),
        (httpx.Response(404, text="<h1>\nnot here</h1>"), "^404: <h1> not here</h1>$"),
        (httpx.Response(400), "^400: Bad Request$"),
        (httpx.Response(302, headers={"Location": "http://elsewhere"}), "^302: Found$"),
        (httpx.Response(200, text="hello"), "does not answer like Hookline: hello"),
    ],
)
def test_other_refusals_say_what_came(answer: httpx.Response, message: str) -> None:
    with Api(answer).client() as client, pytest.raises(Refused, match=message) as caught:
        client.export("acme")
    assert caught.value.errors == ()


@pytest.mark.parametrize(("dry_run", "query"), [(True, b"dry_run=true"), (False, b"")])
def test_apply_sends_the_document_to_its_entity(dry_run: bool, query: bytes) -> None:
    changes = [{"kind": "webhook", "name": "w", "change": "created"}]
    api = Api(httpx.Response(200, json={"changes": changes}))
    with api.client() as client:
        assert client.apply("a/b c", b'{"webhooks": []}', dry_run=dry_run) == changes
    (request,) = api.requests
    assert request.url.raw_path.split(b"?")[0] == b"/base/v1/entities/a%2Fb%20c/apply"
    assert request.url.query == query
    assert request.content == b'{"webhooks": []}'


def test_entities_follows_the_pages() -> None:
    api = Api(
        httpx.Response(200, json={"items": [{"name": "a"}, {"name": "b"}], "next": "c1"}),
        httpx.Response(200, json={"items": [{"name": "c"}], "next": None}),
    )
    with api.client() as client:
        assert list(client.entities()) == ["a", "b", "c"]
    assert [request.url.query for request in api.requests] == [b"", b"cursor=c1"]


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"api_key": None}, "HOOKLINE_API_KEY: is not set"),
        ({"url": "localhost:8080"}, "HOOKLINE_URL: must be a URL such as"),
        ({"url": "http://"}, "HOOKLINE_URL: must be a URL such as"),
        ({"url": "http://[::"}, "HOOKLINE_URL: "),
    ],
)
def test_unusable_settings_are_named(overrides: dict[str, str | None], message: str) -> None:
    make: Callable[[], Client] = lambda: Client(load_settings(**{"api_key": "k", **overrides}))  # noqa: E731
    with pytest.raises(InvalidSetting, match=message):
        make()


def test_the_end_of_a_key_is_told_once() -> None:
    when = "2026-12-09T00:00:00Z"

    def answer(_request: httpx.Request) -> httpx.Response:
        return httpx.Response(200, json={"items": []}, headers={"Hookline-Key-Expires": when})

    told: list[str] = []
    settings = load_settings(url="http://hookline", api_key="hlk-1")
    with Client(settings, on_expiry=told.append, transport=httpx.MockTransport(answer)) as client:
        for _ in range(2):
            client.export("acme")
    assert told == [when]
