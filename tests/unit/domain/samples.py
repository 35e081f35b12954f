"""Events of every type, as the contract's section 2 writes them, for the tests of this folder."""

from __future__ import annotations

import copy
from typing import Any

from shared.domain.events.types import ARTIFACT_TYPES, COLLECTION_TAG_TYPES, NOTICE_TYPES, RUN_TYPES, EventType

Raw = dict[str, Any]

OWN_MEMBERS: dict[EventType, Raw] = {
    EventType.ADD_ARTIFACT_ALIAS: {"alias": "production"},
    EventType.REMOVE_ARTIFACT_ALIAS: {"alias": "production"},
    EventType.ADD_ARTIFACT_TAG: {"tag": "approved"},
    EventType.REMOVE_ARTIFACT_TAG: {"tag": "approved"},
    EventType.ADD_COLLECTION_TAG: {"tag": "approved"},
    EventType.REMOVE_COLLECTION_TAG: {"tag": "approved"},
    EventType.RUN_METRIC: {"step": 7, "metrics": {"val_accuracy": 0.97}},
    EventType.RUN_STATE: {"state": "finished"},
    EventType.RUN_ALERT: {"title": "Low accuracy", "text": "accuracy 0.42 is below 0.5", "level": "WARN"},
    EventType.DEAD_LETTER: {
        "delivery": {
            "id": "dlv_old",
            "status": "refused",
            "attempts": 1,
            "automation": "deploy",
            "event_type": "ADD_ARTIFACT_ALIAS",
            "event_source": "/platform/eu-1",
            "event_id": "event-0",
        }
    },
}


def event(event_type: EventType | str = EventType.ADD_ARTIFACT_ALIAS, **data: Any) -> Raw:
    """An event of this type, members of its data replaced; `...` leaves a member out."""
    event_type = EventType(event_type)
    members: Raw = {"entity": "acme", "author": "alice"}
    if event_type is EventType.AUTOMATION_UNMATCHED:
        members |= {"automation": {"id": "aut_1", "name": "deploy"}, "reason": "its filter would take too much"}
    elif event_type in NOTICE_TYPES:
        members |= {"webhook": {"id": "wh_1", "name": "deploy-hook"}, "reason": "the endpoint answered 404"}
    else:
        members["project"] = "wandb-registry-model"
    if event_type in ARTIFACT_TYPES | COLLECTION_TAG_TYPES:
        members["collection"] = {"name": "llm-models", "type": "model"}
    if event_type in RUN_TYPES:
        members["run"] = {"id": "r1", "name": "run one"}
    if event_type in ARTIFACT_TYPES:
        members["artifact"] = {
            "id": "QXJ0aWZhY3Q6NTE3ODg5ODg3",
            "version": "v3",
            "aliases": ["v3"],
            "tags": [],
            "metadata": {"model_type": "llm"},
        }
    members |= copy.deepcopy(OWN_MEMBERS.get(event_type, {})) | data
    return {
        "specversion": "1.0",
        "id": "event-1",
        "source": "/platform/eu-1",
        "type": str(event_type),
        "time": "2026-11-23T09:00:00Z",
        "data": {name: value for name, value in members.items() if value is not ...},
    }
