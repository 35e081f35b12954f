"""The Hugging Face Hub's webhooks (https://huggingface.co/docs/hub/webhooks): commits and tags of repositories.

The Hub sends no delivery's id: the reference with its old and its new commit tells one change from another.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from shared.domain.events.types import EventType
from shared.domain.sources.bodies import MAX_PARTS, fit_key, object_of, text_of
from shared.domain.sources.git_tags import TAG_REFS
from shared.domain.sources.model import Draft, InboundRequest, NotUnderstood, Reading, Source

_BRANCHES = "refs/heads/"
_MAIN = "main"


def read(source: Source, request: InboundRequest, body: object) -> Reading:
    """What a request of the Hub's says. Raises NotUnderstood."""
    members, reading = object_of(body), Reading()
    event, repo = object_of(members.get("event")), object_of(members.get("repo"))
    scope, name = text_of(event.get("scope")), text_of(repo.get("name"))
    if not scope or not name:
        raise NotUnderstood("the body must have event.scope and repo.name, as the Hub's webhooks have")
    if scope != "repo.content" and not scope.startswith("repo.content."):
        reading.ignore(f"{scope} {text_of(event.get('action'))} is no event: changes of repo.content are")
        return reading
    refs = members.get("updatedRefs")
    if not isinstance(refs, list) or not refs:
        reading.ignore("no reference changed")
        return reading
    webhook = text_of(object_of(members.get("webhook")).get("id"))
    for ref in refs[:MAX_PARTS]:
        _read_ref(reading, webhook, repo, object_of(ref))
    return reading


def _read_ref(reading: Reading, webhook: str, repo: Mapping[str, Any], ref: Mapping[str, Any]) -> None:
    name, old, new = (text_of(ref.get(member)) for member in ("ref", "oldSha", "newSha"))
    key = fit_key(webhook, text_of(repo.get("id")) or text_of(repo.get("name")), name, old, new)
    if name == _BRANCHES + _MAIN and new:
        data = _data(repo, new, "")
        reading.drafts += [
            Draft(type=kind, key=key, data=data) for kind in (EventType.CREATE_ARTIFACT, EventType.LINK_ARTIFACT)
        ]
    elif name.startswith(TAG_REFS) and new:
        reading.drafts.append(
            Draft(type=EventType.ADD_ARTIFACT_ALIAS, key=key, data=_data(repo, new, name.removeprefix(TAG_REFS)))
        )
    elif name.startswith(TAG_REFS) and old:
        data = _data(repo, old, name.removeprefix(TAG_REFS))
        data["artifact"]["aliases"] = []
        reading.drafts.append(Draft(type=EventType.REMOVE_ARTIFACT_ALIAS, key=key, data=data))
    else:
        reading.ignore("a reference that is neither main nor a tag is no event: pull requests and branches")


def _data(repo: Mapping[str, Any], commit: str, tag: str) -> dict[str, Any]:
    name = text_of(repo.get("name"))
    artifact: dict[str, Any] = {
        "id": text_of(f"{name}@{commit}"),
        "version": commit,
        "metadata": {"repository": name, "commit": commit, "private": repo.get("private") is True},
    }
    tags = repo.get("tags")
    if isinstance(tags, list):
        artifact["tags"] = [text for one in tags[:MAX_PARTS] if (text := text_of(one))]
    said: dict[str, Any] = {"collection": {"name": name, "type": text_of(repo.get("type"))}, "artifact": artifact}
    if tag:
        artifact["aliases"] = [tag]
        said["alias"] = tag
    return said
