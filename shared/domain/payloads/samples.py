"""Sample values for the variables of a payload, for test requests."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

from shared.domain.events.types import EventType
from shared.domain.payloads.names import OBJECTS, is_of, object_key
from shared.domain.payloads.slack_messages import SlackMessage
from shared.domain.payloads.templates import DEFAULT_ASKED, JsonText, Template

_SAMPLES: Mapping[str, str] = {
    "project_name": "wandb-registry-model",
    "event_author": "hookline",
    "event_type": "ADD_ARTIFACT_ALIAS",
    "alias": "production",
    "tag": "approved",
    "artifact_collection_name": "sample-collection",
    "artifact_version": "wandb-artifact://_id/c2FtcGxl",
    "run_id": "sample-run",
    "run_name": "sample run",
    "run_state": "finished",
    "metric_name": "val_accuracy",
    "metric_value": JsonText("0.97"),
    "metric_threshold": JsonText("0.95"),
    "event_id": "sample-event",
}
_ASKED: Mapping[str, str] = {
    "event_source": "/sample",
    "artifact_type": "model",
    "version": "v3",
    "version_index": JsonText("3"),
    "aliases": JsonText('["v3","production"]'),
    "tags": JsonText('["approved"]'),
    "run_url": "https://platform.example.com/runs/sample-run",
    **{name: JsonText('{"key":"sample"}') for name in OBJECTS},
    "alert_title": "Low accuracy",
    "alert_text": "accuracy 0.42 is below 0.5",
    "alert_level": "WARN",
    "metric_step": JsonText("120"),
    "metric_previous": JsonText("0.94"),
    "metric_change": JsonText("0.03"),
    "metric_aggregate": JsonText("0.97"),
    "metric_condition": "val_accuracy $gt 0.95",
    "metric_summary": "val_accuracy 0.97 (limit > 0.95)",
}
"""A link would be an address of this installation: there is no sample of it."""


def values_of_type(values: Mapping[str, str], event_type: EventType) -> dict[str, str]:
    """Those of sample values that events of a type have."""
    kept = {name: value for name, value in values.items() if is_of(event_type, name)}
    return {**kept, "event_type": str(event_type)}


def sample_values(
    entity: str, template: Template | SlackMessage | None, *, delivery_id: str, now: datetime
) -> dict[str, str]:
    """A value for each variable, and for each key of an object that the template names."""
    version = f"{entity}/{_SAMPLES['project_name']}/{_SAMPLES['artifact_collection_name']}:{_SAMPLES['alias']}"
    asked = DEFAULT_ASKED if template is None else template.asked
    return {
        **_SAMPLES,
        "entity_name": entity,
        "artifact_version_string": version,
        "event_time": now.isoformat(timespec="seconds").replace("+00:00", "Z"),
        "delivery_id": delivery_id,
        **{name: _ASKED[name] for name in asked if name in _ASKED},
        **{name: "sample" for name in asked if object_key(name) is not None},
    }
