"""Notices: events about Hookline's own work, for an entity's automations to watch as they watch any other event.

A notice's id follows from its content, so one that is appended twice fires once. Must not be made for deliveries of
notices, except when a webhook is disabled: a notice that causes another one would never end.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from shared.domain.delivery.circuits import CircuitState
from shared.domain.events.decoding import check_event
from shared.domain.events.own_sources import SYSTEM
from shared.domain.events.types import EventType
from shared.domain.events.values import MAX_NAME_LENGTH
from shared.domain.visible_text import shortened

AUTHOR = "hookline"

_UNFIT = re.compile(r"[\x00-\x1f\x7f]")


@dataclass(frozen=True, slots=True)
class About:
    """The webhook that a notice is about, with its public id, and the entity whose automations may watch it."""

    entity: str
    webhook_id: str
    webhook_name: str


@dataclass(frozen=True, slots=True)
class AboutAutomation:
    """The automation that a notice is about, with its public id, and its entity, whose automations may watch it."""

    entity: str
    automation_id: str
    automation_name: str


@dataclass(frozen=True, slots=True, kw_only=True)
class DeadLetter:
    """A delivery that came to a bad end."""

    id: str
    status: str
    attempts: int
    automation: str
    event_type: str
    event_source: str
    event_id: str


def webhook_disabled(about: About, *, reason: str, failing_since: datetime | None, now: datetime) -> dict[str, Any]:
    """The notice that Hookline disabled a webhook."""
    since = {} if failing_since is None else {"failing_since": _instant(failing_since)}
    return _notice(EventType.WEBHOOK_DISABLED, about, reason, f"{about.webhook_id}:{_instant(now)}", now, since)


def circuit_changed(about: About, *, state: CircuitState, reason: str, now: datetime) -> dict[str, Any]:
    """The notice that a webhook's circuit was opened, or closed again, just now."""
    opened = state is CircuitState.OPEN
    event_type = EventType.WEBHOOK_CIRCUIT_OPENED if opened else EventType.WEBHOOK_CIRCUIT_CLOSED
    return _notice(event_type, about, reason, f"{about.webhook_id}:{_instant(now)}", now, {})


def dead_letter(about: About, dead: DeadLetter, *, reason: str, now: datetime) -> dict[str, Any]:
    """The notice that a delivery became a dead letter."""
    delivery = {
        "id": dead.id,
        "status": dead.status,
        "attempts": dead.attempts,
        "automation": _label(dead.automation),
        "event_type": dead.event_type,
        "event_source": dead.event_source,
        "event_id": dead.event_id,
    }
    return _notice(EventType.DEAD_LETTER, about, reason, dead.id, now, {"delivery": delivery})


def automation_unmatched(about: AboutAutomation, *, reason: str, now: datetime) -> dict[str, Any]:
    """The notice that an automation could not be matched just now, and why."""
    own = {"automation": {"id": about.automation_id, "name": _label(about.automation_name)}}
    return _event(
        EventType.AUTOMATION_UNMATCHED, about.entity, reason, f"{about.automation_id}:{_instant(now)}", now, own
    )


def _notice(
    event_type: EventType, about: About, reason: str, about_what: str, now: datetime, own: dict[str, Any]
) -> dict[str, Any]:
    webhook = {"webhook": {"id": about.webhook_id, "name": _label(about.webhook_name)}}
    return _event(event_type, about.entity, reason, about_what, now, webhook | own)


def _event(
    event_type: EventType, entity: str, reason: str, about_what: str, now: datetime, own: dict[str, Any]
) -> dict[str, Any]:
    notice = {
        "specversion": "1.0",
        "id": f"{event_type}:{about_what}",
        "source": SYSTEM,
        "type": str(event_type),
        "time": _instant(now),
        "data": {"entity": entity, "author": AUTHOR, "reason": _label(reason), **own},
    }
    check_event(notice)
    return notice


def _label(text: str) -> str:
    """Text as a `Label` takes it: one line, and no longer than that."""
    return shortened(_UNFIT.sub(" ", text), MAX_NAME_LENGTH)


def _instant(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
