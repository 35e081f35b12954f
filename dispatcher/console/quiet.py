"""What an API process remembers for a moment, so that many open pages that ask for news cost next to nothing.

Remembered are visitors who may look at an entity, the number of its newest delivery, and the alerts that were told.
They only ever answer that nothing is new: whatever is told is looked up with the rights of that moment.
"""

from __future__ import annotations

from dispatcher.api.caller_cache import REMEMBERED_SECONDS
from dispatcher.api.remembered import Remembered

VISITOR_SECONDS = REMEMBERED_SECONDS
"""As long a visitor whose role or key was taken away may still be told that nothing is new: as long as REST answers."""
NEWEST_SECONDS = 2.0


class QuietEntities:
    """Any thread may call it."""

    def __init__(self) -> None:
        self._visitors = Remembered[tuple[str, str], int](VISITOR_SECONDS)
        self._newest = Remembered[str, int](NEWEST_SECONDS)
        self._alerts = Remembered[tuple[str, str, str], str](VISITOR_SECONDS)

    def admit(self, token: str, entity: str, entity_id: int) -> None:
        """Remember that the session of this token may look at the entity."""
        self._visitors.put((token, entity), entity_id)

    def admitted(self, token: str, entity: str) -> int | None:
        """The number of the entity, if it is known that the session of this token may look at it."""
        return self._visitors.get((token, entity))

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
        return self._alerts.get((token, entity, hidden)) == seen
