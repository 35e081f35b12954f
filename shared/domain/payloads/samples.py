"""Sample values for the variables of a payload, for test requests."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

from shared.domain.events.types import ARTIFACT_TYPES, COLLECTION_TAG_TYPES, NOTICE_TYPES, RUN_TYPES, EventType
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


_OF_RUNS = ("run_id", "run_name")
_OF_METRICS = ("metric_name", "metric_value", "metric_threshold")
_OF_ARTIFACTS = ("artifact_collection_name", "artifact_version", "artifact_version_string")


def values_of_type(values: Mapping[str, str], event_type: EventType) -> dict[str, str]:
    """Those of sample values that events of a type have."""
    absent = {"alias", "tag", "run_state", *_OF_RUNS, *_OF_METRICS, *_OF_ARTIFACTS}
    if event_type in RUN_TYPES:
        absent -= {*_OF_RUNS, *(_OF_METRICS if event_type is EventType.RUN_METRIC else ("run_state",))}
    elif event_type in COLLECTION_TAG_TYPES:
        absent -= {"tag", "artifact_collection_name"}
    elif event_type in ARTIFACT_TYPES:
        absent -= {*_OF_ARTIFACTS, *(("tag",) if event_type.endswith("_TAG") else ())}
        absent -= {"alias"} if event_type.endswith("_ALIAS") else set()
    if event_type in NOTICE_TYPES:
        absent.add("project_name")
    kept = {name: value for name, value in values.items() if name not in absent}
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
