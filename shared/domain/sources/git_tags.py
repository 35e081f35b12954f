"""Git tags that register models, as GTO and DVC's model registry write them (https://dvc.org/doc/gto/user-guide).

`NAME@v1.2.3` registers a version, `NAME#STAGE` assigns a stage to the version at its commit; `#N` at the end counts, a
`!` takes back, and `NAME@deprecated` deprecates. `dir=name` stands for the name `dir:name`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from shared.domain.events.types import EventType
from shared.domain.sources.bodies import text_of
from shared.domain.sources.model import Draft, Reading

_NAME = r"[a-z0-9](?:[a-z0-9/-]*[a-z0-9])?"
_TAG = re.compile(
    rf"(?P<name>(?:[a-z0-9_./-]+=)?{_NAME})"
    rf"(?:#(?P<stage>{_NAME})(?P<unassigned>!?)|@(?P<version>v[0-9]+\.[0-9]+\.[0-9]+[0-9A-Za-z.+-]*)(?P<gone>!?)"
    r"|@(?P<word>deprecated|created))(?:#[0-9]+)?",
    re.ASCII,
)
MAX_TAG_CHARS = 512
TAG_REFS = "refs/tags/"
"""How the reference of a tag begins."""
TAG_DELETED = "a tag was deleted, which says nothing of the model: GTO takes back by a tag that ends with !"
"""Why that becomes no event."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GitTag:
    """A tag in a repository, at a commit, or a release of it."""

    repository: str
    """Its whole name, such as `acme/models`."""
    name: str
    commit: str
    author: str
    key: str
    time: object = None
    metadata: dict[str, Any]


def read_tag(tag: GitTag) -> Reading:
    """The events of a tag that was pushed: none for one that is no model's."""
    reading = Reading()
    found = _TAG.fullmatch(tag.name) if len(tag.name) <= MAX_TAG_CHARS else None
    if found is None:
        reading.ignore("the tag is no model's: those are NAME@v1.2.3 and NAME#STAGE, as GTO writes them")
        return reading
    name = found["name"].replace("=", ":")
    drafts = list(_drafts(tag, name, found))
    if not drafts:
        reading.ignore(f"the tag says that {name} was {found['word']}, for which Hookline has no events")
    reading.drafts += drafts
    return reading


def _drafts(tag: GitTag, name: str, found: re.Match[str]) -> Iterator[Draft]:
    version, stage = found["version"], found["stage"]
    collection = {"name": name, "type": "model"}
    if found["word"] == "deprecated":
        yield _draft(tag, EventType.ADD_COLLECTION_TAG, {"collection": collection, "tag": "deprecated"})
    if version is not None:
        data: dict[str, Any] = {"collection": collection, "artifact": _artifact(tag, name, version)}
        if found["gone"]:
            yield _draft(tag, EventType.UNLINK_ARTIFACT, data)
        else:
            yield _draft(tag, EventType.CREATE_ARTIFACT, data)
            yield _draft(tag, EventType.LINK_ARTIFACT, data)
    if stage is not None:
        # Which version it is of is said by another tag at the same commit: the artifact's id is the same for both.
        artifact = _artifact(tag, name, "")
        data = {"collection": collection, "artifact": artifact, "alias": stage}
        if found["unassigned"]:
            yield _draft(tag, EventType.REMOVE_ARTIFACT_ALIAS, data)
        else:
            artifact["aliases"] = [stage]
            yield _draft(tag, EventType.ADD_ARTIFACT_ALIAS, data)


def read_release(tag: GitTag) -> Reading:
    """The events of a release: none for that of a model's own tag, which is an event already."""
    reading = Reading()
    if len(tag.name) <= MAX_TAG_CHARS and _TAG.fullmatch(tag.name):
        reading.ignore("the release is of a model's tag, whose push is the event: have pushes of tags sent too")
        return reading
    name = text_of(tag.repository.rpartition("/")[2])
    data = {"collection": {"name": name, "type": "model"}, "artifact": _artifact(tag, name, text_of(tag.name))}
    reading.drafts += [_draft(tag, kind, data) for kind in (EventType.CREATE_ARTIFACT, EventType.LINK_ARTIFACT)]
    return reading


def _artifact(tag: GitTag, name: str, version: str) -> dict[str, Any]:
    at = tag.commit or tag.name
    known = {"repository": tag.repository, "commit": tag.commit, "tag": tag.name, **tag.metadata}
    return {
        "id": text_of(f"{tag.repository}/{name}@{at}"),
        "version": version,
        "metadata": {key: value for key, value in known.items() if value},
    }


def _draft(tag: GitTag, event_type: EventType, data: dict[str, Any]) -> Draft:
    return Draft(type=event_type, key=tag.key, data={**data, "author": tag.author}, time=tag.time)
