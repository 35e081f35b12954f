"""Deliveries and their attempts, as clients see them."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from dispatcher.control.bodies import View
from dispatcher.control.exchange_views import ConnectionView, HeaderView, TimingsView
from shared.domain.delivery.exchange import shown_exchange
from shared.domain.delivery.waiting import WaitReason
from shared.domain.ids import IdKind, encode_id
from shared.storage.definitions.webhook_fields import ID_KINDS, WebhookKind
from shared.storage.delivery import history as store
from shared.storage.delivery.history import (
    DeliveryStatus,
    StoredAttempt,
    StoredDelivery,
)


class Named(View):
    """Something that the delivery refers to; it may have been deleted."""

    id: str
    name: str


class EventView(View):
    """The event that a delivery is about."""

    id: str
    source: str
    type: str
    received_at: datetime
    project: str | None
    """Null for a notice, and as `run` and `collection` for a delivery from before Hookline kept them."""
    run: str | None
    """The run's id; null for events that are about none."""
    collection: str | None
    """The collection's name; null for events that are about none."""


class Waiting(View):
    """What a pending delivery waits for."""

    reason: WaitReason
    until: datetime | None
    """When it ends by itself; null if that is not known, as with a paused webhook."""


class DeliveryView(View):
    """A delivery."""

    id: str
    status: DeliveryStatus
    reason: str | None
    automation: Named | None
    webhook: Named | None
    event: EventView
    attempts: int
    next_attempt_at: datetime | None
    """When the next attempt is due; null when there is none, or it is underway."""
    created_at: datetime
    finished_at: datetime | None
    replay_of: str | None
    waiting: Waiting | None
    """Why a pending delivery was not sent yet; null for others."""


class AttemptRequest(View):
    """A request as it was sent, without its body."""

    url: str
    """A URL that is a secret is shown as `***NAME***`."""
    headers: dict[str, str]
    """With `***NAME***` in place of secrets, and without signatures."""
    bytes: int
    """Head and body as they were sent; 0 if there was no connection to send them over."""


class AttemptView(View):
    """One request of a delivery."""

    number: int
    started_at: datetime
    duration_ms: int
    outcome: str
    status_code: int | None
    error: str | None
    response_body: str | None
    """What the endpoint answered; null, as `error` is, for members of an entity whose `answers_hidden` is true."""
    response_truncated: bool
    request: AttemptRequest | None
    """Null, as `connection` and `timings` are, where no request could be made, and where it was not kept: of most
    successes over a connection that served others, and in attempts of older versions."""
    response_headers: list[HeaderView] | None
    """The first 2 KiB of them, in the order in which they came, without cookies. Null where they are not kept or, as
    `error`, hidden."""
    response_headers_truncated: bool
    response_bytes: int | None
    """What was read of the answer, head and body."""
    connection: ConnectionView | None
    timings: TimingsView | None


class DeliveryDetail(DeliveryView):
    """A delivery with its payload and attempts."""

    replays: list[str]
    """The deliveries that replayed this one, oldest first."""
    payload: Any
    """What is sent, with `***NAME***` in place of each secret: the value of JSON, else the text; null when there is
    none."""
    content_type: str | None
    """The body's content type; null when there is none."""
    attempt_log: list[AttemptView]


def delivery_view(stored: StoredDelivery) -> DeliveryView:
    """A delivery as lists show it."""
    return DeliveryView(**members(stored))


def members(stored: StoredDelivery) -> dict[str, Any]:
    """The members of a `DeliveryView`, for views that have more."""
    return {
        "id": stored.id,
        "status": stored.status,
        "reason": stored.reason,
        "automation": _named(IdKind.AUTOMATION, stored.automation_id, stored.automation_name),
        "webhook": _named(_webhook_kind(stored), stored.webhook_id, stored.webhook_name),
        "event": EventView(
            id=stored.event_id,
            source=stored.event_source,
            type=stored.event_type,
            project=stored.event_project,
            run=stored.event_run,
            collection=stored.event_collection,
            received_at=stored.event_received_at,
        ),
        "attempts": stored.attempts,
        "next_attempt_at": stored.next_attempt_at,
        "created_at": stored.created_at,
        "finished_at": stored.finished_at,
        "replay_of": stored.replay_of,
        "waiting": _waiting(stored, datetime.now(UTC)),
    }


def _waiting(stored: StoredDelivery, now: datetime) -> Waiting | None:
    wait = store.wait_for(stored, now)
    return None if wait is None else Waiting(reason=wait.reason, until=wait.until)


def _webhook_kind(stored: StoredDelivery) -> IdKind:
    return IdKind.WEBHOOK if stored.webhook_kind is None else ID_KINDS[WebhookKind(stored.webhook_kind)]


def _named(kind: IdKind, number: int | None, name: str | None) -> Named | None:
    return None if number is None else Named(id=encode_id(kind, number), name=name or "")


def attempt_view(stored: StoredAttempt, *, hidden: bool) -> AttemptView:
    """An attempt; with `hidden`, without what the endpoint answered."""
    return AttemptView(
        number=stored.number,
        started_at=stored.started_at,
        duration_ms=stored.duration_ms,
        outcome=stored.outcome,
        status_code=stored.status_code,
        error=None if hidden else stored.error,
        response_body=None if hidden else stored.response_body,
        response_truncated=stored.response_truncated,
        **shown_exchange(stored.request_url, stored.exchange, hidden=hidden),
    )
