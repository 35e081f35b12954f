"""Webhooks that evaluation has seen lately, so that most batches need not read them."""

from __future__ import annotations

from collections.abc import Mapping

from shared.storage.delivery.webhook_snapshots import WebhookSnapshot

KNOWN_WEBHOOKS = 10_000


class WebhookCache:
    """The webhooks that are enabled, as this process read them last. Threads may share it: what is old is found out."""

    def __init__(self) -> None:
        self._rows: dict[int, WebhookSnapshot] = {}

    def get(self, ids: set[int]) -> dict[int, WebhookSnapshot] | None:
        """All of these; None where one is unknown, or where they are not of one revision."""
        rows = self._rows
        found = {one: rows[one] for one in ids if one in rows}
        if len(found) < len(ids) or len({row.revision for row in found.values()}) > 1:
            return None
        return found

    def store(self, rows: Mapping[int, WebhookSnapshot]) -> None:
        """Know these as they were just read; when too many are known, the older ones are forgotten."""
        if len(self._rows) + len(rows) > KNOWN_WEBHOOKS:
            self._rows = {}
        self._rows.update(rows)
