"""The schema gate: keeps a process from working on a database whose schema is older than its code.

Must not end the process: in a deployment parts may start before the migration, and go on by themselves after it.
"""

from __future__ import annotations

import threading
import time

from sqlalchemy import Engine

from shared.observability.logs import get_logger
from shared.storage.database.transactions import read_transaction
from shared.storage.schema.errors import SchemaTooOld
from shared.storage.schema.migrate import current_revision, newest_revision, schema_fault

LOG_SECONDS = 60.0
"""How often a process that waits says so in its log."""
log = get_logger("hookline.schema")


class SchemaGate:
    """Asks the database for its schema until this version can serve it, and again after `doubt`.

    All threads of a process share it. `_served` is read without the lock, for speed: a thread that reads it too early
    asks the database once more, one that reads it too late does one more piece of work, which fails as the one before.
    `_waited` and `_logged_at` are read and written under the lock.
    """

    def __init__(self, engine: Engine, *, log_seconds: float = LOG_SECONDS) -> None:
        self._engine = engine
        self._log_seconds = log_seconds
        self._lock = threading.Lock()
        self._served = False
        self._logged_at = float("-inf")
        self._waited = False

    def check(self) -> None:
        """Return if this version can serve the schema, at no cost once that is known. Waiting is logged now and then.

        Raises:
            SchemaTooOld: while migrations are missing.
            SQLAlchemyError: when the database can't be asked.
        """
        if self._served:
            return
        with read_transaction(self._engine) as connection:
            found = current_revision(connection)
        fault = schema_fault(found)
        with self._lock:
            if fault is not None:
                self._log_waiting(found)
                raise SchemaTooOld(f"the database {fault}")
            self._served = True
            if self._waited:
                self._waited = False
                log.info("schema.ready", schema=found)

    def _log_waiting(self, found: str | None) -> None:
        self._waited = True
        now = time.monotonic()
        if now - self._logged_at < self._log_seconds:
            return
        self._logged_at = now
        log.warning(
            "schema.waiting", schema=found, wanted=newest_revision(), remedy="run `hookline init` with this version"
        )

    def doubt(self) -> None:
        """Have the next `check` ask the database again, since a statement failed as it would on another schema."""
        with self._lock:
            self._served = False
