"""Writes down what came of runs that are watched for silence. Must not decide that one is silent.

Costs an event of a run nothing while no run is watched, and a look into a dict otherwise: the database is written to
once in an eighth of a run's heartbeat, and when a run changes its state.
"""

from __future__ import annotations

import sys
import threading
import time
from collections import Counter
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Engine

from shared.domain.conditions.run_starts import event_token
from shared.domain.delivery.silent_runs import COARSE_PARTS, Silences
from shared.domain.events.fast_decoding import AnyEvent, QuickRun
from shared.domain.events.own_sources import SYSTEM
from shared.domain.events.partitioning import run_key
from shared.domain.events.types import RunPhase
from shared.domain.json_text import write_json
from shared.observability.logs import get_logger
from shared.storage.database.clock import DatabaseClock
from shared.storage.database.transactions import read_statement, read_transaction, write_transaction
from shared.storage.evaluation.run_watches import (
    CRASHED,
    ENDED,
    RUNS,
    KnownWatch,
    RunStateRow,
    asked_silences,
    changed_since,
    known_keys,
    watch_key,
    write_seen,
    write_states,
)
from worker.evaluation.batch import Batch

log = get_logger("hookline.evaluate")

REFRESH_SECONDS = 1.0
"""How long a watch that another process made may stay unknown."""
OVERLAP = timedelta(seconds=10)
"""Changes so long before the last look are read again: transactions may commit in another order than their times."""
MAX_WATCHED_RUNS = 100_000
"""How many runs of one entity are watched at the same time; each takes some 300 bytes of every worker process. A run
that starts while there are as many is not watched."""
TOLD_SECONDS = 60.0
"""How often a process logs that an entity has too many."""
MAX_RUN_BYTES = 16 << 10
"""A run's members beyond this are left out of the event that it crashed."""


