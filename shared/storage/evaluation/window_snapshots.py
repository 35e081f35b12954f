"""The stored windows and firing times of an automation, for dry runs: read without inserting or locking a row."""

from __future__ import annotations

from collections.abc import Collection
from contextlib import suppress

from sqlalchemy import Connection, select

from shared.domain.conditions.run_starts import RunStarts
from shared.domain.conditions.windows import UnreadableState, WindowState
from shared.domain.matching.firing_rules import AutomationState
from shared.domain.matching.throttling import FiringState
from shared.storage.database.bulk import chunks
from shared.storage.evaluation.windows import OF_RUNS
from shared.storage.schema.tables import metric_windows


def read_states(
    connection: Connection, automation_id: int, epoch: int, keys: Collection[str]
) -> dict[str, AutomationState]:
    """The windows and firing times of an automation under these keys; those of an older epoch are ignored."""
    found = {}
    for chunk in chunks(sorted(keys)):
        query = select(metric_windows).where(
            metric_windows.c.automation_id == automation_id,
            metric_windows.c.epoch == epoch,
            metric_windows.c.key.in_(chunk),
        )
        for row in connection.execute(query):
            found[row.key] = AutomationState(
                _windows(row.windows), FiringState(row.last_fired_ms, _recent(row.recent_firings))
            )
    return found


def read_starts(connection: Connection, keys: Collection[str]) -> dict[str, RunStarts]:
    """The starts of the runs with these keys, of those that have some."""
    found = {}
    for chunk in chunks(sorted(keys)):
        query = select(metric_windows.c.key, metric_windows.c.windows).where(
            metric_windows.c.automation_id == OF_RUNS, metric_windows.c.key.in_(chunk)
        )
        for row in connection.execute(query):
            with suppress(UnreadableState):
                found[row.key] = RunStarts.from_bytes(row.windows or b"")
    return found


def _windows(stored: bytes | None) -> WindowState | None:
    try:
        return None if stored is None else WindowState.from_bytes(stored)
    except UnreadableState:  # evaluation starts anew from it as well
        return None


def _recent(stored: bytes | None) -> tuple[int, ...]:
    try:
        return FiringState.recent_from_bytes(stored) if stored else ()
    except UnreadableState:
        return ()
