"""The sources of a manifest: checked one by one, written, and deleted where they are no longer listed."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from functools import partial
from typing import Any

from sqlalchemy import Connection

from dispatcher.control import sources
from dispatcher.control.faults import FaultCollector
from dispatcher.control.source_checks import SourceBody, SourceFields, check_source
from dispatcher.control.webhook_checks import Checks, KnownSecrets
from shared.domain.errors import Loc
from shared.storage.definitions import sources as store
from shared.storage.definitions.entities import StoredEntity
from shared.storage.definitions.sources import StoredSource

_PAGE = 500


def check_sources(
    connection: Connection,
    entity: StoredEntity,
    definitions: Sequence[tuple[Loc, object]],
    *,
    checks: Checks,
    collector: FaultCollector,
) -> list[SourceFields]:
    """The definitions that are not refused; the faults of the others go to the collector."""
    if not definitions:
        return []
    known = KnownSecrets(connection, entity, checks)
    checked = [
        collector.run(partial(check_source, connection, entity, raw, checks=checks, known=known), loc=loc)
        for loc, raw in definitions
    ]
    return [fields for fields in checked if fields is not None]


def write_sources(
    connection: Connection, entity: StoredEntity, wanted: Sequence[SourceFields]
) -> Iterator[tuple[StoredSource, dict[str, Any] | None]]:
    """Store checked definitions; each written source with the body that it had before, None for a new one."""
    for fields in wanted:
        stored = store.find_source(connection, entity.id, name=fields.name)
        before = None if stored is None else sources.source_body(stored)
        yield sources.save_source(connection, entity, stored, fields), before


def prune_sources(connection: Connection, entity: StoredEntity, kept: Collection[str]) -> Iterator[StoredSource]:
    """Delete the sources that are not among the names."""
    for stored in list(all_sources(connection, entity)):
        if stored.name not in kept:
            sources.remove_source(connection, stored)
            yield stored


def all_sources(connection: Connection, entity: StoredEntity) -> Iterator[StoredSource]:
    """Every source of an entity."""
    after = 0
    while rows := store.list_sources(connection, entity.id, after=after, limit=_PAGE):
        yield from rows
        after = rows[-1].id


def brief_source(stored: StoredSource) -> dict[str, Any]:
    """The definition without members that mean the same when they are left out."""
    body = SourceBody.model_validate(sources.source_body(stored))
    return body.model_dump(mode="json", exclude_defaults=True)
