"""Keeps a fault that lasts from filling the log: a warning or error that says the same again is counted instead."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import structlog

if TYPE_CHECKING:
    from structlog.typing import EventDict

WINDOW_SECONDS = 10.0
"""How long a line is not written again."""
KEPT_LINES = 1000
"""How many different lines are remembered; the one that was written longest ago is forgotten first."""
_LIMITED = frozenset({"warning", "error", "critical"})
_OF_ONE_LINE = frozenset({"timestamp", "request_id", "client", "trace_id", "span_id", "duration_ms"})
"""Facts that differ from line to line though the fault is the same."""


@dataclass(slots=True)
class _Written:
    at: float
    left_out: int = 0


class RepeatedLines:
    """A processor of structlog: drops what it let through less than `window_seconds` ago.

    The next line that goes through says in `repeated` how many were left out since. Threads share it, by its lock.
    """

    def __init__(
        self,
        *,
        window_seconds: float = WINDOW_SECONDS,
        kept: int = KEPT_LINES,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._window_seconds = window_seconds
        self._kept = kept
        self._clock = clock
        self._lock = threading.Lock()
        self._written: OrderedDict[object, _Written] = OrderedDict()

    def __call__(self, _logger: Any, _method: str, event: EventDict) -> EventDict:
        """Raises structlog.DropEvent for a line that is left out."""
        if event.get("level") not in _LIMITED:
            return event
        key = tuple(sorted((name, repr(value)) for name, value in event.items() if name not in _OF_ONE_LINE))
        now = self._clock()
        with self._lock:
            known = self._written.get(key)
            if known is not None and now - known.at < self._window_seconds:
                known.left_out += 1
                raise structlog.DropEvent
            if known is not None and known.left_out:
                event["repeated"] = known.left_out
            self._written[key] = _Written(now)
            self._written.move_to_end(key)
            while len(self._written) > self._kept:
                self._written.popitem(last=False)
        return event
