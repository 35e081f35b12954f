"""A second decoder for events, which takes a third of the time of the models.

`read_event` uses it only for JSON that the models are sure to accept with the same values. Everything else goes to
`decode_event`, which alone decides what is refused and why. So the two can't disagree, neither
in what is matched nor in what payloads are made of: a test holds them to it.
"""

from __future__ import annotations

import re
from datetime import datetime
from typing import Annotated, Any, ClassVar, Literal, TypeAlias

import msgspec

from shared.domain.events.decoding import decode_event
from shared.domain.events.limits import MAX_BATCH_EVENTS, MAX_EVENT_BYTES
from shared.domain.events.models import Event
from shared.domain.events.types import AlertLevel, EventType, RunPhase
from shared.domain.events.values import MAX_METRICS, MAX_NAME_LENGTH, MAX_TEXT_LENGTH

_Name = Annotated[str, msgspec.Meta(min_length=1, max_length=MAX_NAME_LENGTH)]
_Label = Annotated[str, msgspec.Meta(max_length=MAX_NAME_LENGTH)]
_Text = Annotated[str, msgspec.Meta(max_length=MAX_TEXT_LENGTH)]
_Step = Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]
_Whole = Annotated[int, msgspec.Meta(ge=-(2**63), le=2**63 - 1)]
_Samples = Annotated[dict[_Name, _Whole | float], msgspec.Meta(min_length=1, max_length=MAX_METRICS)]


class QuickCollection(msgspec.Struct, gc=False):
    """A named line of artifact versions."""

    name: _Name
    type: _Label = ""


class QuickArtifact(msgspec.Struct):
    """One version in a collection."""

    id: _Name
    version: _Label = ""
    aliases: tuple[_Label, ...] = ()
    tags: tuple[_Label, ...] = ()
    metadata: dict[str, Any] = {}


class QuickRun:
    """A run, with all members as they were sent."""

    __slots__ = ("config", "display_name", "id", "members", "name")

    def __init__(self, members: dict[str, Any]) -> None:
        """Raises ValueError where the members are not, or may not be, those of a run."""
        get = members.get
        self.members = members
        self.id: str = get("id", "")
        self.name: str = get("name", "")
        self.display_name: str | None = get("display_name")
        self.config: dict[str, Any] = get("config", _NO_CONFIG)
        if not (_is_label(self.id) and self.id and _is_label(self.name) and type(self.config) is dict):
            raise ValueError("a run has an id, perhaps a name, and its config is an object")
        if not (self.display_name is None or _is_label(self.display_name)):
            raise ValueError("a run's display name is a text")


_NO_CONFIG: dict[str, Any] = {}


def _is_label(value: object) -> bool:
    return type(value) is str and len(value) <= MAX_NAME_LENGTH


class QuickArtifactData(msgspec.Struct):
    """The data of artifact events; `alias` and `tag` are members of those that have one."""

    entity: _Name
    project: _Name
    collection: QuickCollection
    artifact: QuickArtifact
    author: _Label = ""


class QuickAliasData(QuickArtifactData, kw_only=True):
    """An alias was added or removed."""

    alias: _Name


class QuickArtifactTagData(QuickArtifactData, kw_only=True):
    """A version's tag was added or removed."""

    tag: _Name


class QuickCollectionTagData(msgspec.Struct):
    """A collection's tag was added or removed."""

    entity: _Name
    project: _Name
    collection: QuickCollection
    tag: _Name
    author: _Label = ""


class QuickMetricData(msgspec.Struct):
    """A run logged metrics."""

    entity: _Name
    project: _Name
    run: QuickRun
    metrics: _Samples
    step: _Step | None = None
    author: _Label = ""


class QuickStateData(msgspec.Struct):
    """A run entered a state."""

    entity: _Name
    project: _Name
    run: QuickRun
    state: RunPhase
    author: _Label = ""
    heartbeat_seconds: Any = None
    silent_seconds: Any = None
    """Both are always none: an event with one is left to the models."""


class QuickAlertData(msgspec.Struct):
    """A run raised an alert."""

    entity: _Name
    project: _Name
    run: QuickRun
    title: _Name
    text: _Text = ""
    level: AlertLevel = AlertLevel.INFO
    author: _Label = ""


class _Quick(msgspec.Struct, tag_field="type"):
    specversion: Literal["1.0"]
    id: _Name
    source: _Name
    time: str | None = None


class QuickCreate(_Quick, tag="CREATE_ARTIFACT", kw_only=True):
    type: ClassVar[EventType] = EventType.CREATE_ARTIFACT
    data: QuickArtifactData


class QuickLink(_Quick, tag="LINK_ARTIFACT", kw_only=True):
    type: ClassVar[EventType] = EventType.LINK_ARTIFACT
    data: QuickArtifactData


class QuickUnlink(_Quick, tag="UNLINK_ARTIFACT", kw_only=True):
    type: ClassVar[EventType] = EventType.UNLINK_ARTIFACT
    data: QuickArtifactData


class QuickAlias(_Quick, tag="ADD_ARTIFACT_ALIAS", kw_only=True):
    type: ClassVar[EventType] = EventType.ADD_ARTIFACT_ALIAS
    data: QuickAliasData


class QuickUnalias(_Quick, tag="REMOVE_ARTIFACT_ALIAS", kw_only=True):
    type: ClassVar[EventType] = EventType.REMOVE_ARTIFACT_ALIAS
    data: QuickAliasData


