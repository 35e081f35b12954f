"""How large events and batches of them may be."""

from __future__ import annotations

MAX_EVENT_BYTES = 1 << 20
"""Of one event's JSON. Evaluation reads some MiB of events at a time, and may exceed that by one event."""
MAX_BATCH_EVENTS = 1000
MAX_BATCH_BYTES = 8 << 20
"""Of one request. The API holds a batch in memory as it came, checked, and as it is stored."""
