"""Webhooks that evaluation has seen lately, so that most batches need not read them."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import islice

from shared.storage.delivery.webhook_snapshots import WebhookSnapshot

KNOWN_WEBHOOKS = 20_000
"""About a kilobyte each. Beyond, the half that was stored first is forgotten, and batches with one of those take a
transaction."""


class WebhookCache:
    """The webhooks that are enabled, as this process read them last.

    Threads of evaluations share it without a lock: single operations of a dict are atomic, snapshots are never changed,
    and `_rows` is replaced as a whole when it is full. One that is old does no harm: the commit finds it out.
    """

    def __init__(self) -> None:
        self._rows: dict[int, WebhookSnapshot] = {}

    def get(self, ids: set[int]) -> dict[int, WebhookSnapshot] | None:
        """These webhooks. None where one is unknown, or they are not of one revision: then they have to be read."""
        rows = self._rows  # once: `store` may replace it meanwhile
        found = {one: rows[one] for one in ids if one in rows}
        if len(found) < len(ids) or len({row.revision for row in found.values()}) > 1:
            return None
        return found

    def store(self, rows: Mapping[int, WebhookSnapshot]) -> None:
        """Keep these as they were just read, in a transaction that is committed."""
        known = self._rows
        if len(known) + len(rows) > KNOWN_WEBHOOKS:
            known = dict(islice(known.copy().items(), len(known) // 2, None))
        known.update(rows)
        self._rows = known
