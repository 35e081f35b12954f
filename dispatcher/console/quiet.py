"""What an API process remembers for a moment, so that many open pages that ask for news cost next to nothing.

Remembered are visitors who may look at an entity, and the number of an entity's newest delivery. Both only ever answer
that nothing is new: whatever is told is looked up with the rights of that moment.
"""

from __future__ import annotations

import time

VISITOR_SECONDS = 10.0
"""As long a visitor whose role was taken away may still be told that nothing is new."""
NEWEST_SECONDS = 2.0
MAX_REMEMBERED = 10_000
"""At which all is forgotten: it is then looked up again, once each."""


class QuietEntities:
    """Any thread may call it: each step on a dictionary is atomic, and what two of them store is equally true."""

    def __init__(self) -> None:
        self._visitors: dict[tuple[str, str], float] = {}
        self._newest: dict[str, tuple[float, int]] = {}

    def remember(self, token: str, entity: str, newest: int) -> None:
        """Remember that the session of this token may look at the entity, and the number of its newest delivery."""
        now = time.monotonic()
        for kept in (self._visitors, self._newest):
            if len(kept) >= MAX_REMEMBERED:
                kept.clear()
        self._visitors[token, entity] = now + VISITOR_SECONDS
        self._newest[entity] = now + NEWEST_SECONDS, newest

    def is_quiet(self, token: str, entity: str, known: int) -> bool:
        """Whether it is certain, without looking, that nothing is newer than `known`."""
        now, (until, newest) = time.monotonic(), self._newest.get(entity, (0.0, 0))
        return now < until and newest <= known and now < self._visitors.get((token, entity), 0.0)
