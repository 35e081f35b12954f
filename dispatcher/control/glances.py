"""An entity at a glance: how much it has, which webhooks need a look, and what was not delivered in the last day."""

from __future__ import annotations

from datetime import datetime, timedelta

from sqlalchemy import Connection

from dispatcher.control.access import Action, require
from dispatcher.control.bodies import View
from dispatcher.control.circuits import CircuitView, circuit_view
from shared.storage.accounts.users import Principal
from shared.storage.database.clock import database_time
from shared.storage.definitions import glances as store
from shared.storage.definitions.glances import Glance
from shared.storage.definitions.webhook_fields import WebhookKind, public_id

LATELY = timedelta(hours=24)


class TroubledWebhookView(View):
    """A webhook or Slack integration that needs a look."""

    id: str
    kind: WebhookKind
    name: str
    enabled: bool
    paused: bool
    disabled_reason: str | None
    failing_since: datetime | None
    circuit: CircuitView


def take_glance(
    connection: Connection, principal: Principal, entity_name: str, *, webhooks: int
) -> tuple[Glance, list[TroubledWebhookView]]:
    """The entity's numbers, and the first so many webhooks in trouble."""
    entity = require(connection, principal, entity_name, Action.READ)
    glance = store.take_glance(connection, entity.id, since=database_time(connection) - LATELY)
    found = store.troubled_webhooks(connection, entity.id, limit=webhooks) if glance.webhooks_in_trouble else []
    return glance, [
        TroubledWebhookView(
            id=public_id(one.kind, one.id),
            kind=WebhookKind(one.kind),
            name=one.name,
            enabled=one.enabled,
            paused=one.paused,
            disabled_reason=one.disabled_reason,
            failing_since=one.failing_since,
            circuit=circuit_view(connection, one.circuit),
        )
        for one in found
    ]
