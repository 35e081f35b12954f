"""Runs that are watched for silence: what workers write down of them, and what the dispatcher makes of it.

What workers write down is idempotent and only goes forward, so it is written before a batch is committed, and again
when the batch is evaluated again.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, TypedDict

from sqlalchemy import ColumnElement, Connection, and_, bindparam, case, delete, func, or_, select, update

from shared.domain.delivery.silent_runs import Silences
from shared.domain.matching.index import organizations_above
from shared.storage.database.bulk import among
from shared.storage.database.upserts import insert_into
from shared.storage.definitions.entities import organization_links
from shared.storage.schema.tables import automations, entities, run_watches

RUNS: Final = 0
ENDED: Final = 1
CRASHED: Final = 2
"""How a run stands: by its publisher's word, or by Hookline's."""


def watch_key(subject: str) -> str:
    """The key of the run with this subject."""
    return hashlib.blake2b(subject.encode(), digest_size=16).hexdigest()


class RunStateRow(TypedDict):
    """A state of a run, as it is written down."""

    key: str
    partition: int
    entity: str
    project: str
    run: str
    heartbeat_ms: int | None
    state_order: int
    start_token: int
    ended: int
    seen_ms: int
    check_ms: int | None
    changed_at: datetime


@dataclass(frozen=True, slots=True)
class KnownWatch:
    """A watch as workers need it."""

    key: str
    entity: str
    heartbeat_ms: int | None
    seen_ms: int
    ended: int


def asked_silences(connection: Connection) -> Silences:
    """The silences that enabled automations ask for."""
    query = (
        select(entities.c.name, automations.c.scope_project, automations.c.silent_ms)
        .join(entities, entities.c.id == automations.c.entity_id)
        .where(automations.c.silent_ms.is_not(None), automations.c.deleted_at.is_(None), automations.c.enabled)
    )
    asked = [(row[0], row[1], row[2]) for row in connection.execute(query)]
    if not asked:
        return Silences()
    parents = {link.name: link.parent for link in organization_links(connection)}
    return Silences(asked, organizations_above(parents))


@dataclass(frozen=True, slots=True)
class DueWatch:
    """A watch that the dispatcher has to look at."""

    key: str
    partition: int
    entity: str
    project: str
    run: str
    heartbeat_ms: int | None
    seen_ms: int
    told_ms: int


def changed_since(connection: Connection, since: datetime | None) -> list[KnownWatch]:
    """The watches whose run changed its state since then; all that run when None."""
    columns = run_watches.c.key, run_watches.c.entity, run_watches.c.heartbeat_ms, run_watches.c.seen_ms
    query = select(*columns, run_watches.c.ended)
    wanted = run_watches.c.ended == RUNS if since is None else run_watches.c.changed_at >= since
    return [KnownWatch(*row) for row in connection.execute(query.where(wanted))]


def known_keys(connection: Connection, keys: Collection[str]) -> set[str]:
    """Those of these keys that are watched, or were."""
    return set(connection.scalars(select(run_watches.c.key).where(among(connection, run_watches.c.key, keys))))


def write_states(connection: Connection, rows: Sequence[RunStateRow]) -> None:
    """Write down states of runs. One that came before what is written down changes nothing.

    A repeat of the event that started a run does not start it again after its publisher ended it.

    Locks (docs/decisions/0012, "watch runs"): run_watches, in the order of their keys.
    """
    if not rows:
        return
    statement = insert_into(connection, run_watches)
    new, old = statement.excluded, run_watches.c
    repeated = and_(new.ended == RUNS, old.ended == ENDED, new.start_token == old.start_token)
    newer = and_(new.state_order >= old.state_order, ~repeated)
    starts = and_(newer, new.ended == RUNS)
    values = {
        "run": case((newer, new.run), else_=old.run),
        "heartbeat_ms": case((starts, new.heartbeat_ms), else_=old.heartbeat_ms),
        "start_token": case((starts, new.start_token), else_=old.start_token),
        "ended": case((newer, new.ended), else_=old.ended),
        "state_order": case((newer, new.state_order), else_=old.state_order),
        "check_ms": case((newer, new.check_ms), else_=old.check_ms),
        "seen_ms": case((new.seen_ms > old.seen_ms, new.seen_ms), else_=old.seen_ms),
        "changed_at": new.changed_at,
    }
    ordered = sorted(rows, key=lambda row: (row["key"], row["state_order"]))
    connection.execute(statement.on_conflict_do_update(index_elements=["key"], set_=values), ordered)


_TOUCH = (
    update(run_watches)
    .where(run_watches.c.key == bindparam("of"), run_watches.c.seen_ms < bindparam("seen"))
    .values(
        seen_ms=bindparam("seen"),
        check_ms=case((run_watches.c.ended == RUNS, func.coalesce(run_watches.c.check_ms, bindparam("seen")))),
    )
)


def write_seen(connection: Connection, seen_ms: dict[str, int]) -> None:
    """Write down when something of these runs came, by their keys.

    Locks (docs/decisions/0012, "watch runs"): run_watches, in the order of their keys.
    """
    if seen_ms:
        connection.execute(_TOUCH, [{"of": key, "seen": seen_ms[key]} for key in sorted(seen_ms)])


def due_watches(connection: Connection, now_ms: int, limit: int) -> list[DueWatch]:
    """The runs that have to be looked at, the longest due first."""
    columns = (
        run_watches.c.key,
        run_watches.c.partition,
        run_watches.c.entity,
        run_watches.c.project,
        run_watches.c.run,
        run_watches.c.heartbeat_ms,
        run_watches.c.seen_ms,
        case((run_watches.c.told_seen_ms == run_watches.c.seen_ms, run_watches.c.told_ms), else_=0),
    )
    query = select(*columns).where(run_watches.c.check_ms <= now_ms).order_by(run_watches.c.check_ms).limit(limit)
    return [DueWatch(*row) for row in connection.execute(query)]


def end_crashed(connection: Connection, watch: DueWatch, now: datetime) -> bool:
    """Write down that a run crashed, unless something of it came meanwhile. Says whether it did."""
    values: dict[str, Any] = {"ended": CRASHED, "check_ms": None, "changed_at": now}
    return connection.execute(update(run_watches).where(_unchanged(watch)).values(values)).rowcount == 1


def note_told(connection: Connection, watch: DueWatch, told_ms: int) -> bool:
    """Write down that a silence was published, unless something came of the run meanwhile. Says whether it did."""
    values = {"told_ms": told_ms, "told_seen_ms": watch.seen_ms}
    return connection.execute(update(run_watches).where(_unchanged(watch)).values(values)).rowcount == 1


def _unchanged(watch: DueWatch) -> ColumnElement[bool]:
    seen_ms, ended = run_watches.c.seen_ms, run_watches.c.ended
    return and_(run_watches.c.key == watch.key, seen_ms == watch.seen_ms, ended == RUNS)


def look_at_all(connection: Connection, now_ms: int) -> None:
    """Have all runs looked at soon that nobody would look at for a while: automations ask for other silences now."""
    late = or_(run_watches.c.check_ms.is_(None), run_watches.c.check_ms > now_ms)
    connection.execute(update(run_watches).where(run_watches.c.ended == RUNS, late).values(check_ms=now_ms))


def look_again(connection: Connection, times_ms: dict[str, int | None]) -> None:
    """When to look at runs again, by their keys.

    Locks (docs/decisions/0012, "judge silent runs"): run_watches, in the order of their keys.
    """
    if times_ms:
        later = update(run_watches).where(run_watches.c.key == bindparam("of"), run_watches.c.ended == RUNS)
        rows = [{"of": key, "at": times_ms[key]} for key in sorted(times_ms)]
        connection.execute(later.values(check_ms=bindparam("at")), rows)


def count_watches(connection: Connection) -> int:
    """How many runs are waited for."""
    query = select(func.count()).select_from(run_watches).where(run_watches.c.check_ms.is_not(None))
    return connection.scalar(query) or 0


def delete_old(connection: Connection, *, before: datetime, limit: int) -> int:
    """Delete watches of runs that ended before a time; returns how many."""
    over = or_(run_watches.c.ended != RUNS, run_watches.c.check_ms.is_(None))
    old = select(run_watches.c.key).where(run_watches.c.changed_at < before, over).limit(limit)
    return connection.execute(delete(run_watches).where(run_watches.c.key.in_(old))).rowcount