class QuickArtifactTag(_Quick, tag="ADD_ARTIFACT_TAG", kw_only=True):
    type: ClassVar[EventType] = EventType.ADD_ARTIFACT_TAG
    data: QuickArtifactTagData


class QuickArtifactUntag(_Quick, tag="REMOVE_ARTIFACT_TAG", kw_only=True):
    type: ClassVar[EventType] = EventType.REMOVE_ARTIFACT_TAG
    data: QuickArtifactTagData


class QuickCollectionTag(_Quick, tag="ADD_COLLECTION_TAG", kw_only=True):
    type: ClassVar[EventType] = EventType.ADD_COLLECTION_TAG
    data: QuickCollectionTagData


class QuickCollectionUntag(_Quick, tag="REMOVE_COLLECTION_TAG", kw_only=True):
    type: ClassVar[EventType] = EventType.REMOVE_COLLECTION_TAG
    data: QuickCollectionTagData


class QuickMetric(_Quick, tag="RUN_METRIC", kw_only=True):
    type: ClassVar[EventType] = EventType.RUN_METRIC
    data: QuickMetricData


class QuickState(_Quick, tag="RUN_STATE", kw_only=True):
    type: ClassVar[EventType] = EventType.RUN_STATE
    data: QuickStateData


class QuickAlert(_Quick, tag="RUN_ALERT", kw_only=True):
    type: ClassVar[EventType] = EventType.RUN_ALERT
    data: QuickAlertData


QuickEvent: TypeAlias = (
    QuickCreate
    | QuickLink
    | QuickUnlink
    | QuickAlias
    | QuickUnalias
    | QuickArtifactTag
    | QuickArtifactUntag
    | QuickCollectionTag
    | QuickCollectionUntag
    | QuickMetric
    | QuickState
    | QuickAlert
)


AnyEvent: TypeAlias = Event | QuickEvent
"""An event, however it was read: the members that matching reads are the same."""


def _run(kind: type, members: Any) -> QuickRun:
    if kind is not QuickRun or type(members) is not dict:
        raise ValueError("a run is an object")
    return QuickRun(members)


_decode = msgspec.json.Decoder(QuickEvent, dec_hook=_run).decode
# Escapes, and DEL, by which a string may contain what names must not: control characters and lone surrogates.
_DOUBTFUL = re.compile(rb"\x7f|\\(?:[bfnrt]|u00[01]|u007[fF]|u[dD][89a-fA-F])").search
# The times on which all parsers agree.
_PLAIN_TIME = re.compile(
    r"(?!0000)[0-9]{4}-[0-9]{2}-[0-9]{2}T(?:[01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](?:\.[0-9]{3}|\.[0-9]{6})?Z",
    re.ASCII,
).fullmatch


_SURE_DEPTH = 150
"""The models read some 200 levels, msgspec as many as Python's stack has left: what is made of those may not fit it."""
_SHALLOW_BYTES = 2 * _SURE_DEPTH
"""So many levels take more bytes than this, a bracket at each end."""
# Possessive, and also one without an end: else each quote in that would be tried as a beginning, up to the end.
_STRINGS = re.compile(rb'"(?:[^"\\]++|\\.)*+"?')
_NOT_BRACKETS = bytes(set(range(256)) - set(b"[]{}"))


def _nests_deeply(body: bytes) -> bool:
    """Whether there may be more than `_SURE_DEPTH` levels."""
    if body.count(b"[") + body.count(b"{") <= _SURE_DEPTH:
        return False
    depth = 0
    for bracket in _STRINGS.sub(b"", body).translate(None, _NOT_BRACKETS):
        depth += 1 if bracket in b"[{" else -1
        if depth > _SURE_DEPTH:
            return True
    return False


def quick_event(body: bytes) -> QuickEvent | None:
    """The event of a JSON text, if it is sure to be one; None says nothing but that `decode_event` has to be asked."""
    if len(body) > MAX_EVENT_BYTES or ((b"\\" in body or b"\x7f" in body) and _DOUBTFUL(body)):
        return None
    if len(body) > _SHALLOW_BYTES and _nests_deeply(body):
        return None
    try:
        if not body.isascii():
            body.decode()  # members that are skipped must be UTF-8 as well
        event: QuickEvent = _decode(body)
        if event.__class__ is QuickState and (
            event.data.heartbeat_seconds is not None or event.data.silent_seconds is not None
        ):
            return None
        if event.time is not None:
            if not _PLAIN_TIME(event.time):
                return None
            datetime.fromisoformat(event.time)
    except (ValueError, RecursionError, msgspec.MsgspecError):
        return None
    return event


def read_event(body: bytes) -> AnyEvent:
    """An event from the JSON on a stream entry. Raises InvalidDefinition as `decode_event` does."""
    return quick_event(body) or decode_event(body)


def quick_events(body: bytes) -> tuple[list[QuickEvent], list[bytes]] | None:
    """The events of a JSON array, each with its own text, if all are sure to be events; None says nothing, as above.

    None too for more than a batch may have.
    """
    try:
        pieces = _split(body)
    except (ValueError, RecursionError, msgspec.MsgspecError):
        return None
    if len(pieces) > MAX_BATCH_EVENTS:
        return None
    texts = [bytes(text) for text in pieces]
    events: list[QuickEvent] = []
    for text in texts:
        event = quick_event(text)
        if event is None:
            return None
        events.append(event)
    return events, texts


_split = msgspec.json.Decoder(list[msgspec.Raw]).decode
