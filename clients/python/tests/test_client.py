"""`Client` and `AsyncClient` against HTTP: batches, repeats, refusals, and answers that nobody expects."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any

import pytest

import hookline
from hookline import batches, events
from hookline.batches import Answer, Outcome
from hookline.configuration import Endpoint
from hookline.errors import InvalidConfiguration, InvalidEvent, Refused, Unreachable


def metric(number: int, project: str = "m") -> events.Event:
    return events.run_metrics(project=project, run="r", step=number, metrics={"loss": 0.5}, id=f"e{number}")


def publish(given: Any, **options: Any) -> int:
    with hookline.Client(**options) as client:
        return client.publish(given)


def publish_async(given: Any, **options: Any) -> int:
    pytest.importorskip("httpx")

    async def go() -> int:
        async with hookline.AsyncClient(**options) as client:
            return await client.publish(given)

    return asyncio.run(go())


either = pytest.mark.parametrize("publish", [publish, publish_async])
Publish = Callable[..., int]


@either
def test_events_arrive_in_order_and_in_batches_that_hookline_takes(configured: Any, publish: Publish) -> None:
    assert publish([metric(number) for number in range(2500)]) == 2500
    assert configured.ids() == [f"e{number}" for number in range(2500)]
    assert [len(json.loads(body)) for body in configured.bodies] == [1000, 1000, 500]


@either
def test_one_event_a_mapping_and_text_are_taken_as_well(configured: Any, publish: Publish) -> None:
    assert publish(metric(1)) == 1
    assert publish(metric(2).to_dict()) == 1
    assert publish([metric(3).to_json()]) == 1
    assert publish([]) == 0
    assert configured.ids() == ["e1", "e2", "e3"]


def test_a_batch_is_cut_by_its_bytes() -> None:
    cut = batches.cut([b"x" * 400] * 10, max_bytes=1000)
    assert [len(batch) for batch in cut] == [2] * 5
    assert all(len(batches.body(batch)) <= 1000 for batch in cut)
    assert batches.cut([]) == []


@either
def test_a_busy_hookline_is_tried_again_with_the_same_ids(configured: Any, publish: Publish) -> None:
    configured.script = [(503, {"Retry-After": "0"}, {}), (500, {}, {}), (429, {"Retry-After": "0"}, {})]
    assert publish([metric(1), metric(2)]) == 2
    assert len(set(configured.bodies)) == 1 and len(configured.bodies) == 4
    assert configured.ids() == ["e1", "e2"]


@either
def test_answers_of_a_newer_hookline_may_say_more(configured: Any, publish: Publish) -> None:
    fault = {"loc": [1, "data", "project"], "msg": "no", "code": "new"}
    configured.script = [
        (422, {"New": "x"}, {"type": "urn:new", "errors": [fault], "more": [{}]}),
        (202, {}, {"accepted": 1, "batches": [{"id": "b"}]}),
    ]
    with pytest.raises(Refused) as caught:
        publish([metric(1), metric(2)])
    assert caught.value.accepted == 1
    assert [str(one) for _, faults in caught.value.refusals for one in faults] == ["data.project: no"]


@either
def test_patience_ends(configured: Any, publish: Publish) -> None:
    configured.script = [(503, {"Retry-After": "30"}, {"detail": "streams are full"})] * 3
    with pytest.raises(Unreachable, match="streams are full") as caught:
        publish(metric(1), patience_seconds=0.1)
    assert caught.value.retry_after_seconds == 30


@either
def test_nobody_there_is_unreachable(configured: Any, publish: Publish) -> None:
    configured.stop()
    with pytest.raises(Unreachable, match=configured.url):
        publish(metric(1), patience_seconds=0)


@either
def test_refused_events_are_taken_out_and_named(configured: Any, publish: Publish) -> None:
    configured.refuses = lambda event: "is odd" if event["data"]["step"] % 2 else None
    with pytest.raises(Refused, match=r"2 events were refused: data\.project: is odd") as caught:
        publish([metric(number) for number in range(5)])
    assert configured.ids() == ["e0", "e2", "e4"]
    assert [json.loads(event)["id"] for event, _ in caught.value.refusals] == ["e1", "e3"]
    assert caught.value.accepted == 3


@either
def test_on_error_is_told_instead(configured: Any, publish: Publish) -> None:
    told: list[Exception] = []
    configured.refuses = lambda event: "is odd" if event["data"]["step"] == 1 else None
    assert publish([metric(0), metric(1)], on_error=told.append) == 1
    assert [type(one) for one in told] == [Refused]


@either
def test_a_refused_key_refuses_everything_at_once(configured: Any, publish: Publish) -> None:
    with pytest.raises(Refused, match="401") as caught:
        publish(metric(1), url=configured.url, api_key="hlk-somebody-else")
    assert caught.value.refusals == () and caught.value.status == 401
    assert len(configured.bodies) == 1


@either
def test_an_event_that_cannot_be_is_found_before_anything_is_sent(configured: Any, publish: Publish) -> None:
    for wrong in (b"[]", b"x" * (1 << 20 | 1), {"loss": float("nan")}, {"a": object()}):
        with pytest.raises(InvalidEvent):
            publish([metric(1), wrong])
    assert configured.bodies == []


@either
def test_a_redirect_is_not_followed(configured: Any, publish: Publish) -> None:
    configured.script = [(307, {"Location": "https://elsewhere.example"}, {})]
    with pytest.raises(Refused, match=r"redirects are not followed.*elsewhere"):
        publish(metric(1))


def test_a_connection_that_the_server_closed_is_opened_again(configured: Any) -> None:
    with hookline.Client(patience_seconds=0) as client:
        client.publish(metric(1))
        configured.stop()
        configured.start()
        client.publish(metric(2))
    assert configured.ids() == ["e1", "e2"]


@pytest.mark.parametrize("errors", [[], None, [{}], [{"loc": "x"}], [{"loc": [99]}], [{"loc": [True]}], "no"])
def test_a_refusal_that_names_nothing_is_narrowed_down(errors: object) -> None:
    """As from a proxy that takes smaller requests only."""
    batch = [b'{"n":%d}' % number for number in range(10)]
    outcome = Outcome.of(batch)
    accepted: list[bytes] = []
    while outcome.pending:
        part = outcome.pending[0]
        if batch[3] in part:
            outcome.take(Answer(413, {}, json.dumps({"errors": errors}).encode()), "u")
        else:
            accepted += part
            outcome.take(Answer(202, {}, b"{}"), "u")
    assert accepted == [event for event in batch if event is not batch[3]]
    assert [event for event, _ in outcome.refusals] == [batch[3]]
    assert outcome.accepted == 9


@pytest.mark.parametrize("body", [b"", b"<html>", b"[1]", b"\xff", b'{"errors": 7}'])
@pytest.mark.parametrize("status", [200, 204, 301, 401, 403, 404, 405, 418])
def test_an_answer_of_something_else_than_hookline_refuses(status: int, body: bytes) -> None:
    with pytest.raises(Refused, match=str(status)):
        Outcome.of([b"{}"]).take(Answer(status, {}, body), "u")


@pytest.mark.parametrize(
    ("variable", "values"),
    [
        (
            "HOOKLINE_URL",
            ["", "hookline.example.com", "ftp://x", "http://", "http://u:p@h", "http://h/?q", "http://h:99999"],
        ),
        ("HOOKLINE_API_KEY", ["", "short", "with blank inside", "line\nbreak-1234", "ключ-ключ-ключ"]),
    ],
)
def test_what_is_malformed_is_said_at_once(configured: Any, variable: str, values: list[str]) -> None:
    for value in values:
        arguments: dict[str, Any] = {("url" if variable == "HOOKLINE_URL" else "api_key"): value}
        with pytest.raises(InvalidConfiguration, match=f"^{variable}: "):
            hookline.Client(**arguments)


def test_a_key_is_never_shown(configured: Any) -> None:
    client = hookline.Client()
    assert "hlk-test" not in repr(client) + repr(Endpoint.of()) + client.spool_name
    client.close()


def test_a_proxy_of_the_environment_is_used(configured: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", configured.url)
    configured.script = [(202, {}, {"accepted": 1})]
    with hookline.Client("http://hookline.invalid/base") as client:
        assert client.publish(metric(1)) == 1
    monkeypatch.setenv("no_proxy", "hookline.invalid")
    with hookline.Client("http://hookline.invalid", patience_seconds=0) as client, pytest.raises(Unreachable):
        client.publish(metric(1))
