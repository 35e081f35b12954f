"""The catalog learned from events: projects and collections that nobody registered, as they are first heard of.

Registered within the batch's transaction, and by each process once for each name. Must cost an event that brings
nothing new no more than a look into a set.
"""

from __future__ import annotations

from collections.abc import Collection, Set
from datetime import datetime
from typing import Any

from sqlalchemy import Connection

from shared.domain.events.fast_decoding import AnyEvent
from shared.storage.definitions.catalog import CatalogNames, register_names

MAX_KNOWN = 100_000
"""Names that a process remembers: some tens of megabytes. Beyond, it forgets all and registers what comes again, which
costs a batch one more statement until the usual names are known."""


class CatalogDiscovery:
    """The projects and collections that a process knows to be in the catalog.

    Threads of evaluations share it without a lock. `_known` is only added to, in one call, or replaced as a whole; a
    thread that misses a name just added registers it again, which changes nothing.
    """

    def __init__(self, max_known: int = MAX_KNOWN) -> None:
        self._max_known = max_known
        self._known: set[CatalogNames] = set()

    def knows(self, names: Set[CatalogNames]) -> bool:
        """Whether none of these names is new."""
        return names <= self._known

    def register(self, connection: Connection, names: Set[CatalogNames], now: datetime) -> frozenset[CatalogNames]:
        """Put what is new of these names into the catalog, in the caller's transaction.

        Returns:
            The names that were put there, to be `remember`ed after the commit and not before: a transaction that is
            rolled back stored none.

        A name whose entity does not exist stays out; it is looked at again, since the entity may be made later.
        """
        news = names - self._known
        return register_names(connection, news, now) if news else frozenset()

    def remember(self, names: Collection[CatalogNames]) -> None:
        """Know names whose registration is committed; when too many are known, the older ones are forgotten."""
        if len(self._known) + len(names) > self._max_known:
            self._known = set()
        self._known.update(names)


def catalog_entry_of(event: AnyEvent) -> CatalogNames | None:
    """The project and collection that an event names; None for a notice, which is in no project."""
    data: Any = event.data
    project = getattr(data, "project", None)
    if project is None:
        return None
    collection = getattr(data, "collection", None)
    if collection is None:
        return (data.entity, project, None, "")
    return (data.entity, project, collection.name, collection.type)
