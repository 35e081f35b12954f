"""Numbers beyond 64 bits on their way from a stream entry to the endpoint, to a dry run and to an operator's screen."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from click.testing import CliRunner
from sqlalchemy import Engine

from shared.domain.events.decoding import decode_event
from shared.domain.events.partitioning import partition_of
from shared.messaging.streams import FIELD, stream_key
from shared.settings import Settings
from tests.integration.scene import Scene, alias_event
from worker.commands.automations import automations
from worker.commands.deliveries import deliveries

NUMBERS = [2**63, 2**64, 2**64 + 1, -(2**63) - 1, 10**30, -(10**307) + 1, 10**400 + 7, 10**4000 - 1]


def _add(scene: Scene, event: Any) -> None:
    """Append an event as a backend does that writes JSON of its own."""
    body = json.dumps(event).encode()
    partition = partition_of(decode_event(body), scene.settings.partitions)
    scene.redis.xadd(stream_key(partition), {FIELD: body})


@pytest.mark.parametrize("number", NUMBERS, ids=lambda number: f"{len(str(number))} digits")
def test_a_number_arrives_as_it_was_published(scene: Scene, number: int) -> None:
    hook = scene.webhook()
    payload = {"said": "${artifact_metadata.n}", "deep": "${artifact_metadata.deep}", "own": number}
    scene.automation(hook, payload=payload, filter={"metadata.n": number})
    scene.automation(hook, payload=payload, filter={"metadata.n": {"$gt": number}})
    scene.automation(hook, payload=payload, filter={"metadata.n": {"$lt": number}})
    artifact = {"id": "a", "version": "v1", "metadata": {"n": number, "deep": [number]}}

    _add(scene, alias_event(artifact=artifact))
    _add(scene, alias_event(artifact=artifact) | {"time": "2026-11-23T10:00:00+01:00"})  # read by the models
    scene.evaluate()
    scene.deliver()

    first, second = (json.loads(request.body) for request in scene.receiver.requests)
    assert first == second == {"said": str(number), "deep": f"[{number}]", "own": number}


@pytest.fixture
def operated(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> Scene:
    """A scene whose storage the operators' commands open."""

    @contextmanager
    def opened() -> Iterator[tuple[Settings, Engine]]:
        yield scene.settings, scene.process.engine

    monkeypatch.setattr("worker.commands.automations.opened", opened)
    monkeypatch.setattr("worker.commands.deliveries.opened", opened)
    return scene


@pytest.mark.parametrize("number", NUMBERS[:-2], ids=lambda number: f"{len(str(number))} digits")
def test_an_operator_sees_the_number(operated: Scene, number: int) -> None:
    hook = operated.webhook()
    operated.automation(hook, name="big", payload={"own": number}, filter={"metadata.n": number})
    artifact = {"id": "a", "version": "v1", "metadata": {"n": number}}
    event = alias_event(artifact=artifact)
    _add(operated, event)
    operated.evaluate()
    operated.deliver()

    (delivery,) = operated.rows()
    shown = CliRunner().invoke(deliveries, ["show", delivery.id, "--json"])
    assert json.loads(shown.stdout)["payload"] == {"own": number}
    table = CliRunner().invoke(deliveries, ["show", delivery.id])
    assert str(number)[:40] in table.stdout
    event["id"] = "another"
    explained = CliRunner().invoke(
        automations, ["explain", "acme", "big", "--event", "-", "--json"], input=json.dumps(event)
    )
    (result,) = json.loads(explained.stdout)["results"]
    assert result["payload"] == {"own": number}
    assert number in [term["value"] for term in result["decisive"]]
