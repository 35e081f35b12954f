"""The last requests of each source and what became of them: a few, since they are for people who look for a fault."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from sqlalchemy import Connection, delete, insert, select

from shared.storage.schema.tables import source_requests, sources

KEPT: Final = 50
"""How many requests of each source are kept."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceRequest:
    """A request, masked, and what became of it."""

    outcome: str
    reason: str | None
    events: list[dict[str, str]] | None
    sender: str
    headers: dict[str, str]
    body_bytes: int
    body: str | None
    created_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredRequest(SourceRequest):
    """A request that is kept."""

    id: int


def insert_request(connection: Connection, source_id: int, request: SourceRequest) -> None:
    """Keep a request of a source that still exists, and drop the oldest beyond `KEPT`."""
    # Locked against its deletion; requests of one source are kept one after another.
    locked = select(sources.c.id).where(sources.c.id == source_id).with_for_update()
    if connection.execute(locked).first() is None:
        return
    connection.execute(
        insert(source_requests).values(
            source_id=source_id,
            outcome=request.outcome,
            reason=request.reason,
            events=request.events,
            sender=request.sender,
            headers=request.headers,
            body_bytes=request.body_bytes,
            body=request.body,
            created_at=request.created_at,
        )
    )
    of_source = source_requests.c.source_id == source_id
    beyond = select(source_requests.c.id).where(of_source).order_by(source_requests.c.id.desc()).offset(KEPT).limit(1)
    last = connection.execute(beyond).scalar()
    if last is not None:
        connection.execute(delete(source_requests).where(of_source, source_requests.c.id <= last))


def list_requests(connection: Connection, source_id: int, *, before: int | None, limit: int) -> list[StoredRequest]:
    """The requests that are kept of a source, newest first."""
    query = select(source_requests).where(source_requests.c.source_id == source_id)
    if before is not None:
        query = query.where(source_requests.c.id < before)
    return [
        _request(dict(row._mapping))
        for row in connection.execute(query.order_by(source_requests.c.id.desc()).limit(limit))
    ]


def _request(members: dict[str, Any]) -> StoredRequest:
    members.pop("source_id")
    return StoredRequest(**members)
