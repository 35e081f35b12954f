"""Events: one builder for each type. An event is checked when it is built, and then has its id for good.

    from hookline import events

    events.alias_added(
        project="models",
        collection=events.Collection("llm", "model"),
        artifact=events.Artifact("a1", version="v3"),
        alias="production",
    )

The envelope is CloudEvents 1.0. `entity` is HOOKLINE_ENTITY unless it is given, `source` is HOOKLINE_SOURCE or
`/python/<host>`, `id` a new UUID. Give `id` where the fact has a natural one: `source` and `id` identify an event, and
a repeat fires nothing again.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any, Literal, TypedDict

from hookline import configuration, ids, tracing
from hookline.errors import InvalidEvent
from hookline.values import MAX_METRICS, MAX_NAME_CHARS, NON_FINITE, Sample, json_value, sample

if TYPE_CHECKING:
    from typing_extensions import Unpack

MAX_EVENT_BYTES = 1 << 20
MAX_HEARTBEAT_SECONDS = 30 * 86_400
State = Literal["running", "finished", "failed", "crashed", "killed", "preempted"]
STATES: tuple[State, ...] = ("running", "finished", "failed", "crashed", "killed", "preempted")
Level = Literal["INFO", "WARN", "ERROR"]
LEVELS: tuple[Level, ...] = ("INFO", "WARN", "ERROR")
MAX_TEXT_CHARS = 4096
TYPES = (
    "CREATE_ARTIFACT",
    "LINK_ARTIFACT",
    "UNLINK_ARTIFACT",
    "ADD_ARTIFACT_ALIAS",
    "REMOVE_ARTIFACT_ALIAS",
    "ADD_ARTIFACT_TAG",
    "REMOVE_ARTIFACT_TAG",
    "ADD_COLLECTION_TAG",
    "REMOVE_COLLECTION_TAG",
    "RUN_METRIC",
    "RUN_STATE",
    "RUN_ALERT",
)
_NAME = re.compile(rf"[^\x00-\x1f\x7f]{{1,{MAX_NAME_CHARS}}}")
_TEXT = re.compile(rf"[^\x00-\x08\x0b\x0c\x0e-\x1f\x7f]{{0,{MAX_TEXT_CHARS}}}")
_LABEL = re.compile(rf"[^\x00-\x1f\x7f]{{0,{MAX_NAME_CHARS}}}")


@dataclass(frozen=True)
class Event:
    """One fact, as `Client.publish` takes it. Build it with a function of this module."""

    type: str
    id: str
    source: str
    time: str
    """RFC 3339 with its zone."""
    data: Mapping[str, Any]
    extensions: Mapping[str, str] = field(default_factory=dict)
    """Further members of the envelope: the trace."""

    def to_dict(self) -> dict[str, Any]:
        """The event in structured mode."""
        envelope = {"specversion": "1.0", "id": self.id, "source": self.source, "type": self.type, "time": self.time}
        return {**envelope, **self.extensions, "data": dict(self.data)}

    def to_json(self) -> bytes:
        """The event's JSON text, on one line. Raises InvalidEvent above 1 MiB."""
        text = json.dumps(self.to_dict(), separators=(",", ":"), ensure_ascii=False, allow_nan=False)
        encoded = text.encode("utf-8", "replace")
        if len(encoded) > MAX_EVENT_BYTES:
            raise InvalidEvent(f"an event must have at most {MAX_EVENT_BYTES} bytes; this one has {len(encoded)}")
        return encoded


@dataclass(frozen=True)
class Collection:
    """A named line of artifact versions; MLflow calls it a registered model."""

    name: str
    type: str = ""
    """Such as `model` or `dataset`."""


@dataclass(frozen=True)
class Artifact:
    """One version in a collection, as it is after the event."""

    id: str
    version: str = ""
    aliases: Sequence[str] = ()
    tags: Sequence[str] = ()
    metadata: Mapping[str, Any] = field(default_factory=dict)


class Run:
    """A run. All further members can be used in filters as `run.<key>`, such as `run.group`."""

    def __init__(
        self,
        id: str,
        name: str = "",
        *,
        display_name: str | None = None,
        config: Mapping[str, Any] | None = None,
        **members: Any,
    ) -> None:
        self.id, self.name, self.display_name = id, name, display_name
        self.config = dict(config or {})
        self.members = members

    def __repr__(self) -> str:
        return f"Run({self.id!r}, {self.name!r})"


class Common(TypedDict, total=False):
    """What every builder takes."""

    entity: str | None
    """The team that owns the project; default HOOKLINE_ENTITY."""
    author: str
    """Who did it."""
    id: str | None
    source: str | None
    time: datetime | str | None
    """When it happened; default now. A datetime needs its zone."""


