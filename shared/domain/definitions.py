"""The one place that accepts or refuses an automation's definition, whether it came by REST, YAML or GraphQL.

Every fault is collected, so that a refusal names all fields at once.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from datetime import timedelta
from typing import Any, TypeVar

from shared.domain.automations import (
    Action,
    Automation,
    Cooldown,
    CooldownUnit,
    Grants,
    NoOpAction,
    Scope,
    WebhookAction,
)
from shared.domain.conditions import Condition, parse_conditions
from shared.domain.durations import parse_duration, parse_rate
from shared.domain.errors import FieldError, InvalidDefinition, Loc
from shared.domain.events import RUN_TYPES, EventType, RunPhase
from shared.domain.fields import field_refusal
from shared.domain.filters import Filter, parse_filter
from shared.domain.payloads import Template, parse_payload

MAX_NAME_LENGTH = 255
MAX_DESCRIPTION_LENGTH = 4000
DEFAULT_RUN_COOLDOWN = Cooldown(CooldownUnit.RUN, timedelta(hours=24))
"""W&B fires an automation at most once a run in 24 hours."""

MEMBERS = (
    "name",
    "description",
    "enabled",
    "scope",
    "event",
    "filter",
    "conditions",
    "states",
    "action",
    "cooldown",
    "rate_limit",
)

FindWebhook = Callable[[str], Grants | None]
"""What the entity's webhook of this name or id grants to payloads; None when there is no such webhook."""

_T = TypeVar("_T")


def parse_automation(raw: object, find_webhook: FindWebhook) -> Automation:
    """A checked automation from decoded JSON or YAML.

    Raises:
        InvalidDefinition: with one fault for each field that is wrong, and what is accepted there.
    """
    if not isinstance(raw, Mapping):
        raise InvalidDefinition.at((), f"must be an object with the members {', '.join(MEMBERS)}")
    return _Reading(raw, find_webhook).automation()


