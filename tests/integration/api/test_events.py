"""Intake: whole batches or nothing, answered once the stream has them."""

from __future__ import annotations

from typing import Any

import orjson
import pytest
from redis import Redis

from shared.domain.events.decoding import check_event
from shared.domain.events.partitioning import START, partition_of
from shared.domain.events.types import EventType
from shared.messaging.streams import read_after, stream_key
from shared.settings import Settings
from tests.integration.api.conftest import Api, event, running
from tests.servers import valkey_server

ONE = "application/cloudevents+json"
BATCH = "application/cloudevents-batch+json"
EITHER = "application/json"


def publish(api: Api, body: object, kind: str = EITHER, *, key: str = "publisher", status: int = 202) -> Any:
    """The answer to a body that must be answered with this status."""
    response = api.send(
        "POST",
        "/v1/events",
        key=key,
        content=body if isinstance(body, bytes) else orjson.dumps(body),
        headers={"Content-Type": kind},
    )
    assert response.status_code == status, response.text
    return response.json()


def locs(answer: Any) -> list[list[Any]]:
    return [error["loc"] for error in answer["errors"]]


def published(redis: Redis, settings: Settings) -> list[Any]:
    """Every event in the streams."""
    entries = (entry for p in range(settings.partitions) for entry in read_after(redis, p, START, 10_000))
    return [orjson.loads(entry.body or b"") for entry in entries]


def test_events_are_taken_in_every_form(api: Api, redis: Redis, settings: Settings) -> None:
    first, second, third, fourth = sent = [event() for _ in range(4)]

    assert publish(api, first, ONE) == {"accepted": 1}
    assert publish(api, [second], BATCH + "; charset=utf-8") == {"accepted": 1}
    assert publish(api, third, EITHER, key="admin") == {"accepted": 1}
    assert publish(api, [fourth, event(entity="other")], EITHER, key="root") == {"accepted": 2}

    found = published(redis, settings)
    assert len(found) == 5
    assert all(one in found for one in sent)
    partition = partition_of(check_event(first), settings.partitions)
    assert redis.xlen(stream_key(partition)) >= 4


def test_a_batch_with_faults_is_refused_whole(api: Api, redis: Redis, settings: Settings) -> None:
    broken = event()
    del broken["data"]["alias"]

    refused = publish(api, [event(), broken, event(author=5), 7], BATCH, status=422)

    assert [loc[:3] for loc in locs(refused)[:2]] == [[1, "data", "alias"], [2, "data", "author"]]
    assert locs(refused)[2][0] == 3
    assert locs(publish(api, broken, ONE, status=422)) == [["data", "alias"]]
    assert locs(publish(api, event() | {"type": "NOTHING"}, status=422)) == [["type"]]
    assert locs(publish(api, {}, BATCH, status=422)) == [[]]
    assert locs(publish(api, [event()], ONE, status=422))
    publish(api, [], BATCH, status=422)
    assert published(redis, settings) == []


def test_an_event_of_a_foreign_entity_is_refused_with_its_batch(api: Api, redis: Redis, settings: Settings) -> None:
    batch = [event(), event(entity="other"), event(), event(entity="nowhere")]

    refused = publish(api, batch, status=403)

    assert locs(refused) == [[1, "data", "entity"], [3, "data", "entity"]]
    assert publish(api, batch, key="root", status=403)["errors"][0]["loc"] == [3, "data", "entity"]
    publish(api, event(), key="member", status=403)
    publish(api, event(), key="outsider", status=403)
    assert published(redis, settings) == []


def test_bodies_that_are_no_events_are_refused(api: Api, redis: Redis, settings: Settings) -> None:
    publish(api, b"{", ONE, status=400)
    publish(api, b"", ONE, status=400)
    publish(api, b'{"a": NaN1}', ONE, status=400)
    publish(api, b"[" * 100_000, BATCH, status=400)
    publish(api, event(), "text/plain", status=415)
    publish(api, event(), "", status=415)
    assert published(redis, settings) == []


def test_samples_that_are_no_numbers_take_no_batch_with_them(api: Api, redis: Redis, settings: Settings) -> None:
    def logged(number: int, sample: str) -> bytes:
        of_run = event(run={"id": "r1"}, step=number, metrics={"loss": 0.125}) | {"type": "RUN_METRIC"}
        return orjson.dumps(of_run).replace(b"0.125", sample.encode())

    good = [logged(number, text) for number, text in enumerate(["0.5", "null", "NaN", "-Infinity"])]
    assert publish(api, b"[" + b",".join(good) + b"]", BATCH) == {"accepted": 4}
    assert publish(api, logged(4, "NaN"), ONE) == {"accepted": 1}
    found = [one["data"]["metrics"]["loss"] for one in published(redis, settings)]
    assert found == [0.5, None, "NaN", "-Infinity", "NaN"]

    bad = logged(5, "1").replace(b'"step":5', b'"step":NaN')
    refused = publish(api, b"[" + b",".join([*good, bad]) + b"]", BATCH, status=422)
    assert locs(refused) == [[4, "data", "step"]]
    assert len(published(redis, settings)) == 5


