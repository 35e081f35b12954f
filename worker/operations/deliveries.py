"""What `celery -A worker deliveries …` does to the storage: list, show, and put into the queue again.

Functions on an open engine, that know nothing of click. Must not send anything: the pump wakes the drains within a
second. Payloads are shown with their secrets masked.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection, Engine

from shared.domain.delivery.exchange import shown_exchange
from shared.domain.durations import format_duration, parse_rate
from shared.domain.errors import InvalidDefinition
from shared.domain.events.types import EventType
from shared.domain.ids import IdKind, decode_id, encode_id
from shared.domain.payloads.sealed import content_type_of, shown_payload
from shared.dry_runs.time_range import parse_moment
from shared.storage.database.clock import database_time
from shared.storage.database.transactions import read_transaction, write_transaction
from shared.storage.definitions.webhook_fields import ID_KINDS, public_id
from shared.storage.delivery import history as store
from shared.storage.delivery import replay
from shared.storage.delivery.history import DeliveryFilter, DeliveryStatus, StoredAttempt, StoredDelivery
from worker.operations.audit import Row, record_change
from worker.operations.lookup import resolve_automation, resolve_entity, resolve_webhook

MAX_REPLAYED = 100_000
"""A plan holds this many at most. An operator who means more replays several time ranges, and sees what each does."""
AT_ONCE = 5_000
"""Replays are written in transactions of this many, so that workers can write in between. On SQLite, with its one
writer, a transaction of twice as many holds up all of them for twice as long."""

Filters = Mapping[str, Any]
"""The options of `_filters` in `worker.commands.deliveries`, by their names; None and () stand for any."""


@dataclass(frozen=True, slots=True)
class Plan:
    """Deliveries to replay, and the ids of the new ones once it is done."""

    seqs: tuple[int, ...] = field(repr=False)
    rate: str | None
    interval: timedelta
    """Between two of them; the first is due at once."""
    entity_id: int | None
    action: str
    target: str
    detail: dict[str, Any]
    replays: tuple[str, ...] = ()

    @property
    def count(self) -> int:
        """How many deliveries."""
        return len(self.seqs)

    def text(self) -> str:
        """In words."""
        if not self.count:
            return "nothing to replay"
        what = "1 delivery" if self.count == 1 else f"{self.count} deliveries"
        pace = "" if self.rate is None else f" at {self.rate}, over {format_duration(self.interval * (self.count - 1))}"
        if not self.replays:
            return f"{what} would be replayed{pace}"
        return f"{what} replayed{pace}" + (f": {self.replays[0]}" if self.count == 1 else "")

    def to_json(self) -> Row:
        """For programs."""
        return {"count": self.count, "rate": self.rate, "replays": list(self.replays)}


def list_deliveries(engine: Engine, filters: Filters, limit: int) -> list[Row]:
    """List the deliveries that match, newest first. Raises InvalidDefinition for filters that name nothing."""
    with read_transaction(engine) as connection:
        owner, wanted = _wanted(connection, filters)
        now = database_time(connection)
        return [_row(one, now) for one in store.list_deliveries(connection, owner, wanted, before=None, limit=limit)]


def describe_delivery(engine: Engine, delivery: str) -> Row | None:
    """Describe one delivery with payload and attempts; None when there is none of this id."""
    with read_transaction(engine) as connection:
        stored = store.find_delivery(connection, None, delivery)
        if stored is None:
            return None
        sealed = store.sealed_payload(connection, stored.seq)
        return {
            **_row(stored, database_time(connection)),
            "replays": replay.list_replays(connection, stored.entity_id, stored.id),
            "payload": None if sealed is None else shown_payload(sealed),
            "content_type": None if sealed is None else content_type_of(sealed),
            "attempt_log": [_attempt_row(attempt) for attempt in store.list_attempts(connection, stored.seq)],
        }


def _attempt_row(attempt: StoredAttempt) -> Row:
    row = asdict(attempt)
    del row["request_url"], row["exchange"]
    return {**row, **shown_exchange(attempt.request_url, attempt.exchange)}


def find_replayable(engine: Engine, delivery: str) -> Plan:
    """Plan the replay of one delivery. Raises InvalidDefinition when it can't be replayed."""
    with read_transaction(engine) as connection:
        stored = store.find_delivery(connection, None, delivery)
        if stored is None:
            raise InvalidDefinition.at(("delivery",), f"there is no delivery {delivery!r}")
        if not replay.is_replayable(connection, stored.seq):
            why = "it is pending, it has no payload, or its webhook was deleted"
            raise InvalidDefinition.at(("delivery",), f"{delivery} can't be replayed: {why}")
        return Plan((stored.seq,), None, timedelta(), stored.entity_id, "delivery.replay", stored.id, {"name": ""})


