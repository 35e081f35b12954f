"""The first span of an event's trace, and its context in the event: the `traceparent` of CloudEvents' extension.

https://github.com/cloudevents/spec/blob/main/cloudevents/extensions/distributed-tracing.md
"""

from __future__ import annotations

import time
from collections.abc import Sequence

from shared.domain.events.fast_decoding import AnyEvent
from shared.domain.events.limits import MAX_EVENT_BYTES
from shared.observability.trace_context import TRACEPARENT, TraceContext, child_context, producer_context
from shared.observability.tracing import Tracing


class EventTraces:
    """The traces of one batch that is published."""

    def __init__(self, tracing: Tracing) -> None:
        self._tracing = tracing
        self._began_ns = time.time_ns()
        self._contexts: list[tuple[TraceContext, TraceContext | None]] = []

    def add_context(self, body: bytes) -> bytes:
        """Add the event's trace context to its JSON; a producer's own trace is continued.

        The rest stays the text that came. Of two members of one name the last counts. One too large stays as it is.
        """
        parent = producer_context(body)
        own = child_context(parent)
        self._contexts.append((own, parent))
        carrying = b'%s,"%s":"%s"}' % (body.rstrip()[:-1], TRACEPARENT.encode(), own.header.encode())
        return carrying if len(carrying) <= MAX_EVENT_BYTES else body

    def record(self, events: Sequence[AnyEvent]) -> None:
        """Record the spans, once the streams have the events."""
        ended_ns = time.time_ns()
        for event, (own, parent) in zip(events, self._contexts, strict=True):
            self._tracing.span(
                f"publish {event.type}",
                own,
                parent,
                kind="producer",
                began_ns=self._began_ns,
                ended_ns=ended_ns,
                attributes={
                    "cloudevents.event_id": event.id,
                    "cloudevents.event_source": event.source,
                    "cloudevents.event_type": str(event.type),
                },
            )
