"""The events that every contestant gets, and what it has to make of each: one delivery of about 600 bytes.

The automation is the registry's everyday one: an alias of a certain form was added in one project. All events
match it, so that a delivery is expected for each. Partition keys vary as over a few dozen collections.
"""

from __future__ import annotations

import zlib
from typing import Any

Event = dict[str, Any]

ENTITY = "bench"
PROJECT = "wandb-registry-model"
EVENT_TYPE = "ADD_ARTIFACT_ALIAS"
ALIAS_PATTERN = "^prod(uction)?$"
COLLECTIONS = 48

PAYLOAD = {
    "event_id": "${event_id}",
    "event_type": "${event_type}",
    "author": "${event_author}",
    "entity": "${entity_name}",
    "project": "${project_name}",
    "collection": "${artifact_collection_name}",
    "alias": "${alias}",
    "artifact": "${artifact_version}",
    "version": "${artifact_version_string}",
    "ref": "main",
    "client_payload": {
        "model": "${artifact_version_string}",
        "model_type": "${artifact_metadata.model_type}",
        "dataset": "${artifact_metadata.dataset}",
        "requested_by": "${event_author}",
        "message": "${event_author} marked ${artifact_version_string} as ${alias}; deploy it to the staging cluster.",
    },
}


def make_events(label: str, count: int) -> list[Event]:
    """`count` distinct CloudEvents whose ids begin with `label`, spread over the collections in turn."""
    return [_event(f"{label}-{number:06d}", number) for number in range(count)]


def _event(event_id: str, number: int) -> Event:
    return {
        "specversion": "1.0",
        "id": event_id,
        "source": "/platform/bench-1",
        "type": EVENT_TYPE,
        "time": "2026-11-23T09:00:00Z",
        "data": {
            "entity": ENTITY,
            "project": PROJECT,
            "author": "alice",
            "collection": {"name": f"llm-models-{number % COLLECTIONS:02d}", "type": "model"},
            "artifact": {
                "id": f"QXJ0aWZhY3Q6{number:08d}",
                "version": f"v{number}",
                "aliases": [f"v{number}", "latest"],
                "tags": ["evaluated", "eu"],
                "metadata": {
                    "model_type": "llm",
                    "dataset": "support-tickets-2026-10",
                    "val_accuracy": 0.9731,
                    "framework": "torch",
                    "parameters": 7_000_000_000,
                },
            },
            "alias": "production",
        },
    }


def stream_key(event: Event, partitions: int) -> str:
    """The stream that a backend must append this artifact event to: CRC-32 over its collection."""
    data = event["data"]
    key = f"{data['entity']}/{data['project']}/collection:{data['collection']['name']}"
    return f"hookline:events:{{{zlib.crc32(key.encode()) % partitions}}}"
