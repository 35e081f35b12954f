"""Writes what MLflow's sessions change into the outbox, in the same transaction.

One listener on the class of a store's sessions sees every flush, whichever of MLflow's methods caused it, so that
MLflow's own retries and rollbacks take the rows with them. Nothing that goes wrong here reaches MLflow: where a failed
statement would end the transaction, ours run below a savepoint.
"""

from __future__ import annotations

import logging
import os
import time
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa
from hookline import batches, outbox

from hookline_mlflow.authors import current_author
from hookline_mlflow.facts import STATES, Fact, metric_facts, state_fact
from hookline_mlflow.registry import Change, Registry, Tables, changes, classes

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from hookline.events import Event
    from sqlalchemy.orm import Session

    from hookline_mlflow.settings import Settings

log = logging.getLogger("hookline")
TABLE = "alembic_hookline_outbox"
"""MLflow 2 takes a database that has other tables than its own for one that is not set up, and migrates it with each
store that it makes; it overlooks names that begin like this."""
_AT_ONCE = 400
"""Rows in one statement: databases bound its parameters."""
_LOOKS_EVERY_SECONDS = 10.0
_TELLS_EVERY_SECONDS = 60.0
_GOES_ON = frozenset({"sqlite", "mysql"})
"""Where a transaction goes on after a statement that failed."""


class Recorder:
    """Records what the sessions of one store change.

    Raises:
        ImportError, AttributeError: if this MLflow has other classes than those that are known here.
    """

    def __init__(self, settings: Settings) -> None:
        from mlflow.store.tracking.dbmodels.models import SqlMetric, SqlRun

        for column in ("run_uuid", "key", "value", "is_nan", "step", "timestamp"):
            getattr(SqlMetric, column)
        for column in ("run_uuid", "status", "start_time", "end_time"):
            getattr(SqlRun, column)
        self._settings = settings
        self._metric, self._run = SqlMetric, SqlRun
        self._registry = Registry(settings, Tables.of_mlflow())
        self._of_registry = classes()
        self._kinds = self._of_registry | {SqlMetric, SqlRun}
        self._table = outbox.table(sa.MetaData(), TABLE)
        # Made once, and without asking for the row's number: this is in the way of every metric that is logged.
        self._insert_one = sa.insert(self._table).inline()
        self._looked_at = self._told_at = float("-inf")
        self._is_full = False
        self._process = os.getpid()
        self.after_fork: Callable[[], None] | None = None
        """Called once in a forked child that records."""

    def listen(self, session_class: type[Session]) -> None:
        """Record the flushes of all sessions of a class."""
        sa.event.listen(session_class, "after_flush", self._after_flush)

    def _after_flush(self, session: Session, _context: object) -> None:
        try:
            changed = list(session.new), list(session.dirty), list(session.deleted)
            kinds = {type(one) for group in changed for one in group}
            if kinds.isdisjoint(self._kinds):
                return
            author = current_author(self._settings.author_header)
            facts = self._facts(changed[0], changed[1], author)
            of_registry: list[Change] = []
            if not kinds.isdisjoint(self._of_registry):
                of_registry = changes(*changed, stages=self._settings.stages)
            if facts or of_registry:
                if self._process != os.getpid() and self.after_fork is not None:
                    self._process = os.getpid()
                    self.after_fork()
                self._write(session, facts, of_registry, author)
        except Exception as exc:
            self._tell("an event of MLflow's was not recorded: %s", exc)

    def _facts(self, new: list[Any], dirty: list[Any], author: str) -> list[Fact]:
        facts: list[Fact | None] = []
        samples = []
        for one in new:
            if type(one) is self._metric:
                if not self._is_full and self._settings.wants(one.key):
                    samples.append(one)
            elif type(one) is self._run:
                facts.append(state_fact(one.run_uuid, one.status, one.start_time, author))
        for one in dirty:
            if type(one) is self._run:
                history = sa.inspect(one).attrs.status.history
                if history.has_changes():
                    at_ms = None if STATES.get(one.status) == "running" else one.end_time
                    facts.append(state_fact(one.run_uuid, one.status, at_ms, author))
        # A state that ends a run comes after what it logged.
        return [*metric_facts(samples, author), *(fact for fact in facts if fact is not None)]

    def _write(self, session: Session, facts: list[Fact], of_registry: list[Change], author: str) -> None:
        connection = session.connection()
        dialect = connection.dialect.name
        if dialect in _GOES_ON:
            self._insert(connection, facts, of_registry, author)
        elif dialect == "postgresql":  # the same as below, at half the price
            connection.exec_driver_sql("SAVEPOINT hookline")
            try:
                self._insert(connection, facts, of_registry, author)
            except BaseException:
                connection.exec_driver_sql("ROLLBACK TO SAVEPOINT hookline")
                raise
            connection.exec_driver_sql("RELEASE SAVEPOINT hookline")
        else:
            with connection.begin_nested():
                self._insert(connection, facts, of_registry, author)

    def _insert(self, connection: sa.Connection, facts: list[Fact], of_registry: list[Change], author: str) -> None:
        rows: list[Event | Mapping[str, Any]] = [{**fact, "source": self._settings.source} for fact in facts]
        for change in of_registry:
            rows += self._registry.events(connection, change, author)
        if len(rows) == 1:
            row = {"event": batches.encoded(rows[0]), "created_at": datetime.now(timezone.utc)}
            connection.execute(self._insert_one, row)
        else:
            for start in range(0, len(rows), _AT_ONCE):
                connection.execute(outbox.insert(*rows[start : start + _AT_ONCE], name=TABLE))
        now = time.monotonic()
        if now - self._looked_at > _LOOKS_EVERY_SECONDS:
            self._looked_at = now
            self._look(connection)

    def _look(self, connection: sa.Connection) -> None:
        """Whether too much waits, by the numbers of the first and the last row; counted only if they say so."""
        number, parked_at = self._table.c.id, self._table.c.parked_at
        span = connection.execute(sa.select(sa.func.max(number) - sa.func.min(number))).scalar() or 0
        if span >= self._settings.max_waiting:
            waiting = sa.select(sa.func.count()).select_from(self._table).where(parked_at.is_(None))
            span = connection.execute(waiting).scalar_one()
        was_full, self._is_full = self._is_full, span >= self._settings.max_waiting
        if self._is_full and not was_full:
            log.warning("%d events wait for Hookline: metrics are left out until some are sent", span)

    def _tell(self, message: str, exc: Exception) -> None:
        """Log it; the same kind of trouble comes with every request, so once a minute."""
        if time.monotonic() - self._told_at > _TELLS_EVERY_SECONDS:
            self._told_at = time.monotonic()
            log.warning(message, " ".join(str(exc).split())[:500] or type(exc).__name__)
