"""One trace from publishing through evaluation to each attempt, over real processes and a collector that takes OTLP."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from redis.asyncio import Redis

from dispatcher.publishing.publisher import Publisher
from shared.observability.trace_context import (
    TraceContext,
    attempt_context,
    child_context,
    producer_context,
    read_traceparent,
)
from shared.observability.tracing import open_tracing
from shared.settings import Settings
from tests.integration.processes import dispatcher_command, running, wait_until, worker_command
from tests.integration.receiver import Answer, Receiver, receiving
from tests.integration.scene import Scene, alias_event

SECRET = "a-value-that-nobody-may-see"
PRODUCER = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


def _spans(collector: Receiver) -> list[tuple[str, Any]]:
    """All spans that arrived, each after the name of its service."""
    found = []
    for request in list(collector.requests):
        export = ExportTraceServiceRequest.FromString(request.body)
        for resource in export.resource_spans:
            (service,) = (one.value.string_value for one in resource.resource.attributes if one.key == "service.name")
            found += [(service, span) for scope in resource.scope_spans for span in scope.spans]
    return found


def _publish(settings: Settings, event: Any) -> None:
    async def publish() -> None:
        redis = Redis.from_url(settings.stream_url)
        tracing = open_tracing(settings, "api")
        try:
            await Publisher(redis, settings.partitions, tracing=tracing).publish([event])
        finally:
            await redis.aclose()
            if tracing is not None:
                tracing.close()

    asyncio.run(publish())


@pytest.mark.slow
def test_one_trace_leads_from_the_producer_to_each_attempt(
    scene: Scene, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = scene.settings.model_copy(update={"otel": True})
    scene.receiver.answer = lambda _request: Answer(status=500 if len(scene.receiver.requests) == 1 else 200)
    scene.secret("TOKEN", SECRET)
    hook = scene.webhook(access_token="TOKEN", policy={"schedule_seconds": (0.0,)})
    scene.automation(hook, payload={"token": "${ACCESS_TOKEN}"})
    with receiving() as collector:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collector.url)
        monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "100")
        log = tmp_path / "worker.log"
        worker = worker_command("w")
        with (
            running(dispatcher_command(), settings, tmp_path / "pump.log"),
            running(worker, settings, log),
        ):
            _publish(settings, alias_event() | {"traceparent": PRODUCER})
            wait_until(lambda: len(_spans(collector)) >= 4, "whole trace")
        spans, sent = _spans(collector), b"".join(request.body for request in collector.requests)
    by_name = {
        name: [span for _service, span in spans if span.name.startswith(name)] for name in ("publish", "evaluate")
    }
    (published,), (evaluated,) = by_name.values()
    attempts = sorted((one for _, one in spans if one.name == "attempt"), key=lambda one: one.start_time_unix_nano)
    assert len(spans) == 4
    assert {service for service, _ in spans} == {"hookline-api", "hookline-worker"}
    assert {span.trace_id.hex() for _, span in spans} == {PRODUCER.split("-")[1]}
    assert published.parent_span_id.hex() == PRODUCER.split("-")[2]
    assert evaluated.parent_span_id == published.span_id
    assert [one.parent_span_id for one in attempts] == [evaluated.span_id] * 2
    assert [one.status.code for one in attempts] == [2, 0]
    # The receiver is told the span of the very attempt.
    assert [request.headers["traceparent"].split("-")[1:3] for request in scene.receiver.requests] == [
        [one.trace_id.hex(), one.span_id.hex()] for one in attempts
    ]
    assert SECRET in scene.receiver.requests[1].headers["authorization"]
    assert SECRET.encode() not in sent
    assert scene.receiver.url.encode() not in sent
    lines = [json.loads(line) for line in log.read_text().splitlines() if "delivery.attempted" in line]
    assert [line["trace_id"] for line in lines] == [PRODUCER.split("-")[1]] * 2


def test_nothing_of_it_is_there_when_it_is_off(scene: Scene) -> None:
    scene.automation(scene.webhook())
    _publish(scene.settings, alias_event())
    scene.evaluate()
    scene.deliver()
    (request,), (row,) = scene.receiver.requests, scene.rows()
    assert "traceparent" not in request.headers
    assert row.traceparent is None
    assert scene.process.tracing is None


def test_contexts_are_read_and_written_as_the_standard_says() -> None:
    context = read_traceparent(PRODUCER)
    assert context is not None
    assert context.header == PRODUCER
    assert child_context(context).trace_id == context.trace_id
    unsampled = read_traceparent(PRODUCER[:-1] + "0")
    assert unsampled is not None
    assert child_context(unsampled).header.endswith("-00")
    for wrong in (None, 3, "", PRODUCER.upper(), "00-" + "0" * 32 + PRODUCER[35:], PRODUCER + "-x", PRODUCER[:-1]):
        assert read_traceparent(wrong) is None
    assert producer_context(b'{"a": NaN, "traceparent": "' + PRODUCER.encode() + b'"}') == context
    assert producer_context(b'{"traceparent": "x", "traceparent": "' + PRODUCER.encode() + b'"}') == context
    assert [producer_context(body) for body in (b"", b"{", b"[]", b'{"traceparent": 1}')] == [None] * 4
    first = attempt_context(PRODUCER, "dlv_1", 1, 7)
    assert first == attempt_context(PRODUCER, "dlv_1", 1, 7)
    assert len({first, attempt_context(PRODUCER, "dlv_1", 2, 7), attempt_context(PRODUCER, "dlv_1", 1, 8)}) == 3
    assert isinstance(attempt_context(None, "dlv_1", 1, 7), TraceContext)