def artifact_created(
    *, project: str, collection: Collection | str, artifact: Artifact, **common: Unpack[Common]
) -> Event:
    """`CREATE_ARTIFACT`: a new version. Raises InvalidEvent, as all builders do."""
    return _artifact_event("CREATE_ARTIFACT", project, collection, artifact, {}, common)


def artifact_linked(
    *, project: str, collection: Collection | str, artifact: Artifact, **common: Unpack[Common]
) -> Event:
    """`LINK_ARTIFACT`: a version was linked to a collection, of a registry for instance."""
    return _artifact_event("LINK_ARTIFACT", project, collection, artifact, {}, common)


def artifact_unlinked(
    *, project: str, collection: Collection | str, artifact: Artifact, **common: Unpack[Common]
) -> Event:
    """`UNLINK_ARTIFACT`: a version is no longer in a collection."""
    return _artifact_event("UNLINK_ARTIFACT", project, collection, artifact, {}, common)


def alias_added(
    *, project: str, collection: Collection | str, artifact: Artifact, alias: str, **common: Unpack[Common]
) -> Event:
    """`ADD_ARTIFACT_ALIAS`: a version got an alias, such as `production`."""
    return _artifact_event("ADD_ARTIFACT_ALIAS", project, collection, artifact, {"alias": alias}, common)


def alias_removed(
    *, project: str, collection: Collection | str, artifact: Artifact, alias: str, **common: Unpack[Common]
) -> Event:
    """`REMOVE_ARTIFACT_ALIAS`: a version lost an alias."""
    return _artifact_event("REMOVE_ARTIFACT_ALIAS", project, collection, artifact, {"alias": alias}, common)


def artifact_tag_added(
    *, project: str, collection: Collection | str, artifact: Artifact, tag: str, **common: Unpack[Common]
) -> Event:
    """`ADD_ARTIFACT_TAG`. Where tags have values, as in MLflow, the tag is `key:value`."""
    return _artifact_event("ADD_ARTIFACT_TAG", project, collection, artifact, {"tag": tag}, common)


def artifact_tag_removed(
    *, project: str, collection: Collection | str, artifact: Artifact, tag: str, **common: Unpack[Common]
) -> Event:
    """`REMOVE_ARTIFACT_TAG`."""
    return _artifact_event("REMOVE_ARTIFACT_TAG", project, collection, artifact, {"tag": tag}, common)


def collection_tag_added(*, project: str, collection: Collection | str, tag: str, **common: Unpack[Common]) -> Event:
    """`ADD_COLLECTION_TAG`."""
    return _event(
        "ADD_COLLECTION_TAG", project, {"collection": _collection(collection), "tag": _name("tag", tag)}, common
    )


def collection_tag_removed(*, project: str, collection: Collection | str, tag: str, **common: Unpack[Common]) -> Event:
    """`REMOVE_COLLECTION_TAG`."""
    members = {"collection": _collection(collection), "tag": _name("tag", tag)}
    return _event("REMOVE_COLLECTION_TAG", project, members, common)


def run_metrics(
    *, project: str, run: Run | str, step: int, metrics: Mapping[str, Any], **common: Unpack[Common]
) -> Event:
    """`RUN_METRIC`: what a run logged at a step.

    A step is a whole number from 0 that increases within the run: Hookline ignores a sample at or before a metric's
    last step. Numbers may be those of numpy or torch; NaN and infinities are sent as text, since JSON has none.
    """
    if isinstance(step, bool) or not hasattr(step, "__index__") or not 0 <= step.__index__() < 2**63:
        raise InvalidEvent(f"data.step: must be a whole number from 0, not {step!r}")
    if not 1 <= len(metrics) <= MAX_METRICS:
        raise InvalidEvent(f"data.metrics: must have 1 to {MAX_METRICS} metrics, not {len(metrics)}")
    checked: dict[str, Sample] = {}
    for name, value in metrics.items():
        number = value if isinstance(value, str) and value in NON_FINITE else sample(value)
        if number is None:
            raise InvalidEvent(f"data.metrics.{name}: must be a number, not {type(value).__name__}")
        checked[_name("metrics", name)] = number
    return _event("RUN_METRIC", project, {"run": _run(run), "step": step.__index__(), "metrics": checked}, common)


def run_state(
    *,
    project: str,
    run: Run | str,
    state: State,
    heartbeat_seconds: float | None = None,
    **common: Unpack[Common],
) -> Event:
    """`RUN_STATE`: a run began, ended, or lives.

    With `heartbeat_seconds`, which only `running` may have, Hookline itself publishes `crashed` if it hears nothing of
    the run for so long.
    """
    if state not in STATES:
        raise InvalidEvent(f"data.state: must be one of {', '.join(STATES)}, not {state!r}")
    members: dict[str, Any] = {"run": _run(run), "state": state}
    if heartbeat_seconds is not None:
        if state != "running":
            raise InvalidEvent("data.heartbeat_seconds: only the state running may have it")
        if not 1 <= heartbeat_seconds <= MAX_HEARTBEAT_SECONDS:
            raise InvalidEvent(
                f"data.heartbeat_seconds: must be 1 to {MAX_HEARTBEAT_SECONDS} seconds, not {heartbeat_seconds!r}"
            )
        whole = int(heartbeat_seconds)
        members["heartbeat_seconds"] = whole if whole == heartbeat_seconds else heartbeat_seconds
    return _event("RUN_STATE", project, members, common)


