"""The trace that an event belongs to, by the CloudEvents extension for distributed tracing.

OpenTelemetry is looked at only where the program has imported it already.
"""

from __future__ import annotations

import sys


def trace_members() -> dict[str, str]:
    """`traceparent` and `tracestate` of the current span; nothing without OpenTelemetry or outside of a span."""
    if "opentelemetry" not in sys.modules:
        return {}
    try:
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

        carrier: dict[str, str] = {}
        TraceContextTextMapPropagator().inject(carrier)
    except Exception:  # an event must not fail for a trace
        return {}
    return {name: carrier[name] for name in ("traceparent", "tracestate") if carrier.get(name)}
