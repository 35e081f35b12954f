"""GitHub's webhooks: pushes of a model's tags, and releases (https://docs.github.com/webhooks/webhook-events-and-payloads).

The delivery's id in X-GitHub-Delivery is not signed, so a redelivery is known by its body, which is the same.
"""

from __future__ import annotations

from shared.domain.sources.bodies import fit_key, object_of, text_of, time_or_none
from shared.domain.sources.git_tags import TAG_DELETED, TAG_REFS, GitTag, read_release, read_tag
from shared.domain.sources.model import InboundRequest, NotUnderstood, Reading, Source


def read(source: Source, request: InboundRequest, body: object) -> Reading:
    """What a request of GitHub's says. Raises NotUnderstood."""
    members, event = object_of(body), text_of(request.headers.get("x-github-event"))
    if not event:
        raise NotUnderstood("the request must have the header X-GitHub-Event")
    reading = Reading()
    if event == "ping":
        reading.ignore("a ping of GitHub's: the webhook works")
        return reading
    repository = text_of(object_of(members.get("repository")).get("full_name"))
    if event in ("push", "release") and not repository:
        raise NotUnderstood("the body must have repository.full_name, as GitHub's events have")
    if event == "push":
        return _push(request.delivery_id(source.proof), body, repository)
    if event == "release":
        return _release(request.delivery_id(source.proof), body, repository)
    told = ": tags are read from pushes" if event == "create" else ""
    reading.ignore(f"GitHub's event {event} is not read{told}; send pushes and releases")
    return reading


def _push(delivery: str, body: object, repository: str) -> Reading:
    members, reading = object_of(body), Reading()
    ref, commit = text_of(members.get("ref")), object_of(members.get("head_commit"))
    if not ref.startswith(TAG_REFS):
        reading.ignore("a push to a branch is no event: a model's tag is")
        return reading
    if members.get("deleted") is True:
        reading.ignore(TAG_DELETED)
        return reading
    return read_tag(
        GitTag(
            repository=repository,
            name=ref.removeprefix(TAG_REFS),
            commit=text_of(commit.get("id")) or text_of(members.get("after")),
            author=text_of(object_of(members.get("pusher")).get("name")),
            key=fit_key(delivery),
            metadata={"message": text_of(commit.get("message"))},
        )
    )


def _release(delivery: str, body: object, repository: str) -> Reading:
    members, reading = object_of(body), Reading()
    release, action = object_of(members.get("release")), text_of(members.get("action"))
    if action != "published":
        reading.ignore(f"a release that was {action or 'changed'} is no event: one that is published is")
        return reading
    return read_release(
        GitTag(
            repository=repository,
            name=text_of(release.get("tag_name")),
            commit="",
            author=text_of(object_of(release.get("author")).get("login")),
            key=fit_key(delivery),
            time=time_or_none(release.get("published_at")),
            metadata={
                "release": text_of(release.get("name")),
                "url": text_of(release.get("html_url")),
                "prerelease": release.get("prerelease") is True,
            },
        )
    )
