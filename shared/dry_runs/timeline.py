"""What an automation and its webhook were in a time range, from the revisions that are kept and what they are now."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial
from typing import Any

from sqlalchemy import Connection

from shared.domain.automations.model import Grants
from shared.domain.automations.parsing import parse_automation
from shared.domain.explain.past import Period, Presence, Timeline
from shared.domain.explain.simulator import Subject, WebhookState
from shared.domain.matching.compiled import compile_automation
from shared.dry_runs.time_range import TimeRange, moment, unix_ms
from shared.storage.definitions import automations as automation_store
from shared.storage.definitions import webhooks as webhook_store
from shared.storage.definitions.automations import StoredAutomation
from shared.storage.definitions.kept_revisions import (
    BESIDE_DEFINITION,
    KeptRevision,
    RevisionChange,
    RevisionKind,
    read_history,
)
from shared.storage.definitions.webhook_fields import fields_of_content
from shared.storage.definitions.webhooks import StoredWebhook

Content = Mapping[str, Any]
MAX_PERIODS = 200
"""The most periods of a time range; what was before them is as if it were not kept."""


@dataclass(frozen=True, slots=True)
class _State:
    """What a target was from a moment on; `content` is None when it was not there or is not kept."""

    since_ms: int | None
    """None where it has no beginning that is known."""
    presence: Presence
    content: Content | None = None
    number: int | None = None
    by: str | None = None


def automation_timeline(
    connection: Connection,
    stored: StoredAutomation,
    time_range: TimeRange,
    organizations: Mapping[str, tuple[str, ...]],
    *,
    deleted: bool = False,
    console: str | None = None,
) -> Timeline:
    """The periods of an automation that a time range touches.

    `stored` is what it is now, or, if it is `deleted`, what it was last. `console` is the console's address, where it
    is known.
    """
    return automation_timelines(connection, [(stored, deleted)], time_range, organizations, console)[0]


def automation_timelines(
    connection: Connection,
    automations: Sequence[tuple[StoredAutomation, bool]],
    time_range: TimeRange,
    organizations: Mapping[str, tuple[str, ...]],
    console: str | None = None,
) -> list[Timeline]:
    """The timelines of many automations, each with whether it is deleted, by as many queries as of one."""
    if not automations:
        return []
    history = _read_history(connection, RevisionKind.AUTOMATION, {stored.id for stored, _ in automations}, time_range)
    states_of = [
        _states(
            history.kept[stored.id],
            history.contents,
            time_range,
            None if deleted else automation_store.content_of(stored),
            now_since=stored.updated_at,
            made_at=stored.created_at,
        )
        for stored, deleted in automations
    ]
    named = {state.content["webhook_id"] for states in states_of for state in states if state.content is not None} - {
        None
    }
    webhooks = _webhook_states(connection, named, time_range) if named else {}
    return [
        _timeline(stored, states, webhooks, organizations, console)
        for (stored, _), states in zip(automations, states_of, strict=True)
    ]


def _timeline(
    stored: StoredAutomation,
    states: list[_State],
    all_webhooks: Mapping[int, tuple[_State, ...]],
    organizations: Mapping[str, tuple[str, ...]],
    console: str | None,
) -> Timeline:
    named = {state.content["webhook_id"] for state in states if state.content is not None}
    webhooks = {number: all_webhooks[number] for number in named if number is not None}
    begins = {state.since_ms or 0 for state in states}
    begins |= {state.since_ms or 0 for of_one in webhooks.values() for state in of_one}
    periods = []
    for begin in sorted(begins):
        place = _place(states, begin)
        state = states[place]
        subject: Callable[[], Subject] | None = None
        if state.content is not None:
            webhook_id = state.content["webhook_id"]
            of_webhook = webhooks.get(webhook_id, ())
            webhook = of_webhook[_place(of_webhook, begin)] if of_webhook else None
            subject = partial(_subject, stored, state.content, webhook, organizations, console)
        ended = states[place + 1].since_ms if place + 1 < len(states) else None
        periods.append(Period(begin, state.presence, subject, state.number, state.by, state.since_ms, ended))
    return Timeline(stored.id, periods[-MAX_PERIODS:])


def _place(states: list[_State] | tuple[_State, ...], moment_ms: int) -> int:
    return max(0, bisect_right([state.since_ms or 0 for state in states], moment_ms) - 1)


@dataclass(frozen=True, slots=True)
class _History:
    """The kept revisions of targets, newest first, and the contents of those that a time range touches."""

    kept: Mapping[int, list[KeptRevision]]
    contents: Mapping[int, Content]


def _read_history(
    connection: Connection, kind: RevisionKind, target_ids: Collection[int], time_range: TimeRange
) -> _History:
    return _History(*read_history(connection, kind, target_ids, moment(time_range.since_ms + 1)))


def _states(
    kept: list[KeptRevision],
    contents: Mapping[int, Content],
    time_range: TimeRange,
    now: Content | None,
    *,
    now_since: datetime,
    made_at: datetime,
) -> list[_State]:
    """The states that a time range touches, oldest first.

    `kept` is newest first; `now` is None for a deleted target.
    """
    touching = _touching(kept, time_range)
    states = []
    for one in reversed(touching):
        gone = one.change is RevisionChange.DELETE
        presence = Presence.DELETED if gone else Presence.IN_FORCE
        states.append(_State(unix_ms(one.at), presence, None if gone else contents[one.id], one.id, one.by))
    if now is None:
        if not kept or kept[0].change is not RevisionChange.DELETE:
            states.append(_State(unix_ms(now_since), Presence.DELETED))
    else:
        newest = contents.get(kept[0].id) if kept else None
        if not kept or (newest is not None and newest != now):
            # A version that keeps no revisions made it what it is.
            states.append(_State(unix_ms(now_since), Presence.IN_FORCE, now))
    if not states or (states[0].since_ms or 0) > time_range.since_ms:
        begin_ms = states[0].since_ms if states else None
        was_made = begin_ms is not None and begin_ms <= unix_ms(made_at)
        states.insert(0, _State(None, Presence.NOT_CREATED if was_made else Presence.NOT_KEPT))
    return states


def _touching(kept: list[KeptRevision], time_range: TimeRange) -> list[KeptRevision]:
    """Those that were in force in a time range: all that end after its start, newest first."""
    touching = []
    for one in kept:
        touching.append(one)
        if unix_ms(one.at) <= time_range.since_ms:
            break
    return touching


def _webhook_states(
    connection: Connection, webhook_ids: Collection[int], time_range: TimeRange
) -> dict[int, tuple[_State, ...]]:
    history = _read_history(connection, RevisionKind.WEBHOOK, webhook_ids, time_range)
    found = webhook_store.find_of_any(connection, webhook_ids)
    return {
        webhook_id: _states_of_webhook(history.kept[webhook_id], history.contents, found.get(webhook_id), time_range)
        for webhook_id in webhook_ids
    }


def _states_of_webhook(
    kept: list[KeptRevision], contents: Mapping[int, Content], stored: StoredWebhook | None, time_range: TimeRange
) -> tuple[_State, ...]:
    if stored is None and not kept:
        return ()
    states = _states(
        kept,
        contents,
        time_range,
        None if stored is None else webhook_store.content_of(stored),
        now_since=kept[0].at if stored is None else stored.updated_at,
        made_at=kept[-1].at if stored is None else stored.created_at,
    )
    if states[0].content is None and len(states) > 1:
        # What the webhook was is a detail of what the automation did: it is taken for what it was first.
        states[0] = replace(states[0], presence=states[1].presence, content=states[1].content)
    return tuple(states)


def _subject(
    stored: StoredAutomation,
    content: Content,
    webhook: _State | None,
    organizations: Mapping[str, tuple[str, ...]],
    console: str | None,
) -> Subject:
    grants, state = Grants(), None
    if content["webhook_id"] is not None:
        state = WebhookState(stored.webhook_name or "", enabled=False, disabled_reason="it was deleted")
        if webhook is not None and webhook.content is not None:
            fields = fields_of_content(webhook.content)
            grants = Grants(frozenset(fields.secrets), fields.access_token is not None)
            reason = webhook.content["disabled_reason"]
            state = WebhookState(fields.name, fields.enabled, fields.paused, reason)
    definition = {key: value for key, value in content.items() if key not in BESIDE_DEFINITION}
    compiled = compile_automation(
        parse_automation(definition, lambda _name: grants, lambda _name: True),
        automation_id=stored.id,
        entity_id=stored.entity_id,
        entity=stored.entity,
        epoch=content["epoch"],
        webhook_id=content["webhook_id"],
    )
    return Subject(compiled, state, organizations, console)
