"""CloudEvents as its libraries send them: attributes in headers, gzip, the webhook handshake, the request's trace."""

from __future__ import annotations

import gzip
import zlib
from typing import Any

import httpx
import orjson
import pytest
from redis import Redis

from shared.settings import Settings
from tests.integration.api.conftest import Api, event, problem_of
from tests.integration.api.test_events import BATCH, EITHER, ONE, locs, published

TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
OTHER = "00-11111111111111111111111111111111-2222222222222222-01"


def binary(raw: dict[str, Any], **headers: str) -> dict[str, str]:
    """The headers of an event in binary mode."""
    attributes = {f"ce-{name}": str(value) for name, value in raw.items() if name != "data"}
    return {"Content-Type": EITHER, **attributes, **headers}


def send(api: Api, body: bytes, headers: dict[str, str]) -> httpx.Response:
    return api.send("POST", "/v1/events", key="publisher", content=body, headers=headers)


def test_attributes_may_be_in_headers(api: Api, redis: Redis, settings: Settings) -> None:
    first = event(metadata={"x": 1}) | {"source": "/plätze/€ 1", "time": "2026-11-23T09:00:00.5Z", "subject": "a"}
    headers = binary(first) | {"ce-source": "/pl%C3%A4tze/%E2%82%AC%201", "ce-id": f'"{first["id"]}"'}
    assert send(api, orjson.dumps(first["data"]), headers).json() == {"accepted": 1}
    [stored] = published(redis, settings)
    assert stored == first

    second = event()
    for content_type in ("application/json; charset=utf-8", "application/vnd.acme.event+json", ""):
        answer = send(api, orjson.dumps(second["data"]), binary(second) | {"Content-Type": content_type})
        assert answer.status_code == 202, answer.text


def test_faults_of_attributes_are_named_as_members(api: Api, redis: Redis, settings: Settings) -> None:
    good = event()
    body = orjson.dumps(good["data"])
    without = {name: value for name, value in binary(good).items() if name != "ce-id"}
    bad: list[tuple[bytes, dict[str, str], list[Any]]] = [
        (body, without, [["id"]]),
        (body, binary(good, **{"ce-specversion": "0.3"}), [["specversion"]]),
        (body, binary(good, **{"ce-type": "NOTHING"}), [["type"]]),
        (body, binary(good, **{"ce-time": "yesterday"}), [["time"]]),
        (body, binary(good, **{"ce-source": "%FF"}), [["source"]]),
        (b"", binary(good), [["data"]]),
        (b"[1]", binary(good), [["data"]]),
        (orjson.dumps(good), binary(good), [["data", "entity"], ["data", "project"]]),
    ]
    for content, headers, expected in bad:
        refused = problem_of(send(api, content, headers), 422)
        assert refused.locs[: len(expected)] == expected
    assert problem_of(send(api, body[:-1], binary(good)), 400).errors
    assert problem_of(send(api, body + b', "id": "other"', binary(good)), 400).errors
    assert problem_of(send(api, body, binary(good, **{"Content-Type": "text/plain"})), 415)
    twice = [*binary(good).items(), ("ce-id", "again")]
    response = api.client.request(
        "POST", "/v1/events", content=body, headers=[*twice, ("Authorization", f"Bearer {api.keys['publisher']}")]
    )
    assert problem_of(response, 422).locs == [["id"]]
    foreign = event(entity="other")
    assert problem_of(send(api, orjson.dumps(foreign["data"]), binary(foreign)), 403)
    assert published(redis, settings) == []


def test_a_structured_event_stays_one_whatever_headers_are_beside_it(api: Api) -> None:
    raw = event()
    assert send(api, orjson.dumps(raw), {"Content-Type": ONE, "ce-id": "other"}).status_code == 202


