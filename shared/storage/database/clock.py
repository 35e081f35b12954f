"""The time by which all processes agree on what is due: the database's, whatever their machines' clocks say.

A claim, a retry and a circuit are times in rows that others act on. A worker whose clock runs an hour ahead would hide
what it writes for that hour, and take the others' leases for expired.
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


def database_time(connection: Connection) -> datetime:
    """The time, in UTC, by the clock that `DatabaseClock` goes by: for transactions of those who have none at hand."""
    if not is_postgresql(connection):
        return datetime.now(UTC)
    told: datetime = connection.scalars(select(func.clock_timestamp())).one()
    return told.astimezone(UTC)


class DatabaseClock:
    """PostgreSQL's clock, looked at once a second and kept in between by this process's monotonic clock.

    SQLite has no clock of its own: there it is this machine's, the only one involved.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._own = engine.dialect.name != "postgresql"
        self._looking = threading.Lock()
        self._seen: tuple[float, datetime] | None = None

    def now(self) -> datetime:
        """The time, in UTC.

        Raises:
            SQLAlchemyError: when the database can't be reached and never was.
        """
        self.refresh()
        return self.estimate()

    def refresh(self) -> None:
        """Look at the database's clock where the last look is older than `LOOK_SECONDS`, so that `estimate` is good.

        For threads that are about to take a connection and want the time while they hold it: a second connection for
        the look could wait for theirs.

        Raises:
            SQLAlchemyError: when the database can't be reached and never was.
        """
        if self._own:
            return
        seen = self._seen
        # One thread looks; the others go on with what was seen before.
        if (seen is None or time.monotonic() - seen[0] > LOOK_SECONDS) and self._looking.acquire(blocking=seen is None):
            try:
                self._look()
            finally:
                self._looking.release()

    def estimate(self) -> datetime:
        """The time by what was seen last, which asks nobody: for an event loop.

        `now` or `refresh` must have been called before.
        """
        if self._own:
            return datetime.now(UTC)
        if self._seen is None:
            raise RuntimeError("reckoned before the database was ever asked")
        seen_at, told = self._seen
        return told + timedelta(seconds=time.monotonic() - seen_at)

    def _look(self) -> None:
        try:
            with read_statement(self._engine) as connection:
                told = database_time(connection)
        except SQLAlchemyError:
            if self._seen is None:
                raise
        else:
            self._seen = time.monotonic(), told
