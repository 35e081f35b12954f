"""Azure Event Grid: its own schema and CloudEvents 1.0, and what Azure Machine Learning says by it.

https://learn.microsoft.com/azure/event-grid/event-schema-machine-learning and, for the handshake of its own schema,
https://learn.microsoft.com/azure/event-grid/end-point-validation-event-grid-events-schema.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from shared.domain.events.types import EventType, RunPhase
from shared.domain.sources.bodies import MAX_PARTS, fit_key, labels_of, object_of, text_of, time_or_none
from shared.domain.sources.model import Draft, InboundRequest, NotUnderstood, Reading, Source

MAX_ENVELOPES: Final = 1000
_OWN = "Microsoft.MachineLearningServices."
_VALIDATION = "Microsoft.EventGrid.SubscriptionValidationEvent"
_STATES: Mapping[str, RunPhase] = {
    "running": RunPhase.RUNNING,
    "completed": RunPhase.FINISHED,
    "failed": RunPhase.FAILED,
    "canceled": RunPhase.KILLED,
    "notresponding": RunPhase.CRASHED,
    "preempted": RunPhase.PREEMPTED,
}
"""The states of a job that Hookline has a word for; those before it runs are none."""


def envelopes(body: object) -> list[Mapping[str, Any]]:
    """The events of a body: a list in its own schema, one or a list in CloudEvents'. Raises NotUnderstood."""
    found: list[Any] = body if isinstance(body, list) else [body]
    if not 1 <= len(found) <= MAX_ENVELOPES or not all(
        isinstance(one, dict) and _type(one) and text_of(one.get("id")) for one in found
    ):
        raise NotUnderstood("the body must be a list of events with id and eventType, or CloudEvents with id and type")
    return found


def handshake(body: object) -> dict[str, Any] | None:
    """The answer to a validation of the endpoint; None where the body is none."""
    first = object_of(body[0]) if isinstance(body, list) and len(body) == 1 else object_of(body)
    if _type(first) != _VALIDATION:
        return None
    code = object_of(first.get("data")).get("validationCode")
    return {"validationResponse": code} if isinstance(code, str) and len(code) <= 512 else None


def read(source: Source, request: InboundRequest, body: object) -> Reading:
    """What a request of Event Grid's says. Raises NotUnderstood."""
    reading = Reading()
    for envelope in envelopes(body):
        _read_envelope(reading, envelope)
    return reading


def envelope_key(envelope: Mapping[str, Any]) -> str:
    """What a redelivered event has again: its source, or topic, and its id."""
    return fit_key(text_of(envelope.get("source") or envelope.get("topic")), text_of(envelope.get("id")))


def _type(envelope: Mapping[str, Any]) -> str:
    return text_of(envelope.get("type") or envelope.get("eventType"))


def _read_envelope(reading: Reading, envelope: Mapping[str, Any]) -> None:
    name, data = _type(envelope), object_of(envelope.get("data"))
    key, time = envelope_key(envelope), time_or_none(envelope.get("time") or envelope.get("eventTime"))
    if name == f"{_OWN}ModelRegistered":
        said = _registered(data)
        reading.drafts += [
            Draft(type=kind, key=key, data=said, time=time)
            for kind in (EventType.CREATE_ARTIFACT, EventType.LINK_ARTIFACT)
        ]
    elif name == f"{_OWN}ModelDeployed":
        reading.drafts += [
            Draft(type=EventType.ADD_ARTIFACT_TAG, key=fit_key(key, place), data=said, time=time)
            for place, said in enumerate(_deployed(data))
        ]
    elif name in (f"{_OWN}RunCompleted", f"{_OWN}RunStatusChanged"):
        state = text_of(data.get("runStatus")) or ("completed" if name.endswith("RunCompleted") else "")
        phase = _STATES.get(state.lower())
        if phase is None:
            reading.ignore("a job's status before it runs, or while it ends, is no event")
        elif name.endswith("RunStatusChanged") and phase is RunPhase.FINISHED:
            reading.ignore("a job's status Completed is an event as RunCompleted: subscribe to that")
        else:
            reading.drafts.append(Draft(type=EventType.RUN_STATE, key=key, data=_run(data, phase), time=time))
    else:
        reading.ignore(f"{name} is not read: Azure Machine Learning's models and jobs are; rules read any other")


def _registered(data: Mapping[str, Any]) -> dict[str, Any]:
    name, version = text_of(data.get("ModelName")), text_of(data.get("ModelVersion"))
    tags, properties = object_of(data.get("ModelTags")), object_of(data.get("ModelProperties"))
    return {
        "collection": {"name": name, "type": "model"},
        "artifact": {**_artifact(name, version), "tags": labels_of(tags), "metadata": {**properties, **tags}},
    }


def _deployed(data: Mapping[str, Any]) -> list[dict[str, Any]]:
    service, tags = text_of(data.get("ServiceName")), object_of(data.get("ServiceTags"))
    tag = text_of(f"deployed:{service}")
    found = []
    models = data.get("ModelIds")
    for one in models.split(",", MAX_PARTS)[:MAX_PARTS] if isinstance(models, str) else ():
        name, _, version = text_of(one).rpartition(":")
        if name:
            artifact = {**_artifact(name, version), "tags": [tag], "metadata": {**tags, "service": service}}
            found.append({"collection": {"name": name, "type": "model"}, "artifact": artifact, "tag": tag})
    return found


def _artifact(name: str, version: str) -> dict[str, Any]:
    return {"id": text_of(f"{name}:{version}"), "version": f"v{version}" if version.isdecimal() else version}


def _run(data: Mapping[str, Any], phase: RunPhase) -> dict[str, Any]:
    run_id = text_of(data.get("runId"))
    properties, tags = object_of(data.get("runProperties")), object_of(data.get("runTags"))
    said: dict[str, Any] = {
        "run": {"id": run_id, "name": run_id, "config": {**properties, **tags}},
        "state": str(phase),
    }
    if experiment := text_of(data.get("experimentName")):
        said["project"] = experiment
    return said
