"""OpenTelemetry behind `shared.observability.tracing`: spans over OTLP/HTTP, set by the usual OTEL_* variables."""

from __future__ import annotations

import threading
from collections.abc import Mapping

from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import SERVICE_NAME, OTELResourceDetector, Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.trace.id_generator import IdGenerator
from opentelemetry.trace import (
    NonRecordingSpan,
    SpanContext,
    SpanKind,
    Status,
    StatusCode,
    TraceFlags,
    set_span_in_context,
)

from shared.observability.trace_context import TraceContext
from shared.version import __version__

_KINDS = {"producer": SpanKind.PRODUCER, "consumer": SpanKind.CONSUMER, "client": SpanKind.CLIENT}


class _GivenIds(IdGenerator):
    """Gives the next span of a thread the ids that were chosen for it. Each thread has its own."""

    def __init__(self) -> None:
        self._local = threading.local()

    def give(self, own: TraceContext) -> None:
        self._local.own = own

    def generate_span_id(self) -> int:
        return int(self._local.own.span_id)

    def generate_trace_id(self) -> int:
        return int(self._local.own.trace_id)


class OtlpTracing:
    """Sends spans in batches, from a thread of its own. Spans that the collector can't take in time are dropped."""

    def __init__(self, service: str) -> None:
        # OTEL_SERVICE_NAME and OTEL_RESOURCE_ATTRIBUTES win.
        resource = Resource.create({SERVICE_NAME: service}).merge(OTELResourceDetector().detect())
        self._ids = _GivenIds()
        self._provider = TracerProvider(resource=resource, id_generator=self._ids)
        self._provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
        self._tracer = self._provider.get_tracer("hookline", __version__)

    def span(
        self,
        name: str,
        own: TraceContext,
        parent: TraceContext | None,
        *,
        kind: str,
        began_ns: int,
        ended_ns: int,
        attributes: Mapping[str, str | int],
        failed: bool = False,
    ) -> None:
        """Record a span that has ended."""
        self._ids.give(own)
        context = None
        if parent is not None:
            flags = TraceFlags(TraceFlags.SAMPLED if parent.sampled else TraceFlags.DEFAULT)
            above = SpanContext(parent.trace_id, parent.span_id, is_remote=True, trace_flags=flags)
            context = set_span_in_context(NonRecordingSpan(above))
        span = self._tracer.start_span(
            name, context=context, kind=_KINDS[kind], attributes=dict(attributes), start_time=began_ns
        )
        if failed:
            span.set_status(Status(StatusCode.ERROR))
        span.end(end_time=max(began_ns, ended_ns))

    def close(self) -> None:
        """Send the spans that are left, and stop."""
        self._provider.shutdown()
