"""Trace contexts, as `traceparent` carries them (W3C Trace Context), and the door to OpenTelemetry.

Nothing here imports OpenTelemetry unless HOOKLINE_OTEL is on: it is an optional extra. A span is made after the fact,
when it has ended and its effects are committed, so its ids are chosen before. Must not put payloads, URLs or errors'
texts into spans.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from shared.config.setting_types import InvalidSetting
from shared.observability.trace_context import TraceContext
from shared.settings import Settings


class Tracing(Protocol):
    """The receiver of spans. Any thread may use it."""

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
        """Record a span that has ended; `kind` is `producer`, `consumer` or `client`, times are Unix nanoseconds."""

    def close(self) -> None:
        """Send the spans that are left, and stop."""


def open_tracing(settings: Settings, part: str) -> Tracing | None:
    """Tracing of a part of Hookline, `api` or `worker`; None when HOOKLINE_OTEL is off.

    Raises:
        InvalidSetting: when it is on and OpenTelemetry is not installed.
    """
    if not settings.otel:
        return None
    try:
        from shared.observability.otel import OtlpTracing
    except ImportError as exc:
        raise InvalidSetting("HOOKLINE_OTEL: needs OpenTelemetry: pip install 'hookline[otel]'") from exc
    return OtlpTracing(f"hookline-{part}")
