"""The values of payload variables for a firing (https://docs.wandb.ai, webhook payload variables)."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from operator import attrgetter
from typing import Any, Protocol, cast

from shared.domain.events.fast_decoding import AnyEvent
from shared.domain.events.members import member_at, members_sent
from shared.domain.events.models import DeadLetterEvent, NoticeEvent, OwnData, UnmatchedEvent
from shared.domain.events.types import EventType
from shared.domain.events.values import non_finite
from shared.domain.json_text import write_json
from shared.domain.payloads.links import FiringLinks
from shared.domain.payloads.names import is_of, object_key
from shared.domain.payloads.templates import JsonText


@dataclass(frozen=True, slots=True)
class MetricFacts:
    """The metric that made a condition hold, its newest value, and what it was compared with."""

    name: str
    value: float
    """As it was logged: a whole number stays one."""
    threshold: float | None
    """None where the condition compares with nothing."""
    step: int | None = None
    previous: float | None = None
    """The metric's finite value before the newest one; None when there was none."""
    aggregate: float | None = None
    """What the condition compared with its bound; None where it compares with nothing."""
    condition: str | None = None
    """The condition in words."""
    summarize: Callable[[], str] | None = None
    """Makes a line for people of what happened."""

    @property
    def change(self) -> float | None:
        """The newest value less the one before it; None unless both are finite numbers."""
        change = None if self.previous is None else self.value - self.previous
        return change if change is not None and math.isfinite(change) else None


def payload_values(
    event: AnyEvent,
    *,
    delivery_id: str,
    metric: MetricFacts | None = None,
    asked: Iterable[str] = (),
    texts: dict[str, str | None] | None = None,
    links: FiringLinks | None = None,
) -> dict[str, str]:
    """The variables that have a value for this event, as text, or as `JsonText` of what is no text.

    Args:
        event: the event.
        delivery_id: of the firing.
        metric: of the firing.
        asked: the variables of `Template.asked`: the others are always found.
        texts: those of this event that were asked for before, by name; new ones are added.
        links: to the console's pages about the firing; None where nobody knows its address.
    """
    data: Any = event.data
    values: dict[str, str] = {
        "entity_name": data.entity,
        "event_type": str.__str__(event.type),
        "event_id": event.id,
        "delivery_id": delivery_id,
    }
    if data.author:  # blank stands for what was not sent, here and below
        values["event_author"] = data.author
    if event.time is not None:
        values["event_time"] = event.time if isinstance(event.time, str) else event.time_text
    if isinstance(data, OwnData):
        values |= _notice_values(cast("NoticeEvent", event))
    elif (run := getattr(data, "run", None)) is not None:
        values["project_name"] = data.project
        values["run_id"] = run.id
        if name := run.name if run.display_name is None else run.display_name:
            values["run_name"] = name
        if (state := getattr(data, "state", None)) is not None:
            values["run_state"] = str.__str__(state)
    else:
        values["project_name"] = data.project
        values["artifact_collection_name"] = data.collection.name
        if (tag := getattr(data, "tag", None)) is not None:
            values["tag"] = tag
        if (artifact := getattr(data, "artifact", None)) is not None:
            _add_artifact(values, data, artifact)
    if metric is not None:
        values["metric_name"] = metric.name
        values["metric_value"] = _number(metric.value)
        if metric.threshold is not None:
            values["metric_threshold"] = _computed(metric.threshold)
    if asked:
        _add_asked(values, event, metric, asked, {} if texts is None else texts, links)
    return values


def _add_asked(
    values: dict[str, str],
    event: AnyEvent,
    metric: MetricFacts | None,
    asked: Iterable[str],
    texts: dict[str, str | None],
    links: FiringLinks | None,
) -> None:
    for name in asked:
        if name in _OF_METRIC:
            text = None if metric is None else _metric_text(_OF_METRIC[name](metric))
        elif name in _OF_FIRING:
            text = None if links is None else _OF_FIRING[name](links)
        elif name in texts:
            text = texts[name]
        else:
            text = texts[name] = _as_text(_value(event, name)) if is_of(event.type, name) else None
        if text is not None:
            values[name] = text


def _metric_text(value: object) -> str | None:
    return _computed(value) if isinstance(value, float) else _as_text(value)


def _value(event: AnyEvent, name: str) -> object:
    key = object_key(name)
    if key is None:
        return _ASKED[name](event)
    of = _ASKED[key[0]](event)
    return member_at(of, key[1]) if isinstance(of, Mapping) else None


