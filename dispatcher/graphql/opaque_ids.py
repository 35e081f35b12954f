"""Ids of what has no id of its own in REST, in W&B's own forms: Base64 of a type and names.

Automations and integrations keep the ids they have everywhere (`aut_12`, `wh_3`). A client must not need to read one,
except a project's `internalId`, from which the `wandb` client takes the number.
"""

from __future__ import annotations

import base64
import binascii

import orjson


def entity_id(name: str) -> str:
    """`Entity:<name>`."""
    return _encoded(f"Entity:{name}")


def organization_id(name: str) -> str:
    """`Organization:<name>`."""
    return _encoded(f"Organization:{name}")


def project_id(entity: str, project: str) -> str:
    """`Project:v1:<project>:<entity>`."""
    return _encoded(f"Project:v1:{project}:{entity}")


def internal_project_id(number: int) -> str:
    """`ProjectInternalId:<number>`."""
    return _encoded(f"ProjectInternalId:{number}")


def artifact_type_id(entity: str, project: str, name: str) -> str:
    """`ArtifactType:<names as a JSON list>`."""
    return _encoded(f"ArtifactType:{orjson.dumps([entity, project, name]).decode()}")


def collection_id(entity: str, project: str, collection: str) -> str:
    """`ArtifactCollection:<names as a JSON list>`."""
    return _encoded(f"ArtifactCollection:{orjson.dumps([entity, project, collection]).decode()}")


def run_id(entity: str, project: str, run: str, starts: int | None = None) -> str:
    """`Run:<names as a JSON list>`; with how often it was started, an id by which it can be started again."""
    return _encoded(f"Run:{orjson.dumps([entity, project, run, *(() if starts is None else (starts,))]).decode()}")


def read_starts(text: str) -> int | None:
    """How often the run had been started when `run_id` was asked for an id to start it again; None for another id."""
    try:
        parts = orjson.loads(_decoded(text).removeprefix("Run:"))
    except orjson.JSONDecodeError:
        return None
    if not (isinstance(parts, list) and len(parts) == 4 and type(parts[3]) is int):
        return None
    return parts[3] if all(isinstance(name, str) for name in parts[:3]) and run_id(*parts) == text else None


def read_entity_id(text: str) -> str | None:
    """The entity's name; None for anything that `entity_id` did not write."""
    name = _decoded(text).removeprefix("Entity:")
    return name if entity_id(name) == text else None


def read_project_id(text: str) -> tuple[str, str] | None:
    """The names of entity and project; None for anything that `project_id` did not write."""
    project, _, entity = _decoded(text).removeprefix("Project:v1:").rpartition(":")
    return (entity, project) if project_id(entity, project) == text else None


def read_collection_id(text: str) -> tuple[str, str, str] | None:
    """The names of entity, project and collection; None for anything that `collection_id` did not write."""
    try:
        names = orjson.loads(_decoded(text).removeprefix("ArtifactCollection:"))
    except orjson.JSONDecodeError:
        return None
    if not (isinstance(names, list) and len(names) == 3 and all(isinstance(name, str) for name in names)):
        return None
    entity, project, collection = names
    if any("\0" in name for name in names):
        return None
    return (entity, project, collection) if collection_id(*names) == text else None


def _encoded(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


def _decoded(text: str) -> str:
    try:
        decoded = base64.b64decode(text, validate=True).decode()
    except (binascii.Error, ValueError):
        return ""
    return "" if "\0" in decoded else decoded  # which PostgreSQL can't look for
