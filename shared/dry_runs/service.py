"""Dry runs over stored automations and events, for the REST operation and the operators' command alike.

Reads the database and the streams and writes to neither. It knows the names of secrets only.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Final, Literal, Protocol

from redis import Redis
from sqlalchemy import Connection, Engine

from shared.domain.automations.model import Automation, Grants
from shared.domain.automations.parsing import parse_automation
from shared.domain.conditions.run_starts import KnownStarts
from shared.domain.events.models import Event
from shared.domain.events.partitioning import subject_key
from shared.domain.events.types import RUN_TYPES
from shared.domain.explain.dry_run import DryRunResult, PageWanted, Summary, dry_run, past_run
from shared.domain.explain.past import PastResult, PastSimulator, Timeline, Witness
from shared.domain.explain.simulator import Arrival, Reason, Recorded, Simulator, Subject, WebhookState
from shared.domain.matching.compiled import compile_automation, firing_id
from shared.domain.matching.firing_rules import state_keys
from shared.domain.matching.index import organizations_above
from shared.dry_runs.event_history import EventHistoryReader
from shared.dry_runs.time_range import EPOCH_START, TimeRange, moment, unix_ms
from shared.dry_runs.timeline import automation_timeline
from shared.messaging.streams import entry_order
from shared.settings import Settings
from shared.storage.database.transactions import read_statement
from shared.storage.definitions.automations import StoredAutomation
from shared.storage.definitions.entities import StoredEntity, organization_links
from shared.storage.definitions.webhooks import StoredWebhook, find_webhooks
from shared.storage.evaluation.event_log import EventLog
from shared.storage.evaluation.firing_records import FiringRecord, read_firings
from shared.storage.evaluation.new_deliveries import find_existing
from shared.storage.evaluation.offsets import read_offsets
from shared.storage.evaluation.window_snapshots import read_starts, read_states

_LOOKED_UP: Final = 500
_LOOKED_UP_BYTES: Final = 1 << 20
"""Events whose deliveries are looked up at a time: so many, or until their partitions' bodies reach so much."""
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
    judged_by: Literal["past", "today"] = "today"
    """`past`: what the automation was at the time of each event, and what was recorded; `today`: what it is now."""


