"""What every route does alike: methods, sizes, query parameters and request ids."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
import structlog
from redis.exceptions import ConnectionError as RedisConnectionError

from dispatcher.api.bodies import limit_bytes_of
from dispatcher.control import secrets
from dispatcher.publishing.publisher import Publisher
from tests.integration.api.conftest import ACME, Api, create_webhook, event, problem_of, webhook

MIB = 1 << 20


def operations(api: Api) -> dict[tuple[str, str], Any]:
    """Every operation of the document, by method and path."""
    document = api.client.request("GET", "/openapi.json").json()
    return {
        (method.upper(), path): operation
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
    }


def filled(path: str) -> str:
    """A path with something in place of each parameter."""
    return path.replace("{entity}", "acme").replace("{event_type}", "RUN_STATE").replace("{", "").replace("}", "")


def test_a_url_says_all_that_it_allows(api: Api) -> None:
    allowed: dict[str, set[str]] = {}
    for method, path in operations(api):
        allowed.setdefault(filled(path), {"OPTIONS"}).update({method, "HEAD"} if method == "GET" else {method})
    allowed[f"{ACME}/deliveries/replay"] |= {"GET", "HEAD"}  # `replay` might be a delivery's id

    for path, methods in allowed.items():
        options = api.client.request("OPTIONS", path)
        assert (options.status_code, options.content) == (204, b"")
        assert methods <= set(options.headers["allow"].split(", ")), path
        problem = problem_of(api.client.request("TRACE", path), 405)
        assert problem.headers["allow"] == options.headers["allow"]
    problem_of(api.client.request("OPTIONS", "/v1/nothing"), 404)


def test_head_is_get_without_the_body(api: Api) -> None:
    path = f"{ACME}/webhooks/{create_webhook(api)['id']}"
    got, headed = api.send("GET", path), api.send("HEAD", path)

    assert (headed.status_code, headed.content) == (200, b"")
    for name in ("content-length", "content-type", "etag"):
        assert headed.headers[name] == got.headers[name]
    assert api.send("HEAD", f"{path}9").status_code == 404
    assert api.client.request("HEAD", path).status_code == 401
    assert api.client.request("HEAD", "/healthz").status_code == 200


def test_every_route_refuses_query_parameters_that_it_does_not_know(api: Api) -> None:
    for method, path in operations(api):
        # The URLs of sources are known to services alone, which may add to them what they like.
        if path.startswith("/v1/") and not path.startswith("/v1/in/"):
            problem = api.refused(method, f"{filled(path)}?limitt=3", None, status=422)
            assert problem.locs == [["limitt"]], path
            assert "accepted:" in problem.errors[0]["msg"]
    assert api.client.request("GET", "/healthz?at=12").status_code == 200
    problem_of(api.client.request("GET", f"{ACME}/webhooks?limitt=3"), 401)


READS_NO_BODY = ("replay", "accept", "/restore", "/stop", "{slack_id}/test")


def test_every_route_bounds_its_body(api: Api) -> None:
    async def chunks(size: int) -> AsyncIterator[bytes]:
        for _ in range(size // (1 << 16)):
            yield b" " * (1 << 16)

    for method, path in operations(api):
        limit = limit_bytes_of(filled(path))
        declared = {"Content-Length": str(limit + 1), "Content-Type": "application/json"}
        problem = api.refused(method, filled(path), status=413, headers=declared)
        assert str(limit) in problem.detail
        if limit == MIB and method in ("POST", "PUT", "PATCH") and not path.endswith(READS_NO_BODY):
            headers = {"Content-Type": "application/json"}
            api.refused(method, filled(path), status=413, headers=headers, content=chunks(2 * MIB))
    headers = {"Content-Type": "application/json"}
    api.refused("POST", "/v1/events", status=413, headers=headers, content=chunks(9 * MIB))
    api.refused("POST", "/v1/events", status=413, headers=headers, content=b"[" + b" " * MIB * 9 + b"]")


def test_requests_have_ids_in_answers_and_in_the_log(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Any] = []

    def fail(*_args: object, **_more: object) -> None:
        seen.append(structlog.contextvars.get_contextvars().get("request_id"))
        raise RuntimeError("bug")

    own = api.send("GET", f"{ACME}/secrets", headers={"X-Request-ID": "trace-7"})
    made = [api.send("GET", f"{ACME}/secrets").headers["x-request-id"] for _ in range(2)]
    monkeypatch.setattr(secrets, "list_secrets", fail)
    failed = api.send("GET", f"{ACME}/secrets", headers={"X-Request-ID": "trace-8"})

    assert own.headers["x-request-id"] == "trace-7"
    assert len({*made}) == 2
    assert (failed.status_code, failed.headers["x-request-id"], seen) == (500, "trace-8", ["trace-8"])
    assert failed.headers.get_list("x-request-id") == ["trace-8"]
    for unfit in ("a b", "x" * 129, "a\x1b[31m", ""):
        answer = api.client.request("GET", "/healthz", headers={"X-Request-ID": unfit})
        assert answer.headers["x-request-id"] != unfit


def test_a_stream_that_is_away_says_when_to_try_again(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    async def gone(**_: object) -> None:
        raise RedisConnectionError("gone")

    publisher: Publisher = api.client.app.state.resources.publisher
    monkeypatch.setattr(publisher, "_append_all", gone)

    assert api.refused("POST", "/v1/events", event(), status=503).headers["retry-after"] == "1"


def test_an_answer_does_not_grow_with_the_faults_of_a_request(api: Api) -> None:
    many = {f"k{number}": 1 for number in range(60_000)}
    for path in (f"{ACME}/webhooks", f"{ACME}/automations", f"{ACME}/automations/dry-run", f"{ACME}/apply", "/v1/keys"):
        answer = api.send("POST", path, many)
        assert answer.status_code == 422
        assert len(answer.content) < 200_000
    url = f"{ACME}/webhooks?" + "&".join(f"k{number}=1" for number in range(5000))
    problem = api.refused("GET", url, status=422)
    assert len(problem.errors) == 1001
    assert problem.errors[-1] == {"loc": [], "msg": "and 4000 more faults"}
    nested = api.send("POST", f"{ACME}/webhooks", webhook(policy=many))
    assert len(nested.content) < 200_000
