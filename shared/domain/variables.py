"""What the payload variables of a firing stand for (https://docs.wandb.ai, webhook payload variables)."""

from __future__ import annotations

import json
from dataclasses import dataclass

import orjson

from shared.domain.events import (
    AliasEvent,
    ArtifactEvent,
    ArtifactTagEvent,
    CollectionTagEvent,
    DeadLetterEvent,
    Event,
    NoticeData,
    NoticeEvent,
    RunStateEvent,
)


@dataclass(frozen=True, slots=True)
class MetricFacts:
    """The metric that made a condition hold, its newest value, and what it was compared with."""

    name: str
    value: float
    threshold: float


def payload_values(event: Event, *, delivery_id: str, metric: MetricFacts | None = None) -> dict[str, str]:
    """Each variable that has a value for this event, as text; what is absent renders blank."""
    data = event.data
    values = {
        "project_name": "" if isinstance(data, NoticeData) else data.project,
        "entity_name": data.entity,
        "event_author": data.author,
        "event_type": str(event.type),
        "event_id": event.id,
        "event_time": event.time.isoformat().replace("+00:00", "Z") if event.time else "",
        "delivery_id": delivery_id,
    }
    if isinstance(event, ArtifactEvent | AliasEvent | ArtifactTagEvent):
        values |= _artifact_values(event)
    elif isinstance(event, CollectionTagEvent):
        values |= {"artifact_collection_name": event.data.collection.name, "tag": event.data.tag}
    elif isinstance(event, NoticeEvent):
        values |= _notice_values(event)
    else:
        run = event.data.run
        values |= {"run_id": run.id, "run_name": run.name if run.display_name is None else run.display_name}
        if isinstance(event, RunStateEvent):
            values["run_state"] = str(event.data.state)
    if metric is not None:
        values |= {
            "metric_name": metric.name,
            "metric_value": _text(metric.value),
            "metric_threshold": _text(metric.threshold),
        }
    return values


def _notice_values(event: NoticeEvent) -> dict[str, str]:
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


def _artifact_values(event: ArtifactEvent | AliasEvent | ArtifactTagEvent) -> dict[str, str]:
    data = event.data
    alias = event.data.alias if isinstance(event, AliasEvent) else ""
    values = {
        "artifact_collection_name": data.collection.name,
        "artifact_version": f"wandb-artifact://_id/{data.artifact.id}",
        "artifact_version_string": (
            f"{data.entity}/{data.project}/{data.collection.name}:{alias or data.artifact.version}"
        ),
        "alias": alias,
        "tag": event.data.tag if isinstance(event, ArtifactTagEvent) else "",
    }
    for key, value in data.artifact.metadata.items():
        values[f"artifact_metadata.{key}"] = _text(value)
    return values


def _text(value: object) -> str:
    """A string as it is; anything else as compact JSON; null blank."""
    if isinstance(value, str):
        return value
    if value is None:
        return ""
    try:
        return orjson.dumps(value).decode()
    except orjson.JSONEncodeError:  # an integer of more than 64 bits: JSON has no limit, orjson does
        return json.dumps(value, ensure_ascii=False, separators=(",", ":"))
