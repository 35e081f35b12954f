"""Revisions that are kept: what an automation or webhook was after each edit, by whom, and what the edit changed.

Rows are written in the transaction of the edit, by the functions that write the edit. They hold what `GET` shows: the
names of secrets and never a value. A target keeps its newest `MAX_REVISIONS`, of `MAX_BYTES` together.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any, Protocol

from sqlalchemy import Connection, case, delete, func, insert, select

from shared.storage.database.bulk import among
from shared.storage.schema.tables import kept_revisions

MAX_REVISIONS = 500
"""The most revisions of one automation or webhook."""
MAX_BYTES = 8 << 20
"""How large the revisions of one automation or webhook may be together, compressed. The newest is kept whatever its
size."""

BESIDE_DEFINITION = frozenset({"epoch", "webhook_id", "disabled_reason"})
"""Members of a content that are kept beside what people write."""
_ROWS_READ = 8
"""Contents in memory at a time: one may have a MiB and more."""


class RevisionKind(StrEnum):
    """What revisions are kept of; Slack integrations are webhooks."""

    AUTOMATION = "automation"
    WEBHOOK = "webhook"


class RevisionChange(StrEnum):
    """What an edit did."""

    CREATE = "create"
    UPDATE = "update"
    DELETE = "delete"
    #: The state before the first edit that was kept: a version before this one, or none, wrote what came earlier.
    FOUND = "found"


@dataclass(frozen=True, slots=True, kw_only=True)
class Edited:
    """An automation or webhook after an edit, and before it."""

    target_id: int
    entity_id: int
    revision: int
    change: RevisionChange
    content: Mapping[str, Any]
    """What it is now; for a deleted one what it was."""
    before: Mapping[str, Any] | None = None
    """What it was; None for a new one."""
    before_revision: int = 0
    before_at: datetime | None = None
    """Since when it was that."""
    reason: str | None = None
    """Why Hookline made the change itself."""


class Stored(Protocol):
    """An automation or webhook as it is stored."""

    @property
    def id(self) -> int:
        """Its number."""

    @property
    def entity_id(self) -> int:
        """The entity that it belongs to."""

    @property
    def revision(self) -> int:
        """The revision of its last edit."""

    @property
    def updated_at(self) -> datetime:
        """When that was."""


def created(target_id: int, entity_id: int, revision: int, content: Mapping[str, Any]) -> Edited:
    """A new one."""
    return Edited(
        target_id=target_id, entity_id=entity_id, revision=revision, change=RevisionChange.CREATE, content=content
    )


def edited(
    before: Stored, was: Mapping[str, Any], change: RevisionChange, content: Mapping[str, Any], revision: int
) -> Edited:
    """One that an edit made `content` under a new revision; `was` is the content of `before`."""
    return Edited(
        target_id=before.id,
        entity_id=before.entity_id,
        revision=revision,
        change=change,
        content=content,
        before=was,
        before_revision=before.revision,
        before_at=before.updated_at,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class KeptRevision:
    """One revision without its content."""

    id: int
    """Its number: it rises from edit to edit."""
    at: datetime
    revision: int
    """The revision that the target had after the edit."""
    change: RevisionChange
    changed: list[str]
    by: str | None
    """The user's name, or which operator; None where Hookline made the change, or it was found."""
    reason: str | None


def keep_revisions(
    connection: Connection, kind: RevisionKind, edits: Sequence[Edited], *, by: str | None, now: datetime
) -> None:
    """Keep what these edits made, in their transaction; where what was before is not the newest kept, that too."""
    if not edits:
        return
    found = _not_kept(connection, kind, edits)
    rows = [
        _row(kind, one, RevisionChange.FOUND, one.before or {}, at=one.before_at or now, revision=one.before_revision)
        for one in found
    ]
    for one in edits:
        changed = [] if one.before is None else changed_members(one.before, one.content)
        rows.append(
            {
                **_row(kind, one, one.change, one.content, at=now, revision=one.revision),
                "changed": changed,
                "user_name": by,
                "reason": one.reason,
            }
        )
    connection.execute(insert(kept_revisions), rows)
    _trim(connection, kind, [one.target_id for one in edits if one.before is not None])


def _row(
    kind: RevisionKind, one: Edited, change: RevisionChange, content: Mapping[str, Any], *, at: datetime, revision: int
) -> dict[str, Any]:
    return {
        "created_at": at,
        "kind": kind,
        "target_id": one.target_id,
        "entity_id": one.entity_id,
        "revision": revision,
        "change": change,
        "changed": [],
        "user_name": None,
        "reason": None,
        "content": _packed(content),
    }


def _not_kept(connection: Connection, kind: RevisionKind, edits: Sequence[Edited]) -> list[Edited]:
    """The edits whose state before is not the newest that is kept: it was made by a version that kept none."""
    changed = [one for one in edits if one.before is not None and one.before_at is not None]
    if not changed:
        return []
    newest_ids = (
        select(func.max(kept_revisions.c.id))
        .where(
            kept_revisions.c.kind == kind,
            among(connection, kept_revisions.c.target_id, [one.target_id for one in changed]),
        )
        .group_by(kept_revisions.c.target_id)
    )
    columns = (kept_revisions.c.target_id, kept_revisions.c.created_at, kept_revisions.c.content)
    rows = connection.execute(select(*columns).where(kept_revisions.c.id.in_(newest_ids)))
    newest = {row.target_id: (row.created_at, bytes(row.content)) for row in rows}
    return [one for one in changed if _is_news(one, newest.get(one.target_id))]


