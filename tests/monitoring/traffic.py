"""What a platform and its teams do in these tests: every event type that matters, and every outcome that there is."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from typing import Any

import httpx
import orjson

from shared.domain.events.decoding import check_event
from shared.domain.events.partitioning import partition_of
from shared.messaging.streams import FIELD, stream_key
from tests.integration.processes import wait_until
from tests.monitoring.scene import Scene
from tests.servers import free_port

BASE = "/v1/entities/acme"
WEBHOOKS: dict[str, dict[str, Any]] = {
    "deploy": {},
    "flaky": {"schedule_seconds": [0.3, 0.3]},
    "slow": {},
    "silent": {"timeout_seconds": 0.5, "circuit_failures": 0},
    "moved": {},
    "refusing": {},
    "gone": {},
    "dying": {"circuit_failures": 0},
    "broken": {"schedule_seconds": [60], "circuit_failures": 3, "circuit_cool_off_seconds": 300},
    "limited": {"rate_limit": "2/s"},
    "unreachable": {"circuit_failures": 0},
    "blocked": {},
}
"""Each on the receiver's path of its name, with its policy; without retries unless it says otherwise."""
WAYS = tuple(WEBHOOKS)
OUTCOMES = {"2xx", "3xx", "4xx", "5xx", "timeout", "network", "blocked"}
_numbers = itertools.count(1)


def event(event_type: str, **data: Any) -> dict[str, Any]:
    """An event of the entity `acme`, with an id of its own."""
    number = next(_numbers)
    common = {"entity": "acme", "project": "wandb-registry-model", "author": "alice"}
    if "RUN" not in event_type:
        common |= {"collection": {"name": f"c{number % 23}", "type": "model"}}  # type: ignore[dict-item]
        common |= {"artifact": {"id": f"artifact-{number}", "version": f"v{number}"}}  # type: ignore[dict-item]
    members = {"specversion": "1.0", "id": f"event-{number}", "source": "/monitoring", "type": event_type}
    return {**members, "data": common | data}


def alias(name: str) -> dict[str, Any]:
    """An alias was added; the automation of that name watches for it."""
    return event("ADD_ARTIFACT_ALIAS", alias=name)


def metric(run: str, step: int, **metrics: float) -> dict[str, Any]:
    """A run logged metrics."""
    return event("RUN_METRIC", run={"id": run, "name": run}, step=step, metrics=metrics)


def define(scene: Scene) -> dict[str, str]:
    """Webhooks of every kind, an automation for each, and some that hold firings back; webhooks' ids by name."""
    ids = {}
    with scene.api() as api:
        api.put(BASE, json={}).raise_for_status()
        for name, policy in WEBHOOKS.items():
            body = {"name": name, "url": _url(scene, name), "policy": {"schedule_seconds": [], **policy}}
            ids[name] = api.post(f"{BASE}/webhooks", json=body).raise_for_status().json()["id"]
        for automation in _automations():
            api.post(f"{BASE}/automations", json=automation).raise_for_status()
    return ids


def _url(scene: Scene, name: str) -> str:
    if name == "unreachable":
        return f"http://127.0.0.1:{free_port()}/"
    return f"{scene.receiver.url}/{name}".replace("127.0.0.1", "127.0.0.2" if name == "blocked" else "127.0.0.1")


def _automations() -> Iterable[dict[str, Any]]:
    for name in WEBHOOKS:
        action = {"webhook": name, "payload": {"event": "$event_id"}}
        yield {"name": name, "event": "ADD_ARTIFACT_ALIAS", "filter": {"alias": name}, "action": action}
    deploy = {"webhook": "deploy"}
    yield {
        "name": "now and then",
        "event": "ADD_ARTIFACT_ALIAS",
        "filter": {"alias": "deploy"},
        "action": deploy,
        "rate_limit": "1/h",
    }
    yield {"name": "failed runs", "event": "RUN_STATE", "states": ["failed"], "action": deploy}
    good = {"metric": "accuracy", "aggregate": "AVERAGE", "window": 1, "op": "$gt", "threshold": 0.9}
    yield {"name": "good runs", "event": "RUN_METRIC", "conditions": [good], "action": deploy}
    yield {"name": "watch only", "event": "CREATE_ARTIFACT", "action": {"no_op": True}}


def publish(api: httpx.Client, events: Sequence[dict[str, Any]]) -> None:
    """Publish a batch."""
    api.post("/v1/events", json=events).raise_for_status()


def deliveries(api: httpx.Client, **filters: str) -> list[dict[str, Any]]:
    """The newest deliveries that match."""
    page = api.get(f"{BASE}/deliveries", params={"limit": "100", **filters}).raise_for_status().json()
    return list(page["items"])


def every_outcome(scene: Scene) -> None:
    """Have each happen once or more: outcomes, skips, a circuit that opens, a replay, an entry that is no event."""
    with scene.api() as api:
        publish(api, [alias(name) for name in WAYS for _ in range(4)])
        publish(api, [event("RUN_STATE", run={"id": "r1", "name": "r1"}, state="failed") for _ in range(3)])
        publish(api, [metric("r2", step, accuracy=0.95) for step in (1, 2, 2, 1)])
        publish(api, [event("CREATE_ARTIFACT") for _ in range(4)])
        over_the_stream(scene, [alias("deploy") for _ in range(4)])
        with scene.redis() as redis:
            redis.xadd(stream_key(0), {FIELD: b"not an event"})
        wait_until(lambda: len(deliveries(api, status="dead")) >= 4, "dead letters")
        first = deliveries(api, status="dead")[0]["id"]
        api.post(f"{BASE}/deliveries/{first}/replay").raise_for_status()
        wait_until(lambda: bool(_disabled(api)), "webhook that is disabled")
        publish(api, [alias(name) for name in ("gone", "deploy", "slow")])


def over_the_stream(scene: Scene, events: Sequence[dict[str, Any]]) -> None:
    """Publish as a backend does that XADDs by itself."""
    with scene.redis() as redis:
        for one in events:
            partition = partition_of(check_event(one), scene.settings.partitions)
            redis.xadd(stream_key(partition), {FIELD: orjson.dumps(one)})


def _disabled(api: httpx.Client) -> list[dict[str, Any]]:
    page = api.get(f"{BASE}/webhooks").raise_for_status().json()
    return [one for one in page["items"] if not one["enabled"]]
