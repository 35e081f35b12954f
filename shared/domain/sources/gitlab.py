"""GitLab's webhooks: pushes of a model's tags, and releases (https://docs.gitlab.com/user/project/integrations/webhook_events).

GitLab sends a failed request again with the same body, by which it is known.
"""

from __future__ import annotations

from shared.domain.sources.bodies import fit_key, object_of, text_of
from shared.domain.sources.git_tags import TAG_DELETED, TAG_REFS, GitTag, read_release, read_tag
from shared.domain.sources.model import InboundRequest, NotUnderstood, Reading, Source


def read(source: Source, request: InboundRequest, body: object) -> Reading:
    """What a request of GitLab's says. Raises NotUnderstood."""
    members = object_of(body)
    kind = text_of(members.get("object_kind"))
    repository = text_of(object_of(members.get("project")).get("path_with_namespace"))
    if not kind or not repository:
        raise NotUnderstood("the body must have object_kind and project.path_with_namespace, as GitLab's have")
    key = fit_key(request.delivery_id(source.proof))
    if kind == "tag_push":
        return _tag(key, body, repository)
    if kind == "release":
        return _release(key, body, repository)
    reading = Reading()
    reading.ignore(f"GitLab's {kind} is not read: send tag push events and release events")
    return reading


def _tag(key: str, body: object, repository: str) -> Reading:
    members, reading = object_of(body), Reading()
    after = text_of(members.get("after"))
    if after.strip("0") == "":
        reading.ignore(TAG_DELETED)
        return reading
    return read_tag(
        GitTag(
            repository=repository,
            name=text_of(members.get("ref")).removeprefix(TAG_REFS),
            commit=text_of(members.get("checkout_sha")) or after,
            author=text_of(members.get("user_username")) or text_of(members.get("user_name")),
            key=key,
            metadata={"message": text_of(members.get("message"))},
        )
    )


def _release(key: str, body: object, repository: str) -> Reading:
    members, reading = object_of(body), Reading()
    if members.get("action") != "create":
        reading.ignore(f"a release that was {text_of(members.get('action')) or 'changed'} is no event: a new one is")
        return reading
    return read_release(
        GitTag(
            repository=repository,
            name=text_of(members.get("tag")),
            commit=text_of(object_of(members.get("commit")).get("id")),
            author=text_of(object_of(object_of(members.get("commit")).get("author")).get("name")),
            key=key,
            metadata={"release": text_of(members.get("name")), "url": text_of(members.get("url"))},
        )
    )