def test_limits(api: Api, redis: Redis, settings: Settings) -> None:
    def padded(size: int) -> dict[str, Any]:
        return event(artifact={"id": "a", "metadata": {"pad": "x" * size}})

    publish(api, padded(1 << 20), ONE, status=413)
    publish(api, padded(1 << 20), EITHER, status=413)
    assert locs(publish(api, [event(), padded(1 << 20)], BATCH, status=422)) == [[1]]
    publish(api, b" " * ((8 << 20) + 1), BATCH, status=413)
    publish(api, [event()] * 1001, BATCH, status=413)
    assert published(redis, settings) == []

    assert publish(api, padded((1 << 20) - 1000), ONE) == {"accepted": 1}
    assert publish(api, [event() for _ in range(1000)], BATCH) == {"accepted": 1000}


def test_a_body_of_unknown_length_is_cut_off_at_the_limit(api: Api) -> None:
    sent = 0

    async def endless() -> Any:
        nonlocal sent
        while True:
            sent += 1 << 16
            yield b" " * (1 << 16)

    response = api.send("POST", "/v1/events", key="publisher", content=endless(), headers={"Content-Type": ONE})

    assert response.status_code == 413
    assert sent < 2 << 20


def test_without_the_stream_nothing_is_accepted(settings: Settings) -> None:
    with valkey_server() as url:
        gone = settings.model_copy(update={"redis_url": url})
        with running(gone) as client:
            api = Api(client)
            assert publish(api, event(), key="root") == {"accepted": 1}
            assert client.request("GET", "/readyz").status_code == 200
            with Redis.from_url(url) as redis:
                redis.shutdown(nosave=True)
            refused = api.send(
                "POST",
                "/v1/events",
                content=orjson.dumps(event()),
                headers={"Content-Type": ONE},
            )
            ready = client.request("GET", "/readyz")

    assert (refused.status_code, refused.headers["retry-after"]) == (503, "1")
    assert ready.status_code == 503
    assert [error["loc"] for error in ready.json()["errors"]] == [["redis"]]


def test_notices_cannot_be_forged(api: Api, redis: Redis, settings: Settings) -> None:
    forged = event() | {
        "type": "DEAD_LETTER",
        "data": {
            "entity": "acme",
            "webhook": {"id": "wh_1", "name": "hook"},
            "delivery": {"id": "dlv_1", "status": "dead"},
        },
    }
    assert locs(publish(api, forged, ONE, status=422)) == [["type"]]
    answer = publish(api, [event(), forged], BATCH, key="root", status=422)
    assert locs(answer) == [[1, "type"]]
    assert "Hookline's own" in answer["errors"][0]["msg"]
    assert published(redis, settings) == []


@pytest.mark.parametrize("source", ["/hookline", "/wandb", "/in/src_7", "/in/src_7/more"])
def test_nobody_publishes_as_a_way_in_of_hooklines_own(api: Api, redis: Redis, settings: Settings, source: str) -> None:
    """The id of a real event could be guessed, and that taken for the repeat of the false one."""
    plain = event() | {"source": source}
    doubtful = plain | {"time": "2026-12-01T09:00:00+01:00"}  # which only the models read
    for one in (plain, doubtful):
        assert locs(publish(api, one, ONE, status=422)) == [["source"]]
        assert locs(publish(api, one, "application/json", status=422)) == [["source"]]
        for kind in (BATCH, "application/json"):
            answer = publish(api, [event(), one], kind, key="root", status=422)
            assert locs(answer) == [[1, "source"]]
            assert "Hookline's own" in answer["errors"][0]["msg"]
    headers = {f"ce-{name}": str(plain[name]) for name in ("specversion", "id", "source", "type")}
    body = orjson.dumps(plain["data"])
    binary = api.send("POST", "/v1/events", key="publisher", content=body, headers=headers | {"Content-Type": EITHER})
    assert (binary.status_code, locs(binary.json())) == (422, [["source"]])
    assert published(redis, settings) == []
    publish(api, event() | {"source": f"/of-mine{source}"}, ONE)


def test_schemas_are_served_for_each_type(api: Api) -> None:
    types = api.ok("GET", "/v1/schemas")["types"]
    assert types == [str(event_type) for event_type in EventType]
    for event_type in types:
        schema = api.ok("GET", f"/v1/schemas/{event_type}")
        assert schema["title"] == event_type
        assert "$schema" in schema
    assert "RUN_METRIC" in api.refused("GET", "/v1/schemas/NOTHING", status=404).detail
