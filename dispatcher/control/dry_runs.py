"""Dry runs of an automation, saved or not, on given events or a time range of the streams.

Must not write anything, and reads no secret: payloads have `***NAME***` in their places.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from time import monotonic
from typing import Annotated, Any, Literal

from pydantic import Field
from redis import Redis
from sqlalchemy import Connection, Engine

from dispatcher.control.access import Action, require
from dispatcher.control.bodies import Body, View, parse_form
from dispatcher.control.faults import FaultCollector
from dispatcher.control.paging import cursor_after, page_request
from dispatcher.control.webhook_resolver import WebhookResolver
from shared.domain.errors import FieldError, InvalidDefinition
from shared.domain.events.decoding import check_event, check_events
from shared.domain.events.models import Event
from shared.domain.events.values import is_name
from shared.domain.explain.dry_run import MAX_EVENTS, DryRunResult, PageWanted, Summary, Wanted
from shared.domain.explain.simulator import Arrival, DryRunOutcome, Reason, Simulator, Subject
from shared.domain.ids import IdKind, encode_id
from shared.dry_runs.service import (
    PastRun,
    arrivals_of,
    draft_subject,
    dry_run_events,
    dry_run_past,
    dry_run_range,
    prepare_past,
    saved_subject,
    stored_simulator,
)
from shared.dry_runs.time_range import TimeRange, parse_time_range
from shared.settings import Settings
from shared.storage.accounts.users import Principal
from shared.storage.definitions.automations import StoredAutomation, find_automation, find_by_name_or_id
from shared.storage.definitions.entities import StoredEntity

DEFAULT_LIMIT = 100


class DryRunBody(Body):
    """The automation to try, the events, and which results to return."""

    definition: Annotated[dict[str, Any] | None, Field(description="A definition, as for creating an automation.")] = (
        None
    )
    automation: Annotated[str | None, Field(description="Instead: the id or name of a saved automation.")] = None
    event: Annotated[dict[str, Any] | None, Field(description="A CloudEvents event, as for publishing.")] = None
    events: Annotated[list[Any] | None, Field(description=f"Instead: up to {MAX_EVENTS} events, in order.")] = None
    since: Annotated[
        str | None,
        Field(
            description="Instead: the start of a time range of the streams; an RFC 3339 time, or how long ago (`1h`)."
        ),
    ] = None
    until: Annotated[str | None, Field(description="With `since`: the end of the time range; now by default.")] = None
    with_state: Annotated[
        bool,
        Field(description="Start from the stored windows and firings of a saved automation, as if published now."),
    ] = False
    today: Annotated[
        bool,
        Field(
            description="With a saved automation and `since`: judge by what the automation and its webhook are now, "
            "and not by what they were at the time and what was recorded."
        ),
    ] = False
    only: Annotated[DryRunOutcome | None, Field(strict=False, description="Only results with this outcome.")] = None
    reason: Annotated[Reason | None, Field(strict=False, description="Only results with this reason.")] = None
    event_id: Annotated[str | None, Field(description="Only results for events with this id.")] = None
    run: Annotated[str | None, Field(description="Only results for events about the run with this id.")] = None
    collection: Annotated[str | None, Field(description="Only results for events about this collection.")] = None
    limit: int | None = Field(default=None, description=f"Results in a page; {DEFAULT_LIMIT} by default.")
    cursor: Annotated[str | None, Field(description="The `next` of the previous page.")] = None


class DryRunView(View):
    """The results of a dry run."""

    automation: str | None
    """The id of the saved automation; null for a definition."""
    summary: Summary
    results: list[DryRunResult]
    next: str | None
    """The cursor of the next page of results; null on the last."""
    since: datetime | None
    """The time range that was read; null when events were given."""
    until: datetime | None
    truncated: bool
    """Whether reading stopped before the end of the time range."""
    read_until: datetime | None
    """When the stream received the last entry that was read: `since` of the request that goes on from there."""
    judged_by: Literal["past", "today"]
    """`past`: what the automation was at the time of each event, and what was recorded; `today`: what it is now."""


@dataclass(frozen=True, slots=True)
class Arrivals:
    """Given events, and the simulator for them."""

    simulator: Simulator
    events: list[Arrival]


@dataclass(frozen=True, slots=True)
class PreparedDryRun:
    """A checked request: nothing but the streams is left to be read."""

    subject: Subject | None
    """None where it is explained what came of events in the past."""
    source: TimeRange | Arrivals | PastRun
    page: PageWanted
    automation: str | None


def prepare(
    connection: Connection,
    principal: Principal,
    entity_name: str,
    raw: object,
    *,
    now: datetime,
    settings: Settings,
) -> PreparedDryRun:
    """Check a request, and read what it needs from the database.

    Raises:
        InvalidDefinition: naming each fault, those of the definition under `definition`, those of events under `event`
            or `events`.
    """
    entity = require(connection, principal, entity_name, Action.AUTOMATE)
    body = parse_form(DryRunBody, raw)
    _refuse_combinations(body)
    collector = FaultCollector()
    page = collector.run(lambda: _page(body))
    source = collector.run(lambda: _source(body, now))
    if body.automation is not None and isinstance(source, TimeRange) and not body.today:
        stored = collector.run(lambda: _stored(connection, entity, body))
        if collector.faults or page is None or stored is None:
            raise InvalidDefinition(*collector.faults)
        past = prepare_past(connection, stored, source, settings, now)
        return PreparedDryRun(None, past, page, encode_id(IdKind.AUTOMATION, stored.id))
    subject = collector.run(lambda: _subject(connection, principal, entity, body, settings.console_url))
    if collector.faults or page is None or source is None or subject is None:
        raise InvalidDefinition(*collector.faults)
    automation = None if body.automation is None else encode_id(IdKind.AUTOMATION, subject.compiled.id)
    if isinstance(source, TimeRange):
        return PreparedDryRun(subject, source, page, automation)
    simulator = stored_simulator(connection, subject, source) if body.with_state else Simulator(subject)
    return PreparedDryRun(
        subject, Arrivals(simulator, arrivals_of(source, now, as_of_now=body.with_state)), page, automation
    )


def run(prepared: PreparedDryRun, redis: Redis, partitions: int, engine: Engine, *, until: float) -> DryRunView:
    """Run it; only a time range needs the streams. `until` is of the monotonic clock: a time range is truncated then.

    Raises:
        InvalidDefinition: when given events took longer.
        redis.exceptions.RedisError: when the streams can't be read.
    """
    source = prepared.source
    if isinstance(source, PastRun):
        answer = dry_run_past(source, redis, partitions, engine, prepared.page, until=until)
    elif isinstance(source, Arrivals):
        answer = dry_run_events(source.simulator, _in_time(source.events, until), prepared.page)
    else:
        assert prepared.subject is not None  # noqa: S101 - only the past has none
        answer = dry_run_range(prepared.subject, redis, partitions, source, prepared.page, until=until)
    return DryRunView(
        automation=prepared.automation,
        summary=answer.summary,
        results=list(answer.results),
        next=None if answer.next is None else cursor_after(answer.next),
        since=answer.since,
        until=answer.until,
        truncated=answer.truncated,
        read_until=answer.read_until,
        judged_by=answer.judged_by,
    )


def _in_time(events: Iterable[Arrival], until: float) -> Iterator[Arrival]:
    for number, event in enumerate(events):
        if monotonic() > until:
            detail = f"these events take too long: {number} of them were tried in time; send fewer at once"
            raise InvalidDefinition.at(("events",), detail)
        yield event


def _refuse_combinations(body: DryRunBody) -> None:
    faults = []
    if (body.definition is None) == (body.automation is None):
        faults.append(
            FieldError(("definition",), "either a definition is required, or the id or name of an automation")
        )
    if sum(member is not None for member in (body.event, body.events, body.since)) != 1:
        faults.append(FieldError(("event",), "exactly one of event, events and since is required"))
    if body.until is not None and body.since is None:
        faults.append(FieldError(("until",), "belongs to since"))
    if body.with_state and (body.automation is None or body.since is not None):
        faults.append(FieldError(("with_state",), "needs a saved automation, and event or events"))
    if body.today and (body.automation is None or body.since is None):
        faults.append(FieldError(("today",), "needs a saved automation, and since"))
    if faults:
        raise InvalidDefinition(*faults)


def _page(body: DryRunBody) -> PageWanted:
    page = page_request(DEFAULT_LIMIT if body.limit is None else body.limit, body.cursor)
    in_range = body.since is not None
    wanted = Wanted(
        only=body.only,
        reason=body.reason,
        event_id=body.event_id,
        run=body.run,
        collection=body.collection,
        same_type=in_range,
    )
    return PageWanted(body.only, page.after, page.limit, newest_first=in_range, wanted=wanted)


def _source(body: DryRunBody, now: datetime) -> TimeRange | list[Event]:
    if body.event is not None:
        try:
            return [check_event(body.event)]
        except InvalidDefinition as exc:
            raise exc.under("event") from None
    if body.events is not None:
        try:
            return check_events(body.events)
        except InvalidDefinition as exc:
            raise exc.under("events") from None
    return [] if body.since is None else parse_time_range(body.since, body.until, now)


def _subject(
    connection: Connection, principal: Principal, entity: StoredEntity, body: DryRunBody, console: str | None
) -> Subject | None:
    if body.definition is not None:
        try:
            name = body.definition.get("name")
            saved = find_automation(connection, entity.id, name=name) if is_name(name) else None
            was = None if saved is None else saved.definition
            draft = WebhookResolver(connection, entity, principal).parse(body.definition, was=was)
            return draft_subject(connection, entity, draft.automation, draft.webhook, console)
        except InvalidDefinition as exc:
            raise exc.under("definition") from None
    if body.automation is None:
        return None
    stored = _stored(connection, entity, body)
    try:
        return saved_subject(connection, stored, console)
    except InvalidDefinition as exc:
        raise exc.under("automation") from None


def _stored(connection: Connection, entity: StoredEntity, body: DryRunBody) -> StoredAutomation:
    stored = find_by_name_or_id(connection, entity.id, body.automation or "")
    if stored is None:
        raise InvalidDefinition.at(("automation",), "must be the id or name of an automation of this entity")
    return stored