def _is_news(one: Edited, newest: tuple[datetime, bytes] | None) -> bool:
    if newest is None or one.before_at is None:
        return True
    at, content = newest
    # One that is newer was kept by another transaction after this one had read what was before.
    return at <= one.before_at and unpack_content(content) != unpack_content(_packed(one.before or {}))


def _trim(connection: Connection, kind: RevisionKind, target_ids: Collection[int]) -> None:
    if not target_ids:
        return
    target, newest_first = kept_revisions.c.target_id, kept_revisions.c.id.desc()
    ranked = (
        select(
            kept_revisions.c.id,
            func.row_number().over(partition_by=target, order_by=newest_first).label("place"),
            func.sum(func.length(kept_revisions.c.content))
            .over(partition_by=target, order_by=newest_first)
            .label("bytes"),
        )
        .where(kept_revisions.c.kind == kind, among(connection, kept_revisions.c.target_id, target_ids))
        .subquery()
    )
    beyond = (ranked.c.place > MAX_REVISIONS) | ((ranked.c.bytes > MAX_BYTES) & (ranked.c.place > 1))
    connection.execute(delete(kept_revisions).where(kept_revisions.c.id.in_(select(ranked.c.id).where(beyond))))


_HEAD = (
    kept_revisions.c.id,
    kept_revisions.c.created_at.label("at"),
    kept_revisions.c.revision,
    kept_revisions.c.change,
    kept_revisions.c.changed,
    kept_revisions.c.user_name.label("by"),
    kept_revisions.c.reason,
)


def _kept(row: Any) -> KeptRevision:
    values = {key: value for key, value in row._mapping.items() if key not in ("target_id", "content")}
    return KeptRevision(**{**values, "change": RevisionChange(values["change"])})


def list_revisions(
    connection: Connection, kind: RevisionKind, target_id: int, *, before: int | None = None, limit: int = MAX_REVISIONS
) -> list[KeptRevision]:
    """The kept revisions of a target without their contents, newest first; `before` is the last of the page before."""
    query = select(*_HEAD).where(kept_revisions.c.kind == kind, kept_revisions.c.target_id == target_id)
    if before is not None:
        query = query.where(kept_revisions.c.id < before)
    return [_kept(row) for row in connection.execute(query.order_by(kept_revisions.c.id.desc()).limit(limit))]


def read_history(
    connection: Connection, kind: RevisionKind, target_ids: Collection[int], since: datetime
) -> tuple[dict[int, list[KeptRevision]], dict[int, dict[str, Any]]]:
    """The kept revisions of many targets, each newest first, and the contents of some, by their numbers.

    Those are the newest that was made before `since`, and all after it.
    """
    kept: dict[int, list[KeptRevision]] = {target_id: [] for target_id in target_ids}
    contents: dict[int, dict[str, Any]] = {}
    number, target = kept_revisions.c.id, kept_revisions.c.target_id
    first = func.max(number).filter(kept_revisions.c.created_at < since).over(partition_by=target)
    mine = kept_revisions.c.kind == kind, among(connection, target, target_ids)
    ranked = select(number, first.label("first")).where(*mine).subquery()
    content = case((number >= func.coalesce(ranked.c.first, 0), kept_revisions.c.content)).label("content")
    query = select(target, *_HEAD, content).join(ranked, ranked.c.id == number).order_by(target, number.desc())
    for row in connection.execute(query):
        if len(kept[row.target_id]) < MAX_REVISIONS:
            kept[row.target_id].append(_kept(row))
            if row.content is not None:
                contents[row.id] = unpack_content(row.content)
    return kept, contents


def find_content(connection: Connection, kind: RevisionKind, target_id: int, number: int) -> dict[str, Any] | None:
    """What a target was after one kept revision; None when there is no such revision of it."""
    return read_contents(connection, kind, [target_id], [number]).get(number)


def read_contents(
    connection: Connection, kind: RevisionKind, target_ids: Collection[int], numbers: Sequence[int]
) -> dict[int, dict[str, Any]]:
    """What these targets were after each of these kept revisions."""
    found: dict[int, dict[str, Any]] = {}
    for begin in range(0, len(numbers), _ROWS_READ):
        query = select(kept_revisions.c.id, kept_revisions.c.content).where(
            kept_revisions.c.kind == kind,
            among(connection, kept_revisions.c.target_id, target_ids),
            kept_revisions.c.id.in_(numbers[begin : begin + _ROWS_READ]),
        )
        found |= {row.id: unpack_content(row.content) for row in connection.execute(query)}
    return found


def owner_of(connection: Connection, kind: RevisionKind, target_id: int) -> int | None:
    """The id of the entity whose target this is, also of a deleted one, by its newest kept revision."""
    query = select(kept_revisions.c.entity_id).where(
        kept_revisions.c.kind == kind, kept_revisions.c.target_id == target_id
    )
    return connection.scalar(query.order_by(kept_revisions.c.id.desc()).limit(1))


def changed_members(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[str]:
    """The members that differ, sorted."""
    keys = (before.keys() | after.keys()) - BESIDE_DEFINITION
    return sorted(key for key in keys if before.get(key) != after.get(key))


def _packed(content: Mapping[str, Any]) -> bytes:
    # Not orjson: payloads may hold integers of any size. Members keep their order, which a receiver may show.
    return zlib.compress(json.dumps(content, separators=(",", ":")).encode(), 6)


def unpack_content(packed: bytes) -> dict[str, Any]:
    """The content of a stored revision."""
    content: dict[str, Any] = json.loads(zlib.decompress(packed))
    return content
