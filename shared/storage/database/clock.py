"""The database's clock, by which all processes agree on what is due, whatever their machines' clocks say.

Leases, retries and circuits are times in rows, on which other processes act. A worker whose clock ran an hour ahead
would hide its retries for that hour, and take other workers' leases for expired.
"""

from __future__ import annotations

import threading
import time
from datetime import UTC, datetime, timedelta

from sqlalchemy import Connection, Engine, func, select
from sqlalchemy.exc import SQLAlchemyError

from shared.storage.database.bulk import is_postgresql
from shared.storage.database.transactions import read_statement

LOOK_SECONDS = 1.0
"""How long an answer of the database counts. Two clocks drift apart by microseconds in it; a worker's clock that is set
while it runs does not matter, since the time in between is monotonic."""


def database_time(connection: Connection) -> datetime:
    """The database's time, in UTC, for a transaction of a process without a `DatabaseClock`."""
    if not is_postgresql(connection):
        return datetime.now(UTC)
    answer: datetime = connection.scalars(select(func.clock_timestamp())).one()
    return answer.astimezone(UTC)


class DatabaseClock:
    """PostgreSQL's clock, asked once a second and continued in between by this process's monotonic clock.

    SQLite has no clock: there it is this machine's, the only one involved.

    Any thread may call any method. `_seen` is replaced as a whole by the thread that holds `_asking`, and read by all
    without a lock: a reader gets the old answer or the new one, which differ by less than a round trip.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._own = engine.dialect.name != "postgresql"
        self._asking = threading.Lock()
        self._seen: tuple[float, datetime] | None = None
        """The monotonic time of the last answer, and the answer; None before the first."""

    def now(self) -> datetime:
        """The time, in UTC.

        Raises:
            SQLAlchemyError: when the database can't be reached and never was.
        """
        self.refresh()
        return self.estimate()

    def refresh(self) -> None:
        """Ask the database if its last answer is older than `LOOK_SECONDS`, so that `estimate` is good.

        For threads that are about to take a connection and want the time while they hold it: a second connection, for
        the question, could wait for theirs.

        Raises:
            SQLAlchemyError: when the database can't be reached and never was.
        """
        if self._own:
            return
        seen = self._seen
        # One thread asks, and the others go on by the last answer. Before the first answer they wait for it.
        if (seen is None or time.monotonic() - seen[0] > LOOK_SECONDS) and self._asking.acquire(blocking=seen is None):
            try:
                self._ask()
            finally:
                self._asking.release()

    def estimate(self) -> datetime:
        """The time by the database's last answer, for event loops, which must not ask it.

        `now` or `refresh` must have been called before.
        """
        if self._own:
            return datetime.now(UTC)
        if self._seen is None:
            raise RuntimeError("the time can't be estimated before the database was asked")
        seen_at, answer = self._seen
        return answer + timedelta(seconds=time.monotonic() - seen_at)

    def _ask(self) -> None:
        try:
            with read_statement(self._engine) as connection:
                answer = database_time(connection)
        except SQLAlchemyError:
            if self._seen is None:
                raise
        else:
            self._seen = time.monotonic(), answer
