"""Lists of automations and webhooks: by what people look for, in the order that they want."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

from sqlalchemy import ColumnElement, Connection, Select, Table, func, or_, select

from shared.domain.events.types import NOTICE_TYPES, RUN_TYPES
from shared.domain.quotas import weight_bytes
from shared.storage.database.bulk import among, chunks
from shared.storage.definitions.automations import StoredAutomation, many_automations
from shared.storage.definitions.webhook_fields import WebhookKind
from shared.storage.definitions.webhooks import StoredWebhook, many_webhooks
from shared.storage.delivery.delivery_stats import MAX_COUNTED, SKIPPED, last_fired_seq
from shared.storage.schema.tables import automations, deliveries, webhooks

_RECENT = 2_000
"""How many of an entity's newest deliveries are looked at for automations that fired last."""
_ROWS_READ = 8
"""Automations read at first: a definition may have a MiB."""
_MOST_READ = 128
"""Automations read at a time after some that were all small."""
_SMALL_BYTES = 64 << 10


class Sort(StrEnum):
    """The order of a list."""

    #: By id: in the order in which they were created.
    CREATED = "created"
    #: By name.
    NAME = "name"
    #: The one that was edited last first.
    CHANGED = "changed"
    #: The one that fired last first, those that never did last.
    LAST_FIRED = "last_fired"


class WebhookStateName(StrEnum):
    """The state of a webhook; of several reasons why nothing is sent, the strongest."""

    ACTIVE = "active"
    DISABLED = "disabled"
    PAUSED = "paused"
    CIRCUIT_OPEN = "circuit_open"
    CIRCUIT_HALF_OPEN = "circuit_half_open"


SortKey = tuple[int | str, ...]
"""Where a page of a sorted list ends: the value that it is sorted by, and the id where values may be equal."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AutomationFilter:
    """Criteria for automations; None and () stand for any."""

    name: str | None = None
    text: str | None = None
    """A part of the name or the description, in any case."""
    event_types: tuple[str, ...] = ()
    project: str | None = None
    collection: str | None = None
    webhook_id: int | None = None
    action: str | None = None
    """`webhook`, `slack` or `no_op`."""
    enabled: bool | None = None
    applies_to: tuple[str, str | None] | None = None
    """A project, and perhaps a collection in it: those that watch it, by its name or with more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WebhookFilter:
    """Criteria for webhooks or Slack integrations; None and () stand for any."""

    kind: WebhookKind = WebhookKind.WEBHOOK
    name: str | None = None
    text: str | None = None
    """A part of the name or the URL, in any case."""
    enabled: bool | None = None
    states: tuple[WebhookStateName, ...] = ()


def list_automation_rows(
    connection: Connection, entity_id: int, wanted: AutomationFilter, sort: Sort, *, after: SortKey | None, limit: int
) -> Iterator[tuple[SortKey, StoredAutomation]]:
    """The automations that match, each with its key; they are read a few at a time as they are drawn."""
    query = select(automations.c.id).where(automations.c.entity_id == entity_id, automations.c.deleted_at.is_(None))
    if wanted.action is not None:
        kind = select(webhooks.c.kind).where(webhooks.c.id == automations.c.webhook_id).scalar_subquery()
        query = query.where(func.coalesce(kind, "no_op") == wanted.action)
    if wanted.event_types:
        query = query.where(automations.c.event_type.in_(wanted.event_types))
    for column, value in (
        (automations.c.name, wanted.name),
        (automations.c.scope_project, wanted.project),
        (automations.c.scope_collection, wanted.collection),
        (automations.c.webhook_id, wanted.webhook_id),
        (automations.c.enabled, wanted.enabled),
    ):
        if value is not None:
            query = query.where(column == value)
    if wanted.applies_to is not None:
        # Notices happen in no project, and what runs do in no collection: those watch none, however wide their scope.
        elsewhere = NOTICE_TYPES if wanted.applies_to[1] is None else NOTICE_TYPES | RUN_TYPES
        query = query.where(automations.c.event_type.not_in(sorted(elsewhere)))
        places = zip((automations.c.scope_project, automations.c.scope_collection), wanted.applies_to, strict=True)
        query = query.where(*(or_(column.is_(None), column == name) for column, name in places if name is not None))
    if wanted.text is not None:
        parts = (automations.c.name, automations.c.definition["description"].as_string())
        query = query.where(or_(*(part.icontains(wanted.text, autoescape=True) for part in parts)))
    fired = last_fired_seq(deliveries.c.automation_id, automations.c.id)
    keys = None
    if sort is Sort.LAST_FIRED:
        keys = _fired_lately(connection, entity_id, query, fired, after, limit)
    if keys is None:
        keys = _keys(connection, query, automations, sort, fired, after, limit)
    begin, count = 0, _ROWS_READ
    while begin < len(keys):
        few = dict(keys[begin : begin + count])
        rows = {row.id: row for row in many_automations(connection, entity_id, ids=list(few))}
        yield from ((key, rows[number]) for number, key in few.items())
        begin += count
        small = all(weight_bytes(row.definition) <= _SMALL_BYTES for row in rows.values())
        count = min(4 * count, _MOST_READ) if small else _ROWS_READ


