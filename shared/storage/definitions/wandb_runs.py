"""Runs that the `wandb` client sends straight to Hookline: what has to be known of them between its requests."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from sqlalchemy import Case, Column, ColumnElement, Connection, case, delete, func, literal, select, update

from shared.domain.events.partitioning import run_key
from shared.domain.events.types import RunPhase
from shared.domain.json_text import read_json, write_json
from shared.storage.database.upserts import insert_ignore
from shared.storage.schema.tables import wandb_runs

MAX_RUNS: Final = 10_000
"""How many runs of one entity are remembered: those of which something came last."""
_FORGOTTEN_AT_ONCE: Final = 100


@dataclass(frozen=True, slots=True)
class StoredRun:
    """A run. `about`: what the client said of it, by the names that the run's members have in events."""

    key: str
    project: str
    run: str
    token: str
    about: Mapping[str, Any]
    summary: Mapping[str, Any]
    state: RunPhase
    preempting: bool
    starts: int
    streamed: bool
    """Whether anything came since it was started last."""
    history_lines: int
    """So many lines are published since it was started last, counted as the client does: also those before a resume."""
    last_step: int | None
    told_at: datetime
    """When its `running` was published last."""
    seen_at: datetime
    """When something of it was written down last."""

    @property
    def display_name(self) -> str:
        """The name that people see."""
        return str(self.about.get("display_name") or self.run)


@dataclass(frozen=True, slots=True)
class Streamed:
    """What a request of the run's stream changes."""

    history_lines: int
    last_step: int | None
    summary: Mapping[str, Any] | None
    state: RunPhase | None
    """How it ended, if it did."""
    preempting: bool
    told_at: datetime


def wandb_run_key(entity: str, project: str, run: str) -> str:
    """The key of a run."""
    return hashlib.blake2b(run_key(entity, project, run).encode(), digest_size=16).hexdigest()


_COLUMNS: Final = (
    wandb_runs.c.key,
    wandb_runs.c.project,
    wandb_runs.c.run,
    wandb_runs.c.token,
    wandb_runs.c.about,
    wandb_runs.c.summary,
    wandb_runs.c.state,
    wandb_runs.c.preempting,
    wandb_runs.c.starts,
    wandb_runs.c.streamed,
    wandb_runs.c.history_lines,
    wandb_runs.c.last_step,
    wandb_runs.c.told_at,
    wandb_runs.c.seen_at,
)


def find_run(connection: Connection, key: str, *, lock: bool = False) -> StoredRun | None:
    """The run with this key; with `lock`, nobody else changes it before the transaction ends."""
    query = select(*_COLUMNS).where(wandb_runs.c.key == key)
    row = connection.execute(query.with_for_update() if lock else query).mappings().first()
    if row is None:
        return None
    decoded = {"about": read_json(row["about"]), "summary": read_json(row["summary"]), "state": RunPhase(row["state"])}
    return StoredRun(**{**row, **decoded})


def insert_run(
    connection: Connection,
    *,
    key: str,
    entity_id: int,
    project: str,
    run: str,
    token: str,
    about: Mapping[str, Any],
    told_at: datetime,
    now: datetime,
) -> bool:
    """Remember a new run that is started, and forget the one of its entity that nothing came of for longest, if many.

    Returns:
        Whether it is new; another transaction may have been faster.

    Locks (docs/decisions/0012, "begin a run of wandb"): wandb_runs (its row, then old ones that nobody has locked).
    """
    values = {
        "key": key,
        "entity_id": entity_id,
        "project": project,
        "run": run,
        "token": token,
        "about": write_json(about).decode(),
        "state": str(RunPhase.RUNNING),
        "starts": 1,
        "told_at": told_at,
        "seen_at": now,
        "created_at": now,
    }
    statement = insert_ignore(connection, wandb_runs).values(values).returning(wandb_runs.c.key)
    if connection.execute(statement).scalar_one_or_none() is None:
        return False
    of_entity = wandb_runs.c.entity_id == entity_id
    count = connection.scalar(select(func.count()).select_from(wandb_runs).where(of_entity)) or 0
    if count > MAX_RUNS:
        oldest = select(wandb_runs.c.key).where(of_entity, wandb_runs.c.key != key).order_by(wandb_runs.c.seen_at)
        gone = oldest.limit(min(count - MAX_RUNS, _FORGOTTEN_AT_ONCE)).with_for_update(skip_locked=True)
        connection.execute(delete(wandb_runs).where(wandb_runs.c.key.in_(gone)))
    return True


def change_about(connection: Connection, key: str, about: Mapping[str, Any], now: datetime) -> None:
    """What the client says of a run now."""
    values = {"about": write_json(about).decode(), "seen_at": now}
    connection.execute(update(wandb_runs).where(wandb_runs.c.key == key).values(values))


def start_again(connection: Connection, key: str, starts: int, now: datetime, *, goes_on: bool = False) -> None:
    """The run begins anew, or goes on with its lines, for the `starts`th time."""
    values = {
        "starts": starts,
        "streamed": False,
        "preempting": False,
        "state": str(RunPhase.RUNNING),
        "told_at": now,
        "seen_at": now,
    }
    if not goes_on:
        values["history_lines"] = 0
    connection.execute(update(wandb_runs).where(wandb_runs.c.key == key).values(values))


def mark_streamed(connection: Connection, run: StoredRun) -> None:
    """Something came since the run was started last; before it is published: another process must not number anew."""
    connection.execute(update(wandb_runs).where(_same_start(run)).values(streamed=True))


def write_progress(connection: Connection, run: StoredRun, history_lines: int) -> None:
    """So many lines are published of a request that is not over, or came to nothing. Lines only become more."""
    more = wandb_runs.c.history_lines < history_lines
    connection.execute(update(wandb_runs).where(_same_start(run) & more).values(history_lines=history_lines))


def write_streamed(connection: Connection, run: StoredRun, what: Streamed, now: datetime) -> None:
    """Write down what came of a run at `now`, unless it was started again meanwhile.

    A request may take so long that the client has repeated it and gone on. So lines only become more, times later, an
    end stays, and what was said of step and summary with later lines.
    """
    columns = wandb_runs.c
    newest = columns.history_lines <= what.history_lines
    values: dict[str, Any] = {
        "streamed": True,
        "told_at": _later(columns.told_at, what.told_at),
        "seen_at": _later(columns.seen_at, now),
        "history_lines": _later(columns.history_lines, what.history_lines),
    }
    if what.state is not None:
        values["state"] = str(what.state)
    if what.preempting:
        values["preempting"] = True
    if what.last_step is not None:
        values["last_step"] = case((newest, what.last_step), else_=columns.last_step)
    if what.summary is not None:
        text = write_json(what.summary).decode()
        values["summary"] = case((newest, text), else_=columns.summary)
    connection.execute(update(wandb_runs).where(_same_start(run)).values(values))


def _same_start(run: StoredRun) -> ColumnElement[bool]:
    return (wandb_runs.c.key == run.key) & (wandb_runs.c.starts == run.starts) & (wandb_runs.c.token == run.token)


def _later(column: Column[Any], value: object) -> Case[Any]:
    return case((column < value, literal(value, column.type)), else_=column)


def delete_unseen(connection: Connection, *, before: datetime, limit: int) -> int:
    """Forget runs of which nothing came since a time; returns how many."""
    old = select(wandb_runs.c.key).where(wandb_runs.c.seen_at < before).limit(limit).with_for_update(skip_locked=True)
    return connection.execute(delete(wandb_runs).where(wandb_runs.c.key.in_(old))).rowcount
