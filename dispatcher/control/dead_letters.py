"""Dead letters of all entities by webhook, for instance administrators."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import Connection

from dispatcher.control.access import require_instance_admin
from dispatcher.control.bodies import View
from dispatcher.control.delivery_views import Named
from shared.storage.accounts.users import Principal
from shared.storage.definitions.webhook_fields import WebhookKind, public_id
from shared.storage.delivery import dead_letters as store
from shared.storage.delivery.dead_letters import DeadLetterCount

MAX_COUNTED = 10_000
"""Of each status the newest so many are counted: more would be a scan."""
MAX_WEBHOOKS = 200


class DeadLettersOfWebhook(View):
    """How many deliveries of a webhook failed for good."""

    entity: str
    webhook: Named
    """A webhook or Slack integration; its name is blank when it is deleted."""
    dead: int
    """Out of retries."""
    refused: int
    newest_at: datetime
    """When the newest of them was created."""


class DeadLetters(View):
    """The webhooks with most dead letters first."""

    items: list[DeadLettersOfWebhook]
    complete: bool
    """Whether all dead letters are counted; else the newest 10,000 of each status, or of the 200 first webhooks."""


def count_dead_letters(connection: Connection, principal: Principal) -> DeadLetters:
    """Count the dead letters that are kept, by webhook. For instance administrators."""
    require_instance_admin(principal)
    rows = store.count_dead_letters(connection, counted=MAX_COUNTED, limit=MAX_WEBHOOKS)
    most = max(sum(row.dead for row in rows), sum(row.refused for row in rows))
    return DeadLetters(items=[_view(row) for row in rows], complete=most < MAX_COUNTED and len(rows) < MAX_WEBHOOKS)


def _view(row: DeadLetterCount) -> DeadLettersOfWebhook:
    return DeadLettersOfWebhook(
        entity=row.entity,
        webhook=Named(
            id=public_id(row.webhook_kind or WebhookKind.WEBHOOK, row.webhook_id), name=row.webhook_name or ""
        ),
        dead=row.dead,
        refused=row.refused,
        newest_at=row.newest_at,
    )