class RunWatches:
    """The watched runs that a process knows. Threads of evaluations share it.

    `_lock` guards all attributes below it. They are read without it where what is a moment old does: a run that is
    watched a moment later is known a moment later.
    """

    def __init__(self, *, engine: Engine, clock: DatabaseClock) -> None:
        self._engine = engine
        self._clock = clock
        self._lock = threading.Lock()
        self._known: dict[str, tuple[int | None, int, str]] = {}
        """By key of a run that runs: its heartbeat, when it was seen last, in milliseconds, and its entity."""
        self._running: Counter[str] = Counter()
        """How many of them each entity has."""
        self._told_at = float("-inf")
        self._silences = Silences()
        self._read_to: datetime | None = None
        self._refreshed_at = float("-inf")

    @property
    def active(self) -> bool:
        """Whether any run is watched."""
        return bool(self._known or self._silences)

    def refresh(self) -> None:
        """Take in what other processes have written, once a second at most. Raises SQLAlchemyError."""
        if time.monotonic() - self._refreshed_at < REFRESH_SECONDS:
            return
        with self._lock:
            now = self._clock.now()
            with read_transaction(self._engine) as connection:
                changed = changed_since(connection, None if self._read_to is None else self._read_to - OVERLAP)
                self._silences = asked_silences(connection)
            self._read_to, self._refreshed_at = now, time.monotonic()
            for one in changed:
                self._learn(one)

    def _learn(self, one: KnownWatch) -> None:
        known = self._known.get(one.key)
        if one.ended != RUNS:
            if known is not None:
                del self._known[one.key]
                self._running[known[2]] -= 1
            return
        entity = sys.intern(one.entity) if known is None else known[2]
        self._running[entity] += known is None
        self._known[one.key] = one.heartbeat_ms, one.seen_ms if known is None else max(known[1], one.seen_ms), entity

    def record(self, partition: int, batch: Batch) -> None:
        """Write down what a batch says of watched runs, before it is committed. Raises SQLAlchemyError."""
        if not batch.run_states and not batch.runs_seen:
            return
        now = self._clock.now()
        rows, seen = self._worth_writing(partition, batch, now)
        states = [
            _row(watch_key(subject), partition, order, received_ms, event, now, self._silences)
            for subject, order, received_ms, event in batch.run_states
        ]
        rows = self._few(rows + self._watched(states))
        if not rows and not seen:
            return
        with write_transaction(self._engine) as connection:
            write_states(connection, rows)
            write_seen(connection, seen)
        with self._lock:
            for row in rows:
                one = KnownWatch(row["key"], row["entity"], row["heartbeat_ms"], row["seen_ms"], row["ended"])
                self._learn(one)
            for key, seen_ms in seen.items():
                if (known := self._known.get(key)) is not None:
                    self._known[key] = known[0], seen_ms, known[2]

    def _few(self, rows: list[RunStateRow]) -> list[RunStateRow]:
        """The rows, without those of runs that start while their entity has as many as may be watched."""
        kept: list[RunStateRow] = []
        starting: dict[str, set[str]] = {}
        for row in rows:
            entity, key = row["entity"], row["key"]
            if row["ended"] == RUNS and key not in self._known:
                new = starting.setdefault(entity, set())
                if key not in new and self._running[entity] + len(new) >= MAX_WATCHED_RUNS:
                    self._tell(entity)
                    continue
                new.add(key)
            kept.append(row)
        return kept

    def _tell(self, entity: str) -> None:
        if time.monotonic() - self._told_at >= TOLD_SECONDS:
            self._told_at = time.monotonic()
            log.warning("run_watches.too_many", entity=entity, most=MAX_WATCHED_RUNS)

    def _watched(self, rows: list[RunStateRow]) -> list[RunStateRow]:
        """The states of runs that are watched, or are from now on."""
        watched = {row["key"] for row in rows if row["check_ms"] is not None or self._asked(row)}
        if unknown := {row["key"] for row in rows} - watched:
            with read_statement(self._engine) as connection:
                watched |= known_keys(connection, unknown)
        return [row for row in rows if row["key"] in watched]

    def _asked(self, row: RunStateRow) -> bool:
        return bool(self._silences.of(row["entity"], row["project"]))

    def _worth_writing(self, partition: int, batch: Batch, now: datetime) -> tuple[list[RunStateRow], dict[str, int]]:
        """The rows of runs that are watched from now on, and when others were seen, where it is time to write that."""
        rows: list[RunStateRow] = []
        seen: dict[str, int] = {}
        known, silences = self._known, self._silences
        for (entity, project, run), (received_ms, event) in batch.runs_seen.items():
            key = watch_key(run_key(entity, project, run))
            watch, asked = known.get(key), silences.of(entity, project)
            if watch is None:
                if asked:
                    rows.append(_first_row(key, partition, received_ms, event, now))
                continue
            waits = [*asked, *(() if watch[0] is None else (watch[0],))]
            if waits and received_ms - watch[1] >= min(waits) // COARSE_PARTS:
                seen[key] = received_ms
        return rows, seen


def _first_row(key: str, partition: int, received_ms: int, event: AnyEvent, now: datetime) -> RunStateRow:
    """A watched run of which no state was heard: it runs, as long as nothing else is known."""
    data: Any = event.data
    return {
        "key": key,
        "partition": partition,
        "entity": data.entity,
        "project": data.project,
        "run": _members(data.run),
        "heartbeat_ms": None,
        "state_order": 0,
        "start_token": 0,
        "ended": RUNS,
        "seen_ms": received_ms,
        "check_ms": received_ms,
        "changed_at": now,
    }


def _row(
    key: str,
    partition: int,
    order: int,
    received_ms: int,
    event: AnyEvent,
    now: datetime,
    silences: Silences,
) -> RunStateRow:
    data: Any = event.data
    runs = data.state == RunPhase.RUNNING
    asked = runs and bool(silences.of(data.entity, data.project))
    heartbeat = data.heartbeat_seconds if runs else None
    return {
        **_first_row(key, partition, received_ms, event, now),
        "heartbeat_ms": None if heartbeat is None else round(heartbeat * 1000),
        "state_order": order,
        "start_token": event_token(event),
        "ended": RUNS if runs else CRASHED if event.source == SYSTEM else ENDED,
        "check_ms": received_ms if asked or heartbeat is not None else None,
    }


def _members(run: Any) -> str:
    members = run.members if isinstance(run, QuickRun) else run.model_dump(mode="json", exclude_unset=True)
    text = write_json(members)
    if len(text) > MAX_RUN_BYTES:
        text = write_json(
            {"id": run.id, "name": run.name} | ({"display_name": run.display_name} if run.display_name else {})
        )
    return text.decode()