class _Reading:
    """One definition being read, with the faults found so far."""

    def __init__(self, raw: Mapping[Any, Any], find_webhook: FindWebhook) -> None:
        self.raw = raw
        self.find_webhook = find_webhook
        self.faults: list[FieldError] = []
        self._only(raw, MEMBERS, ())

    def automation(self) -> Automation:
        event = self._one_of("event", self.raw.get("event"), EventType, ("event",))
        name = self._text("name", MAX_NAME_LENGTH) or ""
        if not name.strip():
            self._fault(("name",), "is required: a name that no other automation of the entity has")
        scope = self._scope()
        action, template = self._action()
        of_event = None if event is None else self._of_event(event, scope)
        common: dict[str, Any] = {
            "description": self._text("description", MAX_DESCRIPTION_LENGTH),
            "enabled": self._enabled(),
            "rate_limit": self._parsed(("rate_limit",), self.raw.get("rate_limit"), parse_rate),
        }
        if self.faults or event is None or action is None or of_event is None:
            raise InvalidDefinition(*self.faults)
        return Automation(name=name, event=event, scope=scope, action=action, template=template, **common, **of_event)

    def _of_event(self, event: EventType, scope: Scope) -> dict[str, Any] | None:
        """The members whose meaning depends on the event's type."""
        if event in RUN_TYPES and scope.collection is not None:
            self._fault(("scope", "collection"), f"{event} events happen in a project, not in a collection")
        return {
            "filter": self._filter(event),
            "conditions": self._conditions(event),
            "states": self._states(event),
            "cooldown": self._cooldown(event),
        }

    def _fault(self, loc: Loc, msg: str) -> None:
        self.faults.append(FieldError(loc, msg))

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

    def _one_of(self, what: str, value: object, kind: type[_T], loc: Loc) -> _T | None:
        try:
            return kind(value)  # type: ignore[call-arg]
        except ValueError:
            accepted = ", ".join(str(member) for member in kind)  # type: ignore[attr-defined]
            self._fault(loc, f"{what} must be one of {accepted}")
            return None

    def _text(self, member: str, max_length: int) -> str | None:
        value = self.raw.get(member)
        if value is None:
            return None
        if not isinstance(value, str) or len(value) > max_length or "\0" in value:
            self._fault((member,), f"must be text of at most {max_length} characters")
            return None
        return value

    def _enabled(self) -> bool:
        value = self.raw.get("enabled", True)
        if not isinstance(value, bool):
            self._fault(("enabled",), "must be true or false")
        return value is True

    def _scope(self) -> Scope:
        value = self.raw.get("scope") or {}
        if not isinstance(value, Mapping):
            self._fault(("scope",), "must be an object with project and collection, or empty for the whole entity")
            return Scope()
        self._only(value, ("project", "collection"), ("scope",))
        for key in ("project", "collection"):
            if not isinstance(value.get(key, "-"), str | None) or value.get(key) == "":
                self._fault(("scope", key), "must be a name, or left out")
                return Scope()
        if value.get("collection") is not None and value.get("project") is None:
            self._fault(("scope", "project"), "is required with a collection: the project or registry it is in")
        return Scope(value.get("project"), value.get("collection"))

    def _filter(self, event: EventType) -> Filter:
        everything = parse_filter({}, lambda _: None)
        raw = self.raw.get("filter")
        return (
            self._parsed(("filter",), raw, lambda value: parse_filter(value, lambda f: field_refusal(event, f)))
            or everything
        )

    def _conditions(self, event: EventType) -> tuple[Condition, ...]:
        raw = self.raw.get("conditions")
        if event is EventType.RUN_METRIC:
            if not raw:
                self._fault(("conditions",), "is required with RUN_METRIC: at least one statement about a metric")
            return self._parsed(("conditions",), raw or None, parse_conditions) or ()
        if raw:
            self._fault(("conditions",), "belongs to RUN_METRIC automations only")
        return ()

    def _states(self, event: EventType) -> frozenset[RunPhase]:
        raw = self.raw.get("states")
        if event is not EventType.RUN_STATE:
            if raw:
                self._fault(("states",), "belongs to RUN_STATE automations only")
            return frozenset()
        if not isinstance(raw, list | tuple) or not raw:
            self._fault(("states",), f"is required with RUN_STATE: a list of {', '.join(RunPhase)}")
            return frozenset()
        states = (self._one_of("a state", state, RunPhase, ("states", index)) for index, state in enumerate(raw))
        return frozenset(state for state in states if state is not None)

    def _cooldown(self, event: EventType) -> Cooldown | None:
        default = DEFAULT_RUN_COOLDOWN if event in RUN_TYPES else None
        raw = self.raw.get("cooldown", default)
        if raw is None or isinstance(raw, Cooldown):
            return raw
        if not isinstance(raw, Mapping):
            self._fault(("cooldown",), "must be an object with per and period, or null for none")
            return None
        self._only(raw, ("per", "period"), ("cooldown",))
        unit = self._one_of("per", raw.get("per"), CooldownUnit, ("cooldown", "per"))
        if unit is (CooldownUnit.COLLECTION if event in RUN_TYPES else CooldownUnit.RUN):
            self._fault(("cooldown", "per"), f"{event} events have no {unit}")
        period = self._parsed(("cooldown", "period"), raw.get("period", ""), parse_duration)
        return None if unit is None or period is None else Cooldown(unit, period)

    def _action(self) -> tuple[Action | None, Template | None]:
        raw = self.raw.get("action")
        if not isinstance(raw, Mapping) or ("webhook" in raw) == ("no_op" in raw):
            self._fault(("action",), "must be {webhook: <name>, payload: {…}} or {no_op: true}")
            return None, None
        if "no_op" in raw:
            self._only(raw, ("no_op",), ("action",))
            if raw["no_op"] is not True:
                self._fault(("action", "no_op"), "must be true")
            return NoOpAction(), None
        return self._webhook_action(raw)

    def _webhook_action(self, raw: Mapping[Any, Any]) -> tuple[Action | None, Template | None]:
        self._only(raw, ("webhook", "payload"), ("action",))
        webhook, payload = raw["webhook"], raw.get("payload")
        grants = self.find_webhook(webhook) if isinstance(webhook, str) else None
        if grants is None:
            self._fault(("action", "webhook"), "must be the name or id of a webhook of this entity")
            return None, None
        template = self._parsed(
            ("action", "payload"),
            payload,
            lambda value: parse_payload(value, secrets=grants.secrets, has_access_token=grants.has_access_token),
        )
        return WebhookAction(webhook, payload), template