def saved_subject(connection: Connection, stored: StoredAutomation, console: str | None = None) -> Subject:
    """A saved automation as evaluation compiles it; `console` is the console's address, where it is known.

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
    return Subject(compiled, state, organizations_of(connection), console)


def draft_subject(
    connection: Connection,
    entity: StoredEntity,
    automation: Automation,
    webhook: StoredWebhook | None,
    console: str | None,
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
    return Subject(compiled, None if webhook is None else _state(webhook), organizations_of(connection), console)


def stored_simulator(connection: Connection, subject: Subject, events: Sequence[Event]) -> Simulator:
    """A simulator that starts from the stored windows and firing times, as if these events were published now."""
    compiled = subject.compiled
    keys = {key for event in events for key in state_keys(compiled, event)}
    return Simulator(
        subject,
        kept=read_states(connection, compiled.id, compiled.epoch, keys),
        delivered=find_existing(connection, [firing_id(compiled.id, event) for event in events]),
        starts=KnownStarts(read_starts(connection, {subject_key(one) for one in events if one.type in RUN_TYPES})),
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
    subject: Subject,
    redis: Redis,
    partitions: int,
    time_range: TimeRange,
    page: PageWanted,
    *,
    until: float | None = None,
) -> DryRunAnswer:
    """The answer for a time range of the streams: the events of the automation's entity and of the teams inside it.

    It starts without state, so metric windows fill and cooldowns begin within the range. Reading stops at `until`, of
    the monotonic clock, as it does after so many entries.

    Raises:
        redis.exceptions.RedisError: when the streams can't be read.
    """
    reading = EventHistoryReader(redis, partitions, time_range, entities_inside(subject), until=until)
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


@dataclass(frozen=True, slots=True)
class PastRun:
    """What explaining the past needs of the database before the streams are read."""

    name: str
    entity: str
    timeline: Timeline
    organizations: Mapping[str, tuple[str, ...]]
    range: TimeRange
    offsets: Mapping[int, tuple[int, int]] | None
    """How far evaluation is; None where all counts as evaluated."""
    complete_since_ms: int


def prepare_past(
    connection: Connection,
    stored: StoredAutomation,
    time_range: TimeRange,
    settings: Settings,
    now: datetime,
    *,
    deleted: bool = False,
) -> PastRun:
    """Look up what an automation was in a time range, and how far evaluation is."""
    links = organizations_of(connection)
    return PastRun(
        stored.name,
        stored.entity,
        automation_timeline(connection, stored, time_range, links, deleted=deleted, console=settings.console_url),
        links,
        time_range,
        evaluated_to(connection),
        complete_since(settings, now),
    )


def evaluated_to(connection: Connection) -> dict[int, tuple[int, int]]:
    """How far evaluation of each partition is, as the order of its last entry."""
    return {number: entry_order(offset.entry_id) for number, offset in read_offsets(connection).items()}


def complete_since(settings: Settings, now: datetime) -> int:
    """Since when all deliveries are kept, in Unix milliseconds."""
    kept = [one for one in (settings.delivery_retention, settings.dead_letter_retention) if one]
    return unix_ms(now - max(min(kept), settings.event_retention, settings.event_log)) if kept else 0


def dry_run_past(
    run: PastRun, redis: Redis, partitions: int, engine: Engine, page: PageWanted, *, until: float | None = None
) -> DryRunAnswer:
    """What an automation made of a time range: by what it was then, and by the deliveries that are recorded.

    Windows begin empty at the start of the range. Reading ends at `until` as in `dry_run_range`. Raises
    `redis.exceptions.RedisError`.
    """
    reading = EventHistoryReader(
        redis, partitions, run.range, _inside_of(run.entity, run.organizations), until=until, log=EventLog(engine)
    )
    done = past_run(past_results(run, reading, engine), page, run.name)
    return DryRunAnswer(
        done.summary,
        done.results,
        done.next,
        since=moment(run.range.since_ms),
        until=moment(run.range.until_ms),
        truncated=reading.truncated,
        read_until=None if reading.read_until_ms is None else moment(reading.read_until_ms),
        judged_by="past",
    )


class Reading(Protocol):
    """One pass over kept events."""

    @property
    def read_bytes(self) -> int:
        """How many bytes of bodies were read."""

    def arrivals(self) -> Iterator[Arrival]:
        """The events, as they came."""


def past_results(run: PastRun, reading: Reading, engine: Engine, *, recorded: bool = True) -> Iterator[PastResult]:
    """What came of each event, in order; without `recorded` by the events alone."""
    simulator = PastSimulator(run.timeline)
    for some in _chunks(reading):
        found: Mapping[str, Recorded] = {}
        if recorded:
            ids = {one for arrival in some if (one := simulator.delivery_id_of(arrival.event)) is not None}
            with read_statement(engine) as connection:
                found = read_recorded(connection, sorted(ids))
        witness = Witness(found, run.complete_since_ms, partial(was_evaluated, run.offsets))
        for arrival in some:
            yield simulator.consider(arrival, witness)


def was_evaluated(offsets: Mapping[int, tuple[int, int]] | None, arrival: Arrival) -> bool:
    """Whether evaluation has passed an event that was read from a stream; without offsets it counts as passed."""
    if offsets is None or arrival.partition is None or arrival.entry_id is None:
        return True
    reached = offsets.get(arrival.partition)
    return reached is not None and entry_order(arrival.entry_id) <= reached


def read_recorded(connection: Connection, ids: Sequence[str]) -> dict[str, Recorded]:
    """What evaluation stored, by the ids of deliveries."""
    return {one.id: _recorded(one) for one in read_firings(connection, ids)}


def _recorded(one: FiringRecord) -> Recorded:
    skipped = None
    if one.status == "skipped":
        skipped = Reason(one.reason) if one.reason in set(Reason) else Reason.NOT_RECORDED
    elif one.status == "refused" and not one.has_payload:
        skipped = Reason.PAYLOAD_TOO_LARGE
    return Recorded(one.id, one.status, one.reason, skipped, unix_ms(one.event_received_at), unix_ms(one.created_at))


def _chunks(reading: Reading) -> Iterator[list[Arrival]]:
    some: list[Arrival] = []
    begun_at = 0
    for arrival in reading.arrivals():
        some.append(arrival)
        if len(some) >= _LOOKED_UP or reading.read_bytes - begun_at >= _LOOKED_UP_BYTES:
            yield some
            some, begun_at = [], reading.read_bytes
    if some:
        yield some


def entities_inside(subject: Subject) -> set[str]:
    """The entities whose events an automation may match: its own, and the teams inside an organization."""
    return _inside_of(subject.compiled.entity, subject.organizations)


def _inside_of(entity: str, organizations: Mapping[str, tuple[str, ...]]) -> set[str]:
    return {entity} | {name for name, above in organizations.items() if entity in above}


def organizations_of(connection: Connection) -> dict[str, tuple[str, ...]]:
    """The organizations above each entity, as they are now."""
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
