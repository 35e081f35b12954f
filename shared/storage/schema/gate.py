"""Keeps a process from working on a database whose schema is older than its code, and lets it begin once that is done.

Must not end the process: whoever deploys may start parts before the migration, and they go on by themselves after it.
"""

from __future__ import annotations

import threading
import time

from sqlalchemy import Engine

from shared.domain.errors import HooklineError
from shared.observability.logs import get_logger
from shared.storage.database.transactions import read_transaction
from shared.storage.schema.migrate import current_revision, newest_revision, schema_fault

TELL_SECONDS = 60.0
log = get_logger("hookline.schema")


class SchemaTooOld(HooklineError):
    """The database lacks migrations that this version's code needs; run `hookline init` with this version."""


class SchemaGate:
    """Asks the database for its schema until that is one that this version serves, and again when in doubt."""

    def __init__(self, engine: Engine, *, tell_seconds: float = TELL_SECONDS) -> None:
        self._engine = engine
        self._tell_seconds = tell_seconds
        self._lock = threading.Lock()
        self._served = False
        self._told = float("-inf")
        self._waited = False

    def check(self) -> None:
        """Pass, at no cost once the schema was found good; what it waits for is logged once a minute at most.

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
                self._tell(found)
                raise SchemaTooOld(f"the database {fault}")
            self._served = True
            if self._waited:
                self._waited = False
                log.info("schema.ready", schema=found)

    def _tell(self, found: str | None) -> None:
        self._waited = True
        now = time.monotonic()
        if now - self._told < self._tell_seconds:
            return
        self._told = now
        log.warning(
            "schema.waiting", schema=found, wanted=newest_revision(), remedy="run `hookline init` with this version"
        )

    def doubt(self) -> None:
        """Ask again before anything else is done: a statement failed as it would on another schema."""
        with self._lock:
            self._served = False