_VERSION = re.compile(r"v([0-9]{1,18})", re.ASCII)


def _version_index(event: Any) -> int | None:
    found = _VERSION.fullmatch(event.data.artifact.version)
    return None if found is None else int(found[1])


def _run_url(event: Any) -> object:
    url = members_sent(event).get("url")
    return url if isinstance(url, str) and url else None


_ASKED: Mapping[str, Callable[[Any], object]] = {
    "event_source": attrgetter("source"),
    "artifact_type": lambda event: event.data.collection.type or None,
    "version": lambda event: event.data.artifact.version or None,
    "version_index": _version_index,
    "aliases": attrgetter("data.artifact.aliases"),
    "tags": attrgetter("data.artifact.tags"),
    "artifact_metadata": attrgetter("data.artifact.metadata"),
    "run_url": _run_url,
    "run_config": attrgetter("data.run.config"),
    "alert_title": attrgetter("data.title"),
    "alert_text": lambda event: event.data.text or None,
    "alert_level": lambda event: str.__str__(event.data.level),
    "run_summary": lambda event: members_sent(event).get("summary"),
}
_OF_METRIC: Mapping[str, Callable[[MetricFacts], object]] = {
    "metric_step": attrgetter("step"),
    "metric_previous": attrgetter("previous"),
    "metric_change": attrgetter("change"),
    "metric_aggregate": attrgetter("aggregate"),
    "metric_condition": attrgetter("condition"),
    "metric_summary": lambda facts: None if facts.summarize is None else facts.summarize(),
}

_OF_FIRING: Mapping[str, Callable[[FiringLinks], str | None]] = {
    "automation_url": attrgetter("automation_url"),
    "delivery_url": attrgetter("delivery_url"),
}


def _notice_values(event: NoticeEvent) -> dict[str, str]:
    if isinstance(event, UnmatchedEvent):
        automation = event.data.automation
        return {"automation_name": automation.name, "automation_id": automation.id, "reason": event.data.reason}
    webhook = event.data.webhook
    values = {"webhook_name": webhook.name, "webhook_id": webhook.id, "reason": event.data.reason}
    if isinstance(event, DeadLetterEvent):
        dead = event.data.delivery
        values |= {
            "dead_letter_id": dead.id,
            "dead_letter_automation": dead.automation,
            "dead_letter_event_type": dead.event_type,
            "dead_letter_event_id": dead.event_id,
        }
    return values


def _add_artifact(values: dict[str, str], data: Any, artifact: Any) -> None:
    if alias := getattr(data, "alias", ""):
        values["alias"] = alias
    values["artifact_version"] = f"wandb-artifact://_id/{artifact.id}"
    # An alias that was removed leads to this version no more.
    added = "" if values["event_type"] == EventType.REMOVE_ARTIFACT_ALIAS else alias
    values["artifact_version_string"] = (
        f"{data.entity}/{data.project}/{data.collection.name}:{added or artifact.version}"
    )


def _number(value: float) -> str:
    """A sample as it was logged; NaN and infinities, which JSON has not, by the names that events have for them."""
    if math.isfinite(value):
        return JsonText(write_json(value).decode())
    return non_finite(value)


def _computed(value: float) -> str:
    """A number that is kept as a fraction, such as a bound or a sample of before: 3.0 is written as 3."""
    return _number(int(value) if isinstance(value, float) and value.is_integer() and abs(value) < 2**53 else value)


def _as_text(value: object) -> str | None:
    """A string as it is; anything else as compact JSON; None for null."""
    if isinstance(value, str):
        return value
    if value is None:
        return None
    return _number(value) if isinstance(value, float) else JsonText(write_json(value).decode())


class Fillable(Protocol):
    """A payload with places for variables."""

    def unfilled(self, values: Mapping[str, str]) -> tuple[str, ...]:
        """The variables that have no value here, and a place without a default."""


def unfilled_notes(template: Fillable | None, values: Mapping[str, str]) -> tuple[str, ...]:
    """What a payload leaves blank, in a sentence, so that nobody has to find it out at the endpoint."""
    missing = () if template is None else template.unfilled(values)
    if not missing:
        return ()
    names = ", ".join(f"${{{name}}}" for name in missing)
    return (f"The payload is blank, or null, where the event has no value for {names}; `:-` gives a default.",)
