"""Dry runs over stored automations and events, for the REST operation and the operators' command alike.

Reads the database and the streams and writes to neither. It knows the names of secrets only.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from redis import Redis
from sqlalchemy import Connection

from shared.domain.automations.model import Automation, Grants
from shared.domain.automations.parsing import parse_automation
from shared.domain.events.models import Event
from shared.domain.explain.dry_run import DryRunResult, PageWanted, Summary, dry_run
from shared.domain.explain.simulator import Arrival, Simulator, Subject, WebhookState
from shared.domain.matching.compiled import compile_automation, firing_id
from shared.domain.matching.firing_rules import state_keys
from shared.domain.matching.index import organizations_above
from shared.dry_runs.event_history import EventHistoryReader
from shared.dry_runs.time_range import EPOCH_START, TimeRange, moment, unix_ms
from shared.storage.definitions.automations import StoredAutomation
from shared.storage.definitions.entities import StoredEntity, organization_links
from shared.storage.definitions.webhooks import StoredWebhook, find_webhooks
from shared.storage.evaluation.new_deliveries import find_existing
from shared.storage.evaluation.window_snapshots import read_states

_DRAFT_ID: Final = 0
"""The id of a draft while it is tried: no row has it."""


@dataclass(frozen=True, slots=True)
class DryRunAnswer:
    """The results of a dry run."""

    summary: Summary
    results: tuple[DryRunResult, ...]
    next: int | None
    """How many results to skip for the next page; None when this is the last."""
    since: datetime | None = None
    """The time range that was read; None when the events were given."""
    until: datetime | None = None
    truncated: bool = False
    """Whether reading stopped before the end of the range."""
    read_until: datetime | None = None
    """When the stream received the last entry that was read: where to go on when `truncated`."""


def saved_subject(connection: Connection, stored: StoredAutomation) -> Subject:
    """A saved automation as evaluation compiles it.

    Raises:
        InvalidDefinition: when this version can't read it, which evaluation passes over.
    """
    webhook = _webhook_of(connection, stored)
    grants = Grants() if webhook is None else _grants(webhook)
    automation = parse_automation(stored.definition, lambda _name: grants, lambda _name: True)
    compiled = compile_automation(
        automation,
        automation_id=stored.id,
        entity_id=stored.entity_id,
        entity=stored.entity,
        epoch=stored.epoch,
        webhook_id=stored.webhook_id,
    )
    state = None if webhook is None else _state(webhook)
    if state is None and stored.webhook_id is not None:
        state = WebhookState(stored.webhook_name or "", enabled=False, disabled_reason="it was deleted")
    return Subject(compiled, state, _organizations(connection))


def draft_subject(
    connection: Connection, entity: StoredEntity, automation: Automation, webhook: StoredWebhook | None
) -> Subject:
    """A checked definition that is not saved. Without an id yet, its deliveries have other ids than they will have."""
    compiled = compile_automation(
        automation,
        automation_id=_DRAFT_ID,
        entity_id=entity.id,
        entity=entity.name,
        epoch=0,
        webhook_id=None if webhook is None else webhook.id,
    )
    return Subject(compiled, None if webhook is None else _state(webhook), _organizations(connection))


def stored_simulator(connection: Connection, subject: Subject, events: Sequence[Event]) -> Simulator:
    """A simulator that starts from the stored windows and firing times, as if these events were published now."""
    compiled = subject.compiled
    keys = {key for event in events for key in state_keys(compiled, event)}
    return Simulator(
        subject,
        kept=read_states(connection, compiled.id, compiled.epoch, keys),
        delivered=find_existing(connection, [firing_id(compiled.id, event) for event in events]),
    )


def arrivals_of(events: Iterable[Event], now: datetime, *, as_of_now: bool) -> list[Arrival]:
    """The events as if the stream received each at its own `time`, or now, if it has none or `as_of_now` is set."""
    return [
        Arrival(event, unix_ms(now if as_of_now or event.time is None else max(event.time, EPOCH_START)))
        for event in events
    ]


def dry_run_events(simulator: Simulator, arrivals: Iterable[Arrival], page: PageWanted) -> DryRunAnswer:
    """The answer for events that were given."""
    run = dry_run(simulator, arrivals, page)
    return DryRunAnswer(run.summary, run.results, run.next)


def dry_run_range(
    subject: Subject, redis: Redis, partitions: int, time_range: TimeRange, page: PageWanted
) -> DryRunAnswer:
    """The answer for a time range of the streams: the events of the automation's entity and of the teams inside it.

    It starts without state, so metric windows fill and cooldowns begin within the range.

    Raises:
        redis.exceptions.RedisError: when the streams can't be read.
    """
    reading = EventHistoryReader(redis, partitions, time_range, _inside(subject))
    run = dry_run(Simulator(subject), reading.arrivals(), page)
    return DryRunAnswer(
        run.summary,
        run.results,
        run.next,
        since=moment(time_range.since_ms),
        until=moment(time_range.until_ms),
        truncated=reading.truncated,
        read_until=None if reading.read_until_ms is None else moment(reading.read_until_ms),
    )


def _inside(subject: Subject) -> set[str]:
    entity = subject.compiled.entity
    return {entity} | {name for name, above in subject.organizations.items() if entity in above}


def _organizations(connection: Connection) -> dict[str, tuple[str, ...]]:
    return organizations_above({link.name: link.parent for link in organization_links(connection)})


def _webhook_of(connection: Connection, stored: StoredAutomation) -> StoredWebhook | None:
    if stored.webhook_id is None or stored.webhook_entity_id is None:
        return None
    found = find_webhooks(connection, [stored.webhook_entity_id], webhook_id=stored.webhook_id, kind=None)
    return found[0] if found else None


def _grants(webhook: StoredWebhook) -> Grants:
    return Grants(frozenset(webhook.fields.secrets), webhook.fields.access_token is not None)


def _state(webhook: StoredWebhook) -> WebhookState:
    fields = webhook.fields
    return WebhookState(fields.name, fields.enabled, fields.paused, webhook.disabled_reason)
