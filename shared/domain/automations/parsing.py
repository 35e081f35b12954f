"""Checking definitions of automations, whether they come by REST, YAML or GraphQL: the one place that accepts them.

Every fault is collected, so that a refusal names all faulty fields. Must not raise anything but `InvalidDefinition`,
whatever it is given.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from datetime import timedelta
from enum import StrEnum
from functools import cache, partial
from typing import Any, TypeVar

from shared.domain.automations.model import (
    Action,
    Automation,
    Cooldown,
    CooldownUnit,
    Grants,
    NoOpAction,
    Scope,
    SlackAction,
    WebhookAction,
)
from shared.domain.conditions.conditions import Condition, parse_conditions
from shared.domain.durations import parse_duration, parse_rate
from shared.domain.errors import FieldError, InvalidDefinition, Loc
from shared.domain.events.types import NOTICE_TYPES, RUN_TYPES, EventType, RunPhase
from shared.domain.events.values import NAME_FORM, is_name
from shared.domain.filters.fields import field_refusal
from shared.domain.filters.filters import Filter, parse_filter
from shared.domain.filters.operands import operand_faults
from shared.domain.json_values import refuse_unfit
from shared.domain.payloads.content_types import JSON, PLAIN, PayloadTypes, parse_content_type
from shared.domain.payloads.cutting import parse_payload
from shared.domain.payloads.slack_messages import Severity, SlackMessage, parse_slack_message
from shared.domain.payloads.templates import Template

MAX_NAME_LENGTH = 255
MAX_FAULTS = 100
"""The faults that one answer names. More helps nobody, and a manifest may hold thousands of definitions."""
MAX_DESCRIPTION_LENGTH = 4000
"""In characters. Descriptions come with every list of automations; nothing reads them while events are evaluated."""
DEFAULT_RUN_COOLDOWN = Cooldown(CooldownUnit.RUN, timedelta(hours=24))
"""W&B fires an automation at most once a run in 24 hours."""
DEFAULT_DEAD_LETTER_COOLDOWN = Cooldown(CooldownUnit.WEBHOOK, timedelta(hours=1))
"""An endpoint that is down may cause thousands of dead letters; one notification an hour is enough for its owners."""

MIN_SILENCE, MAX_SILENCE = timedelta(minutes=1), timedelta(days=30)
SILENCE_FORM = "a duration from 1m to 30d"
MEMBERS = (
    "name",
    "description",
    "enabled",
    "scope",
    "event",
    "filter",
    "conditions",
    "states",
    "silent_for",
    "action",
    "cooldown",
    "rate_limit",
)

_EVERYTHING = parse_filter({}, lambda _: None)

FindWebhook = Callable[[str], Grants | None]
"""Gives the grants of the webhook of this name or id; None when the entity may use no such webhook.