def list_to_replay(engine: Engine, filters: Filters, rate: str | None, *, again: bool) -> Plan:
    """Plan the replay of all that match. Raises InvalidDefinition for filters or a rate that can't be understood."""
    interval = timedelta()
    if rate is not None:
        try:
            parsed = parse_rate(rate)
        except InvalidDefinition as exc:
            raise exc.under("rate") from None
        interval = parsed.period / parsed.count
    with read_transaction(engine) as connection:
        owner, wanted = _wanted(connection, filters)
        seqs = replay.list_replayable(connection, owner, wanted, limit=MAX_REPLAYED + 1, unreplayed=not again)
    if len(seqs) > MAX_REPLAYED:
        message = f"more than {MAX_REPLAYED} deliveries match: narrow it with --since and --until"
        raise InvalidDefinition.at((), message)
    criteria = {member: value for member, value in filters.items() if value not in (None, ())}
    detail = {"name": "", "count": len(seqs), "criteria": {**criteria, **({"rate": rate} if rate else {})}}
    target = criteria.get("entity", "all entities")
    return Plan(tuple(seqs), rate, interval, owner, "delivery.replay_matching", target, detail)


def replay_deliveries(engine: Engine, plan: Plan) -> Plan:
    """Carry a plan out, and write it to the audit log. Stopped halfway, the replays that were written stay."""
    with read_transaction(engine) as connection:
        begun, made = database_time(connection), list[str]()
    for start in range(0, plan.count, AT_ONCE):
        with write_transaction(engine) as connection:
            if start == 0:
                record_change(
                    connection,
                    plan.action,
                    entity_id=plan.entity_id,
                    target=plan.target,
                    detail=plan.detail,
                    now=begun,
                )
            first_due_at = begun + plan.interval * start
            chunk = plan.seqs[start : start + AT_ONCE]
            made += replay.replay(connection, chunk, first_due_at, interval=plan.interval)
    return replace(plan, replays=tuple(made))


def _wanted(connection: Connection, filters: Filters) -> tuple[int | None, DeliveryFilter]:
    now, entity = database_time(connection), filters["entity"]
    owner = None if entity is None else resolve_entity(connection, entity).id
    since, until = filters["since"], filters["until"]
    wanted = DeliveryFilter(
        statuses=tuple(map(DeliveryStatus, dict.fromkeys(filters["status"]))),
        automation_id=_automation_id(connection, filters["automation"], entity),
        webhook_id=_webhook_id(connection, filters["webhook"], entity, now),
        event_id=filters["event"],
        since=None if since is None else parse_moment("since", since, now),
        until=None if until is None else parse_moment("until", until, now),
        event_types=tuple(map(_event_type, dict.fromkeys(filters["event_type"]))),
        project=filters["project"],
        run=filters["run"],
        collection=filters["collection"],
        response_codes=filters["response_code"],
        min_attempts=filters["min_attempts"],
        max_attempts=filters["max_attempts"],
        reason=filters["reason"],
    )
    return owner, wanted


def _event_type(text: str) -> str:
    if text not in set(EventType):
        raise InvalidDefinition.at(("event_type",), f"must be one of {', '.join(EventType)}")
    return text


def _automation_id(connection: Connection, text: str | None, entity: str | None) -> int | None:
    """The automation meant; an id may be that of a deleted one, unless an automation has it as its name."""
    if text is None:
        return None
    number = decode_id(IdKind.AUTOMATION, text)
    try:
        return resolve_automation(connection, text, entity).id
    except InvalidDefinition:
        if number is None:
            raise
        return number


def _webhook_id(connection: Connection, text: str | None, entity: str | None, now: datetime) -> int | None:
    """The webhook meant; an id may be that of a deleted one."""
    if text is None:
        return None
    number = next((n for kind in ID_KINDS.values() if (n := decode_id(kind, text)) is not None), None)
    return resolve_webhook(connection, text, entity, now).id if number is None else number


def _row(stored: StoredDelivery, now: datetime) -> Row:
    automation_id, webhook_id = stored.automation_id, stored.webhook_id
    wait = store.wait_for(stored, now)
    return {
        "id": stored.id,
        "entity": stored.entity,
        "status": str(stored.status),
        "reason": stored.reason,
        "automation": stored.automation_name,
        "automation_id": None if automation_id is None else encode_id(IdKind.AUTOMATION, automation_id),
        "webhook": stored.webhook_name,
        "webhook_id": None if webhook_id is None else public_id(stored.webhook_kind or "webhook", webhook_id),
        "event_id": stored.event_id,
        "event_source": stored.event_source,
        "event_type": stored.event_type,
        "project": stored.event_project,
        "run": stored.event_run,
        "collection": stored.event_collection,
        "event_received_at": stored.event_received_at,
        "attempts": stored.attempts,
        "next_attempt_at": stored.next_attempt_at,
        "created_at": stored.created_at,
        "finished_at": stored.finished_at,
        "replay_of": stored.replay_of,
        "waiting": None if wait is None else {"reason": str(wait.reason), "until": wait.until},
    }