def run_alert(
    *, project: str, run: Run | str, title: str, text: str = "", level: Level = "INFO", **common: Unpack[Common]
) -> Event:
    """`RUN_ALERT`: a run tells people something. The text may have several lines."""
    if level not in LEVELS:
        raise InvalidEvent(f"data.level: must be one of {', '.join(LEVELS)}, not {level!r}")
    if not isinstance(text, str) or not _TEXT.fullmatch(text):
        raise InvalidEvent(
            f"data.text: must be text of at most {MAX_TEXT_CHARS} characters, "
            "without control characters but tabs and line breaks"
        )
    members = {"run": _run(run), "title": _name("title", title), "text": text, "level": level}
    return _event("RUN_ALERT", project, members, common)


def _artifact_event(
    type_: str,
    project: str,
    collection: Collection | str,
    artifact: Artifact,
    members: dict[str, str],
    common: Common,
) -> Event:
    if not isinstance(artifact, Artifact):
        raise InvalidEvent(f"data.artifact: must be an Artifact, not {type(artifact).__name__}")
    of_artifact = {
        "id": _name("artifact.id", artifact.id),
        "version": _label("artifact.version", artifact.version),
        "aliases": [_label("artifact.aliases", one) for one in artifact.aliases],
        "tags": [_label("artifact.tags", one) for one in artifact.tags],
        "metadata": json_value(artifact.metadata),
    }
    names = {key: _name(key, value) for key, value in members.items()}
    return _event(type_, project, {"collection": _collection(collection), "artifact": of_artifact, **names}, common)


def _event(type_: str, project: str, members: dict[str, Any], common: Common) -> Event:
    if unknown := common.keys() - Common.__annotations__.keys():
        raise TypeError(f"unexpected arguments: {', '.join(sorted(unknown))}")
    entity = common.get("entity") or configuration.default_entity()
    if entity is None:
        raise InvalidEvent("data.entity: is required: give entity=… or set HOOKLINE_ENTITY")
    data: dict[str, Any] = {"entity": _name("entity", entity), "project": _name("project", project)}
    if author := common.get("author"):
        data["author"] = _label("author", author)
    given_id, source = common.get("id"), common.get("source") or configuration.default_source()
    return Event(
        type=type_,
        id=ids.event_id() if given_id is None else _name("id", given_id, ""),
        source=_name("source", source, ""),
        time=_time(common.get("time")),
        data={**data, **members},
        extensions=tracing.trace_members(),
    )


def _time(value: datetime | str | None) -> str:
    if value is None:
        value = datetime.now(timezone.utc)
    if isinstance(value, datetime):
        if value.tzinfo is None:
            raise InvalidEvent("time: must have its zone, such as datetime.now(timezone.utc)")
        return value.isoformat(timespec="milliseconds").replace("+00:00", "Z")
    if not re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)", value, re.ASCII | re.I):
        raise InvalidEvent("time: must be a time with its zone as RFC 3339 writes it, such as 2026-11-23T09:00:00Z")
    return value


def _collection(value: Collection | str) -> dict[str, str]:
    if isinstance(value, str):
        value = Collection(value)
    if not isinstance(value, Collection):
        raise InvalidEvent(f"data.collection: must be a Collection or its name, not {type(value).__name__}")
    return {"name": _name("collection.name", value.name), "type": _label("collection.type", value.type)}


def _run(value: Run | str) -> dict[str, Any]:
    if isinstance(value, str):
        value = Run(value)
    if not isinstance(value, Run):
        raise InvalidEvent(f"data.run: must be a Run or its id, not {type(value).__name__}")
    run: dict[str, Any] = json_value(value.members)
    run |= {"id": _name("run.id", value.id), "name": _label("run.name", value.name)}
    if value.display_name is not None:
        run["display_name"] = _label("run.display_name", value.display_name)
    return {**run, "config": json_value(value.config)}


def _name(path: str, value: object, within: str = "data.") -> str:
    if not isinstance(value, str) or not _NAME.fullmatch(value):
        raise InvalidEvent(f"{within}{path}: must be a name of 1 to 512 characters, without control characters")
    return value


def _label(path: str, value: object) -> str:
    if not isinstance(value, str) or not _LABEL.fullmatch(value):
        raise InvalidEvent(f"data.{path}: must be text of at most 512 characters, without control characters")
    return value
