"""Replays of many deliveries, as a whole: how far one has come, and stopping it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import Connection

from dispatcher.control.access import Action, require
from dispatcher.control.audit import record_change
from dispatcher.control.bodies import View
from dispatcher.control.errors import NotFound
from shared.domain.ids import MAX_ROW_NUMBER
from shared.storage.accounts.users import Principal
from shared.storage.database.clock import database_time
from shared.storage.definitions.entities import StoredEntity
from shared.storage.delivery import replays as store
from shared.storage.delivery.delivery_filter import DeliveryStatus
from shared.storage.delivery.replays import StoredReplay

_ID = re.compile(r"rpl_([1-9][0-9]{0,18})_([1-9][0-9]{0,18})", re.ASCII)


class ReplayView(View):
    """How far a replay has come."""

    id: str
    total: int
    """Deliveries that it made and that are kept still."""
    pending: int
    delivered: int
    dead: int
    refused: int
    skipped: int
    """Those that waited when it was stopped."""
    created_at: datetime
    last_due_at: datetime | None
    """When the last that waits is due; null when none waits."""


def replay_id(connection: Connection, ids: Sequence[str]) -> str | None:
    """The id of the replay that made these deliveries; None of none."""
    numbers = store.delivery_numbers(connection, [ids[0], ids[-1]]) if ids else []
    return f"rpl_{numbers[0]}_{numbers[-1]}" if numbers else None


def get(connection: Connection, principal: Principal, entity_name: str, text: str) -> ReplayView:
    """How far a replay has come. Raises NotFound."""
    entity = require(connection, principal, entity_name, Action.READ)
    return _view(connection, text, _load(connection, entity, text))


def stop(connection: Connection, principal: Principal, entity_name: str, text: str) -> ReplayView:
    """Hold back what waits of a replay. Requests that are underway go on. Raises NotFound."""
    entity = require(connection, principal, entity_name, Action.ADMINISTER)
    stored = _load(connection, entity, text)
    reason = f"its replay was stopped by {principal.user_name}"
    count = store.stop_replay(connection, stored, reason=reason, now=database_time(connection))
    if count:
        record_change(
            connection, principal, "delivery.stop_replay", entity=entity, target_id=text, name="", count=count
        )
    return _view(connection, text, stored)


def _load(connection: Connection, entity: StoredEntity, text: str) -> StoredReplay:
    match = _ID.fullmatch(text)
    numbers = [] if match is None else [int(part) for part in match.groups()]
    fits = bool(numbers) and max(numbers) <= MAX_ROW_NUMBER
    stored = store.find_replay(connection, entity.id, *numbers) if fits else None
    if stored is None:
        raise NotFound(f"{entity.name!r} has no replay {text!r}, or its first or last delivery is not kept any more")
    return stored


def _view(connection: Connection, text: str, stored: StoredReplay) -> ReplayView:
    progress = store.read_progress(connection, stored)
    counts = {str(status): progress.statuses.get(status.value, 0) for status in DeliveryStatus}
    return ReplayView(
        id=text,
        total=sum(counts.values()),
        created_at=stored.created_at,
        last_due_at=progress.last_due_at,
        **counts,
    )
