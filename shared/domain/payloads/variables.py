"""The values of payload variables for a firing (https://docs.wandb.ai, webhook payload variables)."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any, cast

from shared.domain.events.fast_decoding import AnyEvent
from shared.domain.events.models import DeadLetterEvent, NoticeEvent, OwnData, UnmatchedEvent
from shared.domain.events.types import EventType
from shared.domain.events.values import non_finite
from shared.domain.json_text import write_json
from shared.domain.payloads.templates import METADATA_PREFIX


@dataclass(frozen=True, slots=True)
class MetricFacts:
    """The metric that made a condition hold, its newest value, and what it was compared with."""

    name: str
    value: float
    threshold: float | None
    """None where the condition compares with nothing."""


def payload_values(
    event: AnyEvent,
    *,
    delivery_id: str,
    metric: MetricFacts | None = None,
    metadata: Iterable[str] | None = None,
    texts: dict[str, str] | None = None,
) -> dict[str, str]:
    """The variables that have a value for this event, as text; the others render blank.

    Args:
        event: the event.
        delivery_id: of the firing.
        metric: of the firing.
        metadata: the keys of the artifact's metadata that are asked for; all when None.
        texts: those of this event's metadata that were asked for before, by key; new ones are added.
    """
    data: Any = event.data
    values: dict[str, str] = {
        "entity_name": data.entity,
        "event_author": data.author,
        "event_type": str.__str__(event.type),
        "event_id": event.id,
        "event_time": _time_text(event.time),
        "delivery_id": delivery_id,
    }
    if isinstance(data, OwnData):
        values |= _notice_values(cast("NoticeEvent", event))
    elif (run := getattr(data, "run", None)) is not None:
        values["project_name"] = data.project
        values["run_id"] = run.id
        values["run_name"] = run.name if run.display_name is None else run.display_name
        if (state := getattr(data, "state", None)) is not None:
            values["run_state"] = str.__str__(state)
    else:
        values["project_name"] = data.project
        values["artifact_collection_name"] = data.collection.name
        values["tag"] = getattr(data, "tag", "")
        if (artifact := getattr(data, "artifact", None)) is not None:
            _add_artifact(values, data, artifact, metadata, {} if texts is None else texts)
    if metric is not None:
        values["metric_name"] = metric.name
        values["metric_value"] = _text(metric.value) if math.isfinite(metric.value) else non_finite(metric.value)
        if metric.threshold is not None:
            values["metric_threshold"] = _text(metric.threshold)
    return values


_PLAIN_SECONDS = len("2026-11-23T09:00:00Z")


def _time_text(time: datetime | str | None) -> str:
    """A time as models hold it, or as the quick way leaves it: with `Z`, and no fraction, milli- or microseconds."""
    if time is None:
        return ""
    if isinstance(time, str):
        if len(time) == _PLAIN_SECONDS:
            return time
        time = datetime.fromisoformat(time)
    return time.isoformat().replace("+00:00", "Z")


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


def _add_artifact(
    values: dict[str, str], data: Any, artifact: Any, metadata: Iterable[str] | None, texts: dict[str, str]
) -> None:
    alias = getattr(data, "alias", "")
    values["alias"] = alias
    values["artifact_version"] = f"wandb-artifact://_id/{artifact.id}"
    # An alias that was removed leads to this version no more.
    added = "" if values["event_type"] == EventType.REMOVE_ARTIFACT_ALIAS else alias
    values["artifact_version_string"] = (
        f"{data.entity}/{data.project}/{data.collection.name}:{added or artifact.version}"
    )
    stored = artifact.metadata
    for key in stored if metadata is None else metadata:
        if key in stored:
            if key not in texts:
                texts[key] = _text(stored[key])
            values[METADATA_PREFIX + key] = texts[key]


def _text(value: object) -> str:
    """A string as it is; anything else as compact JSON; null blank."""
    if isinstance(value, str):
        return value
    if value is None:
        return ""
    return write_json(value).decode()
