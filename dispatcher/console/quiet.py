"""What an API process remembers for a moment, so that many open pages that ask for news cost next to nothing.

Remembered are visitors who may look at an entity, the number of its newest delivery, and the alerts that were told.
They only ever answer that nothing is new: whatever is told is looked up with the rights of that moment.
"""

from __future__ import annotations

import time
from collections.abc import Hashable
from typing import Any

VISITOR_SECONDS = 30.0
"""As long a visitor whose role was taken away may still be told that nothing is new."""
NEWEST_SECONDS = 2.0
ALERTS_SECONDS = 10.0
MAX_REMEMBERED = 10_000
"""At which all is forgotten: it is then looked up again, once each."""


class _Remembered:
    """Values that count for a while. Each step on its dictionary is atomic, and what two threads store equally true."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._values: dict[Hashable, tuple[float, Any]] = {}

    def get(self, key: Hashable) -> Any:
        """The value of a key; None when it is not known, or not any more."""
        until, value = self._values.get(key, (0.0, None))
        return value if time.monotonic() < until else None

    def put(self, key: Hashable, value: object) -> None:
        """Remember a value."""
        if len(self._values) >= MAX_REMEMBERED:
            self._values.clear()
        self._values[key] = time.monotonic() + self._seconds, value


class QuietEntities:
    """Any thread may call it."""

    def __init__(self) -> None:
        self._visitors = _Remembered(VISITOR_SECONDS)
        self._newest = _Remembered(NEWEST_SECONDS)
        self._alerts = _Remembered(ALERTS_SECONDS)

    def admit(self, token: str, entity: str, entity_id: int) -> None:
        """Remember that the session of this token may look at the entity."""
        self._visitors.put((token, entity), entity_id)

    def admitted(self, token: str, entity: str) -> int | None:
        """The number of the entity, if it is known that the session of this token may look at it."""
        known: int | None = self._visitors.get((token, entity))
        return known

    def remember_newest(self, entity: str, newest: int) -> None:
        """Remember the number of the entity's newest delivery."""
        self._newest.put(entity, newest)

    def remember_alerts(self, token: str, entity: str, hidden: str, version: str) -> None:
        """Remember the alerts that this session is shown, but for those that it took away."""
        self._alerts.put((token, entity, hidden), version)

    def has_no_news(self, token: str, entity: str, known: int) -> bool:
        """Whether it is certain, without looking, that no delivery is newer than `known`."""
        newest = self._newest.get(entity)
        return newest is not None and newest <= known and self.admitted(token, entity) is not None

    def has_no_alert(self, token: str, entity: str, hidden: str, seen: str) -> bool:
        """Whether it is certain, without looking, that the alerts are those that the page shows."""
        return bool(self._alerts.get((token, entity, hidden)) == seen)
