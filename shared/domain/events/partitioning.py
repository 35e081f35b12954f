"""Partitions: the one that an event belongs to, and the offset up to which one is evaluated."""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from typing import Any, Protocol

from shared.domain.events.values import Name as Name

START = "0-0"
"""The offset before the first entry of a stream."""


@dataclass(frozen=True, slots=True)
class Offset:
    """How far a partition is evaluated: the last entry committed, and how many entries were ever read."""

    entry_id: str
    entries_read: int


class _Happening(Protocol):
    """An event, however it was read."""

    @property
    def data(self) -> Any:
        """The event's data."""


def subject_key(event: _Happening) -> str:
    """The subject of an event: `entity/project/run:<id>` or `entity/project/collection:<name>`.

    A notice is about `entity/webhook:<id>` or `entity/automation:<id>`.

    All events with the same key are in the same partition, in order.
    """
    data = event.data
    run = getattr(data, "run", None)
    if run is not None:
        return run_key(data.entity, data.project, run.id)
    collection = getattr(data, "collection", None)
    if collection is not None:
        return f"{data.entity}/{data.project}/collection:{collection.name}"
    automation = getattr(data, "automation", None)
    if automation is not None:
        return f"{data.entity}/automation:{automation.id}"
    return f"{data.entity}/webhook:{data.webhook.id}"


def run_key(entity: str, project: str, run_id: str) -> str:
    """The subject key of the events of a run."""
    return f"{entity}/{project}/run:{run_id}"


def subject_names(event: _Happening) -> tuple[str | None, str | None, str | None]:
    """The project, the run's id and the collection's name of an event, each None where it has none."""
    data = event.data
    run, collection = getattr(data, "run", None), getattr(data, "collection", None)
    return (
        getattr(data, "project", None),
        None if run is None else run.id,
        None if collection is None else collection.name,
    )


def partition_of(event: _Happening, partitions: int) -> int:
    """The partition of an event: CRC-32 of the UTF-8 bytes of its subject key, modulo the number of partitions."""
    return partition_of_key(subject_key(event), partitions)


def partition_of_key(key: str, partitions: int) -> int:
    """The partition of the events with a subject key."""
    return zlib.crc32(key.encode()) % partitions