@pytest.mark.parametrize("kind", [ONE, BATCH, EITHER])
def test_gzip(api: Api, redis: Redis, settings: Settings, kind: str) -> None:
    raw = event()
    body = orjson.dumps([raw] if kind == BATCH else raw)
    for packed in (gzip.compress(body), gzip.compress(body[:9]) + gzip.compress(body[9:])):
        assert send(api, packed, {"Content-Type": kind, "Content-Encoding": "gzip"}).status_code == 202
    assert published(redis, settings) == [raw, raw]


def test_what_is_no_gzip_or_too_much_is_refused(api: Api, redis: Redis, settings: Settings) -> None:
    body = orjson.dumps(event())
    packed = gzip.compress(body)
    for broken in (body, packed[:-1], packed + b"x", packed[:-4] + b"0000"):
        assert problem_of(send(api, broken, {"Content-Type": ONE, "Content-Encoding": "gzip"}), 400).errors
    for coding in ("br", "deflate", "gzip, gzip"):
        refused = problem_of(send(api, zlib.compress(body), {"Content-Type": ONE, "Content-Encoding": coding}), 415)
        assert refused.headers["accept-encoding"] == "gzip"
    bomb = gzip.compress(b" " * (200 << 20))
    assert len(bomb) < 1 << 20
    for kind in (ONE, BATCH):
        problem_of(send(api, bomb, {"Content-Type": kind, "Content-Encoding": "gzip"}), 413)
    assert published(redis, settings) == []
    path = "/v1/entities/acme/projects/p"
    answer = api.send("PUT", path, content=gzip.compress(b"{}"), headers={"Content-Encoding": "gzip"})
    assert answer.status_code == 200, answer.text


def test_the_handshake_of_webhooks(api: Api) -> None:
    def ask(**headers: str) -> httpx.Response:
        return api.client.request("OPTIONS", "/v1/events", headers=headers)

    answer = ask(**{"WebHook-Request-Origin": "eventgrid.azure.net", "WebHook-Request-Rate": "120"})
    assert answer.status_code == 200
    assert answer.headers["webhook-allowed-origin"] == "eventgrid.azure.net"
    assert answer.headers["webhook-allowed-rate"] == "*"
    assert "POST" in answer.headers["allow"]
    for origin in ("", "a b", "x" * 300):
        assert "webhook-allowed-origin" not in ask(**{"WebHook-Request-Origin": origin}).headers
    assert ask().status_code == 204
    other = api.client.request("OPTIONS", "/v1/keys", headers={"WebHook-Request-Origin": "eventgrid.azure.net"})
    assert "webhook-allowed-origin" not in other.headers


def test_the_trace_of_the_request_is_that_of_its_events(api: Api, redis: Redis, settings: Settings) -> None:
    own = event() | {"traceparent": OTHER}
    sent = [event(), own, event()]
    assert send(api, orjson.dumps(sent), {"Content-Type": BATCH, "traceparent": TRACE}).status_code == 202
    third, fourth, fifth = event(), event(), event()
    assert send(api, orjson.dumps(third["data"]), binary(third, traceparent=TRACE)).status_code == 202
    assert send(api, orjson.dumps(fourth["data"]), binary(fourth, **{"ce-traceparent": OTHER})).status_code == 202
    assert send(api, orjson.dumps(fifth), {"Content-Type": ONE, "traceparent": "no trace"}).status_code == 202
    found = {one["id"]: one.get("traceparent") for one in published(redis, settings)}
    assert [found[one["id"]] for one in (*sent, third, fourth, fifth)] == [TRACE, OTHER, TRACE, TRACE, OTHER, None]


def test_a_refusal_of_a_batch_in_gzip_names_the_index(api: Api) -> None:
    broken = event()
    del broken["data"]["alias"]
    body = gzip.compress(orjson.dumps([event(), broken]))
    answer = send(api, body, {"Content-Type": BATCH, "Content-Encoding": "gzip"})
    assert locs(answer.json()) == [[1, "data", "alias"]]