May raise InvalidDefinition, without a place, for a name that several webhooks have.
"""
FindSlack = Callable[[str], bool]
"""Whether there is a Slack integration of this name or id for this entity. May raise as `FindWebhook` does."""

_T = TypeVar("_T")
_E = TypeVar("_E", bound=StrEnum)


@cache
def _members(kind: type[_E]) -> dict[str, _E]:
    """The members of an enumeration by their values."""
    return {str.__str__(member): member for member in kind}


def default_cooldown(event: EventType) -> Cooldown | None:
    """The cooldown of an automation on this type that says nothing of one."""
    if event is EventType.DEAD_LETTER:
        return DEFAULT_DEAD_LETTER_COOLDOWN
    return DEFAULT_RUN_COOLDOWN if event in RUN_TYPES and event is not EventType.RUN_ALERT else None


def own_unit(event: EventType) -> CooldownUnit:
    """The unit of a cooldown that events of this type have: what each of them is about."""
    if event is EventType.AUTOMATION_UNMATCHED:
        return CooldownUnit.AUTOMATION
    if event in NOTICE_TYPES:
        return CooldownUnit.WEBHOOK
    return CooldownUnit.RUN if event in RUN_TYPES else CooldownUnit.COLLECTION


def no_slack(_name_or_id: str) -> bool:
    """Finds no Slack integration."""
    return False


def parse_automation(
    raw: object, find_webhook: FindWebhook, find_slack: FindSlack = no_slack, *, is_new: bool = False
) -> Automation:
    """A checked automation from decoded JSON or YAML.

    With `is_new`, filters are refused too whose operands a field can never meet, which older versions have stored.

    Raises:
        InvalidDefinition: with one fault for each field that is wrong, and what is accepted there (about `MAX_FAULTS`
            at most).
    """
    refuse_unfit(raw)
    if not isinstance(raw, Mapping):
        raise InvalidDefinition.at((), f"must be an object with the members {', '.join(MEMBERS)}")
    return _Reading(raw, find_webhook, find_slack, is_new=is_new).automation()


def parse_test(stored: Mapping[str, Any]) -> tuple[Filter, frozenset[RunPhase], tuple[str, ...]]:
    """The filter, the states and the metrics of the conditions of a definition that was accepted: what is tested first.

    Raises:
        InvalidDefinition: where these can't be read. Nothing is said of the other members.
    """
    reading = _Reading(stored, lambda _webhook: None, no_slack, is_new=False)
    return reading.test()


def template_of(action: WebhookAction, grants: Grants, event: EventType | None) -> Template | None:
    """The template of an action's payload; None for one that defines none. Raises InvalidDefinition, in the payload."""
    if action.payload is None:
        return None
    return parse_payload(
        action.payload,
        secrets=grants.secrets,
        has_access_token=grants.has_access_token,
        event=event,
        types=action.payload_types,
        content_type=action.content_type,
    )


