"""The variables of payloads: what each means, and which events can have it.

The names in `VARIABLES` without those of `ADDED` are W&B's (https://docs.wandb.ai, webhook payload variables) and the
first that Hookline added. Must not know how a value is found or written.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping
from difflib import get_close_matches
from functools import lru_cache
from types import MappingProxyType

from shared.domain.events.types import ARTIFACT_TYPES, COLLECTION_TAG_TYPES, NOTICE_TYPES, RUN_TYPES, EventType
from shared.domain.payloads.sealed import ACCESS_TOKEN

VARIABLES: Mapping[str, str] = MappingProxyType(
    {
        "project_name": "the project that owns what happened",
        "entity_name": "the entity that owns what happened",
        "event_author": "who did it",
        "event_type": "the event's type",
        "alias": "the alias that was added; blank on other events",
        "tag": "the tag that was added or removed; blank on other events",
        "artifact_collection_name": "the collection's name",
        "artifact_version": "wandb-artifact://_id/<artifact id>",
        "artifact_version_string": "<entity>/<project>/<collection>:<alias, else version>",
        "run_id": "the run's id",
        "run_name": "the run's name",
        "run_state": "the state that the run entered",
        "alert_title": "the alert's title",
        "alert_text": "the alert's text, which may have several lines",
        "alert_level": "how grave the alert is: INFO, WARN or ERROR",
        "metric_name": "the metric whose condition held",
        "metric_value": "the metric's newest value",
        "metric_threshold": "the bound: what the metric was compared with",
        "webhook_name": "the name of the webhook that a system event is about",
        "webhook_id": "its id",
        "automation_name": "the name of the automation that a notice is about",
        "automation_id": "its id",
        "reason": "why it was disabled, not matched, its circuit opened, or the delivery became a dead letter",
        "dead_letter_id": "the id of the delivery that became a dead letter",
        "dead_letter_automation": "the name of the automation that had fired it",
        "dead_letter_event_type": "the type of the event that it was about",
        "dead_letter_event_id": "the id of that event",
        "event_id": "the event's id",
        "event_time": "when it happened, as it was sent (RFC 3339)",
        "delivery_id": "the delivery's id, the same on every attempt",
        "event_source": "the event's source",
        "artifact_type": "the collection's type, such as model",
        "version": "the version, such as v3",
        "version_index": "the version's number, such as 3",
        "aliases": "the version's aliases, a list",
        "tags": "the version's tags, a list",
        "artifact_metadata": "the version's metadata, an object",
        "run_url": "the run's page, where the platform sent `url` with the run",
        "run_config": "the run's config, an object",
        "run_summary": "the run's summary, an object, where the platform sent `summary` with the run",
        "metric_step": "the step of the newest value",
        "metric_previous": "the metric's value before the newest one",
        "metric_change": "the newest value less the one before it",
        "metric_aggregate": "what the condition compared with its bound: an aggregate, a change or a z-score",
        "metric_condition": "the condition in words",
        "metric_summary": "what happened, in a line: val_loss 0.28 → 0.9 (+221 %, limit +50 %)",
        "automation_url": "the page in the console of the automation that fired, where HOOKLINE_PUBLIC_URL is set",
        "delivery_url": "the page in the console of the delivery, where HOOKLINE_PUBLIC_URL is set",
    }
)
"""The meaning of each variable; keys of `OBJECTS`, `ACCESS_TOKEN` and secrets come in addition."""

OBJECTS: Mapping[str, str] = MappingProxyType(
    {
        "artifact_metadata": "a value of the version's metadata",
        "run_config": "a value of the run's config",
        "run_summary": "a value of the run's summary",
    }
)
"""The variables of which a key, or a path of keys, may be named: `artifact_metadata.<KEY>`."""

ADDED: frozenset[str] = frozenset(
    {
        *("event_source", "artifact_type", "version", "version_index", "aliases", "tags", "artifact_metadata"),
        *("run_url", "run_config", "run_summary"),
        *("metric_step", "metric_previous", "metric_change", "metric_aggregate", "metric_condition"),
        *("metric_summary", "alert_title", "alert_text", "alert_level", "automation_url", "delivery_url"),
    }
)
"""Names that came after secrets could have them: a granted secret of such a name stays what is meant."""

LARGE: frozenset[str] = frozenset({*OBJECTS, "aliases", "tags"})
"""The variables, besides keys of objects, whose values may be large; all others are short."""

LENGTHY: frozenset[str] = frozenset({"alert_text"})
"""The variables whose values may be longer than names, and not as large as those."""

_EVERYWHERE = (
    *("entity_name", "event_author", "event_type", "event_id", "event_source", "event_time", "delivery_id"),
    *("automation_url", "delivery_url"),
)
_ON_ARTIFACTS = (
    *("artifact_collection_name", "artifact_type", "artifact_version", "artifact_version_string"),
    *("version", "version_index", "aliases", "tags", "artifact_metadata"),
)
_ON_RUNS = ("run_id", "run_name", "run_url", "run_config", "run_summary")
_ON_METRICS = (
    *("metric_name", "metric_value", "metric_threshold", "metric_step", "metric_previous"),
    *("metric_change", "metric_aggregate", "metric_condition", "metric_summary"),
)
_ON_ALERTS = ("alert_title", "alert_text", "alert_level")
_ON_WEBHOOKS = ("webhook_name", "webhook_id", "reason")
_OF_RUN_TYPE: Mapping[EventType, Iterable[str]] = {
    EventType.RUN_METRIC: _ON_METRICS,
    EventType.RUN_STATE: ("run_state",),
    EventType.RUN_ALERT: _ON_ALERTS,
}
_ON_AUTOMATIONS = ("automation_name", "automation_id", "reason")
_ON_DEAD_LETTERS = ("dead_letter_id", "dead_letter_automation", "dead_letter_event_type", "dead_letter_event_id")


def _names(event: EventType) -> Iterable[str]:
    yield from _EVERYWHERE
    if event not in NOTICE_TYPES:
        yield "project_name"
    if event in ARTIFACT_TYPES:
        yield from _ON_ARTIFACTS
    if event in COLLECTION_TAG_TYPES:
        yield from ("artifact_collection_name", "artifact_type")
    if event.endswith("_ALIAS"):
        yield "alias"
    if event.endswith("_TAG"):
        yield "tag"
    if event in RUN_TYPES:
        yield from _ON_RUNS
        yield from _OF_RUN_TYPE[event]
    if event is EventType.AUTOMATION_UNMATCHED:
        yield from _ON_AUTOMATIONS
    elif event in NOTICE_TYPES:
        yield from _ON_WEBHOOKS
    if event is EventType.DEAD_LETTER:
        yield from _ON_DEAD_LETTERS


_OF_EVENT = {event: tuple(name for name in VARIABLES if name in frozenset(_names(event))) for event in EventType}


def variables_of(event: EventType | None) -> tuple[str, ...]:
    """The variables that an event of this type can have; all of them where the type is not known yet."""
    return tuple(VARIABLES) if event is None else _OF_EVENT[event]


def described_variables(event: EventType | None) -> dict[str, str]:
    """The variables that an event of this type can have, keys of objects included, and what each means."""
    names = variables_of(event)
    keys = {f"{name}.<KEY>": meaning for name, meaning in OBJECTS.items() if name in names}
    return {**{name: VARIABLES[name] for name in names}, **keys}


def object_key(name: str) -> tuple[str, str] | None:
    """The object and the key, or path, that a variable such as `artifact_metadata.lr` names; None for any other."""
    of, dot, path = name.partition(".")
    return (of, path) if dot and path and of in OBJECTS else None


def is_variable(name: str) -> bool:
    """Whether a name is a variable's, and not a secret's."""
    return name in VARIABLES or object_key(name) is not None


def is_of(event: EventType | None, name: str) -> bool:
    """Whether an event of this type can have this variable."""
    key = object_key(name)
    return (name if key is None else key[0]) in variables_of(event)


SECRET_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


def granted_names(secrets: Collection[str], *, has_access_token: bool) -> frozenset[str]:
    """The names by which a payload may use a webhook's secrets. A variable's name is no secret's, but for `ADDED`."""
    granted = {name for name in secrets if SECRET_NAME.fullmatch(name) and (name not in VARIABLES or name in ADDED)}
    return frozenset(granted | ({ACCESS_TOKEN} if has_access_token else set()))


def available_names(event: EventType | None, granted: frozenset[str] = frozenset()) -> tuple[str, ...]:
    """The names that a payload about an event of this type may use between `${` and `}`."""
    return (*(name for name in _own(event) if name not in granted), *sorted(granted))


@lru_cache(maxsize=64)
def _own(event: EventType | None) -> tuple[str, ...]:
    names = variables_of(event)
    return (*names, *(f"{name}.<KEY>" for name in OBJECTS if name in names))


def nearest(name: str, known: Collection[str]) -> list[str]:
    """The known names that somebody may have meant, the nearest first."""
    folded = {one.removesuffix(".<KEY>").lower(): one for one in known}
    return [folded[one] for one in get_close_matches(name.lower(), folded, n=3, cutoff=0.6)]
