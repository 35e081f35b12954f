"""Automations of an entity, read once in a request however often its document asks for them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from sqlalchemy import Connection

from dispatcher.control.paging import size_bytes
from dispatcher.graphql.budget import Budget
from shared.storage.definitions import automations as store
from shared.storage.definitions.automations import StoredAutomation


@dataclass(slots=True)
class _Scan:
    rest: Iterator[StoredAutomation]
    read: list[StoredAutomation] = field(default_factory=list)


@dataclass(slots=True)
class Scans:
    """The scans of one request, which go on where another one of the same ended."""

    connection: Connection
    budget: Budget
    _scans: dict[tuple[int, int, str | None], _Scan] = field(default_factory=dict)

    def automations(self, entity_id: int, *, after: int = 0, project: str | None = None) -> Iterator[StoredAutomation]:
        """Automations after a number, of all projects or of one, as they are drawn. Raises OverBudget."""
        key = (entity_id, after, project)
        if key not in self._scans:
            rows = store.read_automations(self.connection, entity_id, after=after, project=project)
            self._scans[key] = _Scan(rows)
        scan = self._scans[key]
        position = 0
        while True:
            if position == len(scan.read):
                stored = next(scan.rest, None)
                if stored is None:
                    return
                self.budget.spend(size_bytes(stored.definition))
                scan.read.append(stored)
            yield scan.read[position]
            position += 1