class _Reading:
    """One definition being read, with the faults found so far."""

    def __init__(
        self, raw: Mapping[Any, Any], find_webhook: FindWebhook, find_slack: FindSlack, *, is_new: bool
    ) -> None:
        self.raw = raw
        self.is_new = is_new
        self.find_webhook = find_webhook
        self.find_slack = find_slack
        self.faults: list[FieldError] = []
        self._only(raw, MEMBERS, ())

    def automation(self) -> Automation:
        event = self._one_of(self.raw.get("event"), EventType, ("event",))
        name = self._name()
        scope = self._scope()
        action, template = self._action(name, event)
        of_event = None if event is None else self._of_event(event, scope)
        common: dict[str, Any] = {
            "description": self._description(),
            "enabled": self._enabled(),
            "rate_limit": self._parsed(("rate_limit",), self.raw.get("rate_limit"), parse_rate),
        }
        if self.faults or event is None or action is None or of_event is None:
            raise InvalidDefinition(*self.faults)
        return Automation(name=name, event=event, scope=scope, action=action, template=template, **common, **of_event)

    def test(self) -> tuple[Filter, frozenset[RunPhase], tuple[str, ...]]:
        event = self._one_of(self.raw.get("event"), EventType, ("event",))
        if event is not None:
            expression, conditions, states = self._filter(event), self._conditions(event), self._states(event)
        if self.faults or event is None:
            raise InvalidDefinition(*self.faults)
        return expression, states, tuple(condition.metric for condition in conditions)

    def _of_event(self, event: EventType, scope: Scope) -> dict[str, Any] | None:
        """The members whose meaning depends on the event's type."""
        if event in RUN_TYPES and scope.collection is not None:
            self._fault(("scope", "collection"), f"{event} events happen in a project, not in a collection")
        if event in NOTICE_TYPES and scope.project is not None:
            self._fault(("scope", "project"), f"{event} events are in no project: leave it out")
        expression, conditions, states = self._filter(event), self._conditions(event), self._states(event)
        return {
            "filter": expression,
            "conditions": conditions,
            "states": states,
            "silent_for": self._silent_for(states),
            "cooldown": self._cooldown(event),
        }

    def _fault(self, loc: Loc, msg: str) -> None:
        self.faults.append(FieldError(loc, msg))
        if len(self.faults) >= MAX_FAULTS:
            raise InvalidDefinition(*self.faults)

    def _only(self, value: Mapping[Any, Any], members: Collection[str], loc: Loc) -> None:
        for key in value:
            if key not in members:
                self._fault((*loc, str(key)), f"is not known here; accepted: {', '.join(members)}")

    def _parsed(self, loc: Loc, value: object, parse: Callable[[Any], _T]) -> _T | None:
        """`parse(value)`, its refusal kept as faults at `loc`; None stands for an absent value."""
        if value is None:
            return None
        try:
            return parse(value)
        except InvalidDefinition as exc:
            self.faults.extend(exc.under(*loc).errors)
            return None

    def _one_of(self, value: object, kind: type[_E], loc: Loc) -> _E | None:
        # Only text is looked up: an enumeration's own refusal writes the value out, however deep it nests.
        found = _members(kind).get(value) if isinstance(value, str) else None
        if found is None:
            self._fault(loc, f"must be one of {', '.join(kind)}")
        return found

    def _name(self) -> str:
        value = self.raw.get("name")
        if not is_name(value) or len(value) > MAX_NAME_LENGTH or not value.strip():
            form = f"1 to {MAX_NAME_LENGTH} characters, not only spaces, without control characters"
            self._fault(("name",), f"is required: {form}; no other automation of the entity may have it")
            return ""
        return value

    def _description(self) -> str | None:
        value = self.raw.get("description")
        if value is None or (isinstance(value, str) and len(value) <= MAX_DESCRIPTION_LENGTH):
            return value
        self._fault(("description",), f"must be text of at most {MAX_DESCRIPTION_LENGTH} characters")
        return None

    def _enabled(self) -> bool:
        value = self.raw.get("enabled", True)
        if not isinstance(value, bool):
            self._fault(("enabled",), "must be true or false")
        return value is True

    def _scope(self) -> Scope:
        value = self.raw.get("scope")
        if value is None:
            return Scope()
        if not isinstance(value, Mapping):
            self._fault(("scope",), "must be an object with project and collection, or empty for the whole entity")
            return Scope()
        self._only(value, ("project", "collection"), ("scope",))
        scope = Scope(self._scope_name(value, "project"), self._scope_name(value, "collection"))
        if scope.collection is not None and value.get("project") is None:
            self._fault(("scope", "project"), "is required with a collection: the project or registry it is in")
        return scope

    def _scope_name(self, scope: Mapping[Any, Any], key: str) -> str | None:
        value = scope.get(key)
        if value is None or is_name(value):
            return value
        self._fault(("scope", key), f"must be {NAME_FORM}, or left out")
        return None

    def _filter(self, event: EventType) -> Filter:
        raw = self.raw.get("filter")
        checks = partial(field_refusal, event), partial(operand_faults, event) if self.is_new else None
        return self._parsed(("filter",), raw, lambda value: parse_filter(value, *checks)) or _EVERYTHING

    def _conditions(self, event: EventType) -> tuple[Condition, ...]:
        raw = self.raw.get("conditions")
        if event is EventType.RUN_METRIC:
            if raw is None or raw == []:
                self._fault(("conditions",), "is required with RUN_METRIC: at least one statement about a metric")
                return ()
            return self._parsed(("conditions",), raw, parse_conditions) or ()
        if raw is not None and raw != []:
            self._fault(("conditions",), "is only for RUN_METRIC automations")
        return ()

    def _states(self, event: EventType) -> frozenset[RunPhase]:
        raw = self.raw.get("states")
        if event is not EventType.RUN_STATE:
            if raw is not None and raw != []:
                self._fault(("states",), "is only for RUN_STATE automations")
            return frozenset()
        if not isinstance(raw, list | tuple) or not raw:
            self._fault(("states",), f"is required with RUN_STATE: a list of {', '.join(RunPhase)}")
            return frozenset()
        states = [self._one_of(state, RunPhase, ("states", index)) for index, state in enumerate(raw)]
        return frozenset(state for state in states if state is not None)

    def _silent_for(self, states: Collection[RunPhase]) -> timedelta | None:
        raw = self.raw.get("silent_for")
        if RunPhase.SILENT not in states:
            if raw is not None:
                self._fault(("silent_for",), "is only for the state silent")
            return None
        if raw is None:
            self._fault(("silent_for",), f"is required with the state silent: {SILENCE_FORM}")
            return None
        silence = self._parsed(("silent_for",), raw, parse_duration)
        if silence is not None and not MIN_SILENCE <= silence <= MAX_SILENCE:
            self._fault(("silent_for",), f"must be {SILENCE_FORM}")
        return silence

    def _cooldown(self, event: EventType) -> Cooldown | None:
        if "cooldown" not in self.raw:
            return default_cooldown(event)
        raw = self.raw["cooldown"]
        if raw is None:
            return None
        if not isinstance(raw, Mapping):
            self._fault(("cooldown",), "must be an object with per and period, or null for none")
            return None
        self._only(raw, ("per", "period"), ("cooldown",))
        unit = self._one_of(raw.get("per"), CooldownUnit, ("cooldown", "per"))
        units = dict.fromkeys((own_unit(event), CooldownUnit.AUTOMATION))
        if unit is not None and unit not in units:
            self._fault(("cooldown", "per"), f"must be {' or '.join(units)}: {event} events have no {unit}")
        given = raw.get("period")
        period = self._parsed(("cooldown", "period"), "" if given is None else given, parse_duration)
        return None if unit is None or period is None else Cooldown(unit, period)

    def _action(self, name: str, event: EventType | None) -> tuple[Action | None, Template | SlackMessage | None]:
        raw = self.raw.get("action")
        if not isinstance(raw, Mapping) or sum(kind in raw for kind in ("webhook", "slack", "no_op")) != 1:
            forms = "{webhook: <name>, payload: …}, {slack: <name>, title: …, message: …} or {no_op: true}"
            self._fault(("action",), f"must be {forms}")
            return None, None
        if "slack" in raw:
            return self._slack_action(raw, name, event)
        if "no_op" in raw:
            self._only(raw, ("no_op",), ("action",))
            if raw["no_op"] is not True:
                self._fault(("action", "no_op"), "must be true")
            return NoOpAction(), None
        return self._webhook_action(raw, event)

    def _webhook_action(self, raw: Mapping[Any, Any], event: EventType | None) -> tuple[Action | None, Template | None]:
        self._only(raw, ("webhook", "payload", "payload_types", "content_type"), ("action",))
        webhook, payload, given = raw["webhook"], raw.get("payload"), raw.get("payload_types")
        types = self._one_of(PayloadTypes.TEXT if given is None else given, PayloadTypes, ("action", "payload_types"))
        named = raw.get("content_type")
        content_type = self._parsed(("action", "content_type"), JSON if named is None else named, parse_content_type)
        grants = self._found(webhook, self.find_webhook, ("action", "webhook"), "webhook")
        if grants is None or types is None or content_type is None:
            return None, None
        if payload is None and content_type == PLAIN:
            self._fault(("action", "payload"), f"is required with the content type {PLAIN}: the text to send")
        action = WebhookAction(webhook, payload, types, content_type)
        template = self._parsed(("action", "payload"), payload, lambda _: template_of(action, grants, event))
        return action, template

    def _slack_action(
        self, raw: Mapping[Any, Any], name: str, event: EventType | None
    ) -> tuple[Action | None, SlackMessage | None]:
        self._only(raw, ("slack", "title", "message", "severity"), ("action",))
        slack, title, message = raw["slack"], raw.get("title"), raw.get("message")
        given = raw.get("severity")
        severity = self._one_of(Severity.INFO if given is None else given, Severity, ("action", "severity"))
        self._found(slack, self.find_slack, ("action", "slack"), "Slack integration")
        text = self._parsed(
            ("action",),
            severity,
            lambda value: parse_slack_message(name=name, title=title, message=message, severity=value, event=event),
        )
        if severity is None or text is None:
            return None, None
        return SlackAction(slack, title, message, severity), text

    def _found(self, named: object, find: Callable[[str], _T | None], loc: Loc, what: str) -> _T | None:
        """Find what a name or id stands for; a fault when it stands for nothing, or for several things."""
        faults = len(self.faults)
        found = self._parsed(loc, named if isinstance(named, str) else None, find)
        if not found and len(self.faults) == faults:
            self._fault(loc, f"must be the name or id of a {what} of this entity")
        return found
