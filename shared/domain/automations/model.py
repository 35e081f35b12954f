"""Automations as checked values: scope + event type + filter (+ conditions or states) + action.

They are made by `shared.domain.automations.parsing.parse_automation` and by nothing else.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from typing import Any, ClassVar

from shared.domain.conditions.conditions import Condition, condition_to_json
from shared.domain.durations import Rate, format_duration
from shared.domain.events.types import EventType, RunPhase
from shared.domain.filters.filters import Filter
from shared.domain.payloads.content_types import JSON, PayloadTypes
from shared.domain.payloads.slack_messages import Severity, SlackMessage
from shared.domain.payloads.templates import Template


class CooldownUnit(StrEnum):
    """The unit that a cooldown applies to: each run, collection or webhook by itself, or the automation as a whole."""

    RUN = "run"
    COLLECTION = "collection"
    WEBHOOK = "webhook"
    AUTOMATION = "automation"


@dataclass(frozen=True, slots=True)
class Cooldown:
    """At most one firing in `period` for each run, each collection, each webhook, or in all."""

    per: CooldownUnit
    period: timedelta


def cooldown_to_json(cooldown: Cooldown | None) -> dict[str, str] | None:
    """A cooldown as definitions write it."""
    return None if cooldown is None else {"per": str(cooldown.per), "period": format_duration(cooldown.period)}


@dataclass(frozen=True, slots=True)
class Scope:
    """The place that an automation watches: without a project the entity, without a collection the project."""

    project: str | None = None
    collection: str | None = None


@dataclass(frozen=True, slots=True)
class WebhookAction:
    """Send a payload to a webhook of the entity, named or by id; no payload means all variables with a value."""

    kind: ClassVar[str] = "webhook"

    webhook: str
    payload: Any = None
    payload_types: PayloadTypes = PayloadTypes.TEXT
    content_type: str = JSON

    @classmethod
    def of_json(cls, stored: Mapping[str, Any]) -> WebhookAction:
        """The action that `Automation.to_json` wrote."""
        types = PayloadTypes(stored.get("payload_types", PayloadTypes.TEXT))
        return cls(stored["webhook"], stored.get("payload"), types, stored.get("content_type", JSON))


@dataclass(frozen=True, slots=True)
class SlackAction:
    """Send a message to a Slack integration of the entity, named or by id; a blank title is the automation's name."""

    kind: ClassVar[str] = "slack"

    slack: str
    title: str | None = None
    message: str | None = None
    severity: Severity = Severity.INFO


@dataclass(frozen=True, slots=True)
class NoOpAction:
    """Record the firing and do nothing."""

    kind: ClassVar[str] = "no_op"


Action = WebhookAction | SlackAction | NoOpAction
"""Each has a `kind`, the label of `hookline_firings_total`."""


@dataclass(frozen=True, slots=True)
class Grants:
    """The secrets that a webhook lets payloads use: those granted to it, and its access token if it has one."""

    secrets: frozenset[str] = frozenset()
    has_access_token: bool = False


@dataclass(frozen=True, slots=True)
class Automation:
    """A checked definition."""

    name: str
    event: EventType
    action: Action
    filter: Filter
    scope: Scope = Scope()
    description: str | None = None
    enabled: bool = True
    conditions: tuple[Condition, ...] = ()
    states: frozenset[RunPhase] = frozenset()
    silent_for: timedelta | None = None
    """How long nothing of a run has come for the state `silent`; None without that state."""
    cooldown: Cooldown | None = None
    rate_limit: Rate | None = None
    template: Template | SlackMessage | None = None

    def to_json(self) -> dict[str, Any]:
        """The definition as REST and YAML write it; `parse_automation` reads it back to an equal one."""
        scope = {"project": self.scope.project, "collection": self.scope.collection}
        body: dict[str, Any] = {
            "name": self.name,
            "description": self.description,
            "enabled": self.enabled,
            "scope": {key: value for key, value in scope.items() if value is not None},
            "event": str(self.event),
            "filter": self.filter.to_json(),
            "action": _action_json(self.action),
            "cooldown": cooldown_to_json(self.cooldown),
            "rate_limit": None if self.rate_limit is None else str(self.rate_limit),
        }
        if self.event is EventType.RUN_METRIC:
            body["conditions"] = [condition_to_json(condition) for condition in self.conditions]
        if self.event is EventType.RUN_STATE:
            body["states"] = sorted(str(state) for state in self.states)
            if self.silent_for is not None:
                body["silent_for"] = format_duration(self.silent_for)
        return body


def _action_json(action: Action) -> dict[str, Any]:
    if isinstance(action, NoOpAction):
        return {"no_op": True}
    if isinstance(action, SlackAction):
        texts = {"title": action.title, "message": action.message}
        defined = {member: text for member, text in texts.items() if text is not None}
        return {"slack": action.slack, **defined, "severity": str(action.severity)}
    body: dict[str, Any] = {"webhook": action.webhook}
    if action.payload is not None:
        body["payload"] = action.payload
    # Nothing stands for what all automations were before there was a choice.
    if action.payload_types is not PayloadTypes.TEXT:
        body["payload_types"] = str(action.payload_types)
    if action.content_type != JSON:
        body["content_type"] = action.content_type
    return body
