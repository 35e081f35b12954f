"""MLflow's own webhooks (https://mlflow.org/docs/latest/ml/webhooks; 3.3 and later): the model registry's changes.

A body has `entity`, `action`, `timestamp` and `data`. A new version is both created and linked, as W&B says it. MLflow
sends no version with an alias or tag that is deleted, and no author.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from shared.domain.events.types import EventType
from shared.domain.sources.bodies import fit_key, labels_of, object_of, pair, text_of, time_or_none
from shared.domain.sources.model import Draft, InboundRequest, NotUnderstood, Reading, Source

_PROMPTS = {
    "prompt": "registered_model",
    "prompt_version": "model_version",
    "prompt_tag": "collection_tag",
    "prompt_version_tag": "model_version_tag",
    "prompt_alias": "model_version_alias",
}
_TYPES: Mapping[tuple[str, str], tuple[EventType, ...]] = {
    ("model_version", "created"): (EventType.CREATE_ARTIFACT, EventType.LINK_ARTIFACT),
    ("model_version_tag", "set"): (EventType.ADD_ARTIFACT_TAG,),
    ("model_version_tag", "deleted"): (EventType.REMOVE_ARTIFACT_TAG,),
    ("model_version_alias", "created"): (EventType.ADD_ARTIFACT_ALIAS,),
    ("model_version_alias", "deleted"): (EventType.REMOVE_ARTIFACT_ALIAS,),
    ("collection_tag", "set"): (EventType.ADD_COLLECTION_TAG,),
    ("collection_tag", "deleted"): (EventType.REMOVE_COLLECTION_TAG,),
}


def read(source: Source, request: InboundRequest, body: object) -> Reading:
    """What a request of MLflow's says. Raises NotUnderstood."""
    reading, members = Reading(), object_of(body)
    entity, action, data = text_of(members.get("entity")), text_of(members.get("action")), members.get("data")
    if not (entity and action and isinstance(data, dict)):
        raise NotUnderstood("the body must have entity, action and data, as MLflow's webhooks have")
    is_prompt = entity in _PROMPTS
    types = _TYPES.get((_PROMPTS.get(entity, entity), action))
    if types is None:
        reading.ignore(f"{entity}.{action} is nothing that Hookline has events for")
        return reading
    key = fit_key(request.delivery_id(source.proof))
    time = time_or_none(members.get("timestamp"))
    for event_type in types:
        said = _data(event_type, data, is_prompt=is_prompt)
        reading.drafts.append(Draft(type=event_type, key=key, data=said, time=time))
    return reading


def _data(event_type: EventType, data: Mapping[str, Any], *, is_prompt: bool) -> dict[str, Any]:
    name = text_of(data.get("name"))
    said: dict[str, Any] = {"collection": {"name": name, "type": "prompt" if is_prompt else "model"}}
    tag = pair(data.get("key"), data.get("value"))
    if event_type in (EventType.ADD_COLLECTION_TAG, EventType.REMOVE_COLLECTION_TAG):
        return {**said, "tag": tag}
    artifact = _artifact(name, data)
    said["artifact"] = artifact
    if event_type in (EventType.ADD_ARTIFACT_ALIAS, EventType.REMOVE_ARTIFACT_ALIAS):
        said["alias"] = alias = text_of(data.get("alias"))
        if event_type is EventType.ADD_ARTIFACT_ALIAS:
            artifact["aliases"] = [alias]
    if event_type in (EventType.ADD_ARTIFACT_TAG, EventType.REMOVE_ARTIFACT_TAG):
        said["tag"] = tag
        if event_type is EventType.ADD_ARTIFACT_TAG:
            artifact["tags"] = [tag]
            artifact["metadata"] = {text_of(data.get("key")): data.get("value")}
    return said


def _artifact(name: str, data: Mapping[str, Any]) -> dict[str, Any]:
    version, tags = text_of(data.get("version")), object_of(data.get("tags"))
    artifact: dict[str, Any] = {
        "id": text_of(f"models:/{name}/{version}" if version else f"models:/{name}@{text_of(data.get('alias'))}"),
        "version": f"v{version}" if version.isdecimal() else version,
    }
    own = {key: value for key, value in tags.items() if not key.startswith("mlflow.")}
    if own:
        artifact["tags"] = labels_of(own)
    more = {key: data[key] for key in ("run_id", "source", "description") if data.get(key)}
    if own or more:
        artifact["metadata"] = {**own, **more}
    return artifact
