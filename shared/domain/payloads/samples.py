"""Sample values for the variables of a payload, for test requests."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

from shared.domain.events.types import EventType
from shared.domain.payloads.availability import blank_on
from shared.domain.payloads.slack_messages import SlackMessage
from shared.domain.payloads.templates import METADATA_PREFIX, Template

_SAMPLES = {
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
    "metric_value": "0.97",
    "metric_threshold": "0.95",
    "event_id": "sample-event",
}


def values_of_type(values: Mapping[str, str], event_type: EventType) -> dict[str, str]:
    """Those of sample values that events of a type have."""
    blank = blank_on(event_type)
    kept = {name: value for name, value in values.items() if name not in blank}
    return {**kept, "event_type": str(event_type)}


def sample_values(
    entity: str, template: Template | SlackMessage | None, *, delivery_id: str, now: datetime
) -> dict[str, str]:
    """A value for each variable, and for each key of an artifact's metadata that the template names."""
    version = f"{entity}/{_SAMPLES['project_name']}/{_SAMPLES['artifact_collection_name']}:{_SAMPLES['alias']}"
    named = () if template is None else template.variables
    return {
        **_SAMPLES,
        "entity_name": entity,
        "artifact_version_string": version,
        "event_time": now.isoformat(timespec="seconds").replace("+00:00", "Z"),
        "delivery_id": delivery_id,
        **{name: "sample" for name in named if name.startswith(METADATA_PREFIX)},
    }
