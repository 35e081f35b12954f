"""The health of a webhook: since when it only fails, and disabling it when that is too long."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import Connection, case, or_, update

from shared.storage.schema.tables import webhooks


def update_health(
    connection: Connection, webhook_id: int, *, succeeded: bool, failed: bool, disable_before: datetime, now: datetime
) -> str | None:
    """Store since when a webhook only fails, and disable it when that was before `disable_before`.

    After as long a time without any attempt the count starts anew.

    Returns:
        Why the webhook was disabled by this call; None when it was not.
    """
    mine = webhooks.c.id == webhook_id
    if succeeded:
        connection.execute(
            update(webhooks).where(mine, webhooks.c.failing_since.is_not(None)).values(failing_since=None)
        )
        return None
    if not failed:
        return None
    # Two failures a month apart, without an attempt in between, do not show that it failed all that time.
    anew = or_(webhooks.c.failing_since.is_(None), webhooks.c.failed_at < disable_before)
    since = connection.scalar(
        update(webhooks)
        .where(mine)
        .values(failing_since=case((anew, now), else_=webhooks.c.failing_since), failed_at=now)
        .returning(webhooks.c.failing_since)
    )
    if since is None or since > disable_before:
        return None
    reason = f"only failures since {since.isoformat(timespec='seconds')}"
    return reason if disable_webhook(connection, webhook_id, reason=reason, now=now) else None


def disable_webhook(connection: Connection, webhook_id: int, *, reason: str, now: datetime) -> bool:
    """Disable a webhook, until somebody enables it again; returns False when it was disabled already."""
    disabled = connection.execute(
        update(webhooks)
        .where(webhooks.c.id == webhook_id, webhooks.c.enabled)
        .values(enabled=False, disabled_reason=reason, updated_at=now)
    )
    return disabled.rowcount == 1
