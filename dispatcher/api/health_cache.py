"""The health of the installation, looked at once for all who ask within two seconds."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from shared.health.snapshot import Health

KEPT_SECONDS = 2.0
"""However many ask, the database counts its backlog no more often."""


class HealthCache:
    """Any thread may call it. Of several that find it old one looks, and the others wait for that."""

    def __init__(self, look: Callable[[], Health]) -> None:
        self._look = look
        self._looking = threading.Lock()
        self._seen: tuple[float, Health] | None = None
        """When it was looked at last, by the monotonic clock, and what was found."""

    def current(self) -> Health:
        """The health, at most `KEPT_SECONDS` old."""
        with self._looking:
            if self._seen is None or time.monotonic() - self._seen[0] > KEPT_SECONDS:
                health = self._look()
                self._seen = time.monotonic(), health
            return self._seen[1]