def _fired_lately(
    connection: Connection, entity_id: int, query: Select[Any], fired: Any, after: SortKey | None, limit: int
) -> list[tuple[int, SortKey]] | None:
    """A page of those that fired last, by the entity's newest deliveries alone: mostly they tell a page.

    None where they don't, so that each automation has to be asked for its own newest, which takes a time that grows
    with their number.
    """
    if after is not None and after[0] == 0:  # what is left never fired
        return None
    recent = (
        select(deliveries.c.seq, deliveries.c.automation_id)
        .add_columns((deliveries.c.status != SKIPPED) & deliveries.c.replay_of.is_(None))
        .where(deliveries.c.entity_id == entity_id)
        .order_by(deliveries.c.seq.desc())
        .limit(_RECENT)
    )
    if after is not None:
        recent = recent.where(deliveries.c.seq < after[0])
    last: dict[int, int] = {}
    seen = Counter[int]()
    oldest = 0
    for seq, number, fires in connection.execute(recent):
        oldest = seq
        seen[number] += 1
        if fires and number is not None and seen[number] <= MAX_COUNTED:
            last.setdefault(number, seq)
    matching = query.where(among(connection, automations.c.id, list(last)))
    if after is None:
        found = {number: last[number] for number in connection.scalars(matching)}
    else:  # of some the newest is on a page before
        rows = connection.execute(matching.add_columns(fired.label("fired")))
        found = {number: seq for number, seq in rows if seq is not None and oldest <= seq < int(after[0])}
    if len(found) < limit:
        return None
    newest = sorted(found.items(), key=lambda one: one[1], reverse=True)[:limit]
    return [(number, (seq, number)) for number, seq in newest]


def list_webhook_rows(
    connection: Connection,
    entity_id: int,
    wanted: WebhookFilter,
    sort: Sort,
    *,
    now: datetime,
    after: SortKey | None,
    limit: int,
) -> list[tuple[SortKey, StoredWebhook]]:
    """The webhooks or Slack integrations that match, each with its key."""
    query = select(webhooks.c.id).where(
        webhooks.c.entity_id == entity_id, webhooks.c.deleted_at.is_(None), webhooks.c.kind == wanted.kind
    )
    if wanted.name is not None:
        query = query.where(webhooks.c.name == wanted.name)
    if wanted.enabled is not None:
        query = query.where(webhooks.c.enabled == wanted.enabled)
    if wanted.text is not None:
        parts = (webhooks.c.name, webhooks.c.url)
        query = query.where(or_(*(part.icontains(wanted.text, autoescape=True) for part in parts)))
    if wanted.states:
        query = query.where(or_(*(_in_state(state, now) for state in wanted.states)))
    fired = last_fired_seq(deliveries.c.webhook_id, webhooks.c.id)
    keys = dict(_keys(connection, query, webhooks, sort, fired, after, limit))
    rows = {row.id: row for some in chunks(list(keys)) for row in many_webhooks(connection, entity_id, ids=some)}
    return [(key, rows[number]) for number, key in keys.items()]


def _in_state(state: WebhookStateName, now: datetime) -> ColumnElement[bool]:
    sends = webhooks.c.enabled & ~webhooks.c.paused
    closed = webhooks.c.circuit_opened_at.is_(None)
    waits = func.coalesce(webhooks.c.circuit_probe_at > now, False)
    match state:
        case WebhookStateName.DISABLED:
            return ~webhooks.c.enabled
        case WebhookStateName.PAUSED:
            return webhooks.c.enabled & webhooks.c.paused
        case WebhookStateName.CIRCUIT_OPEN:
            return sends & ~closed & waits
        case WebhookStateName.CIRCUIT_HALF_OPEN:
            return sends & ~closed & ~waits
        case WebhookStateName.ACTIVE:
            return sends & closed


def _keys(
    connection: Connection,
    query: Select[Any],
    rows: Table,
    sort: Sort,
    fired: Any,
    after: SortKey | None,
    limit: int,
) -> list[tuple[int, SortKey]]:
    """The ids of a page, in order, each with its key."""
    number = rows.c.id
    if sort is Sort.LAST_FIRED:
        found = query.add_columns(func.coalesce(fired, 0).label("fired")).subquery("found")
        last: ColumnElement[Any] = found.c.fired
        page = select(found.c.id, last)
        if after is not None:
            page = page.where((last < after[0]) | ((last == after[0]) & (found.c.id > after[1])))
        page = page.order_by(last.desc(), found.c.id).limit(limit)
        return [(row[0], (row[1], row[0])) for row in connection.execute(page)]
    column = {Sort.CREATED: number, Sort.NAME: rows.c.name, Sort.CHANGED: rows.c.revision}[sort]
    descends = sort is Sort.CHANGED
    page = query.add_columns(column.label("key")).order_by(column.desc() if descends else column).limit(limit)
    if after is not None:
        page = page.where(column < after[0] if descends else column > after[0])
    return [(row[0], (row[1],)) for row in connection.execute(page)]
