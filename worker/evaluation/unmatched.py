"""Tells the owners of automations that could not be matched. Must not decide which those are."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime

from sqlalchemy import Connection, Engine

from shared.domain.errors import InvalidDefinition
from shared.domain.filters.budget import EVENT_UNITS
from shared.domain.matching.compiled import Indexed
from shared.observability import metrics
from shared.observability.logs import get_logger
from shared.storage.database.clock import DatabaseClock
from shared.storage.evaluation.unmatched import note_unmatched
from worker.evaluation.quiet_reports import SILENCE, QuietReports

MAX_REASON_CHARS = 1_000

TOO_COSTLY = (
    f"its filter, or the windows of its conditions, would take more than is left of an event's {EVENT_UNITS:,} units of"
    " work, or of the workers' time for its entity: use fewer or smaller patterns, shorter texts, smaller windows"
)

log = get_logger("hookline.evaluate")


class UnmatchedReporter:
    """Threads of evaluations share it."""

    def __init__(self, *, engine: Engine, clock: DatabaseClock) -> None:
        self._reports: QuietReports[str] = QuietReports(engine=engine, clock=clock, write=_write)

    def unreadable(self, one: Indexed, refusal: InvalidDefinition) -> None:
        """An automation's stored definition cannot be read: an older or newer version wrote it. Writes nothing yet."""
        metrics.AUTOMATIONS_UNMATCHED.labels(reason="unreadable").inc()
        log.error("automation.unreadable", automation_id=one.id, entity=one.scope_key[1], errors=str(refusal))
        self._reports.add(one.id, f"its definition is not accepted any more: {refusal}"[:MAX_REASON_CHARS])

    def too_costly(self, automations: Iterable[Indexed]) -> None:
        """Filters that asked for more work on an event than there was. Writes nothing yet."""
        for one in automations:
            metrics.AUTOMATIONS_UNMATCHED.labels(reason="too_costly").inc()
            self._reports.add(one.id, TOO_COSTLY)

    def tell(self) -> None:
        """Tell what has not been told lately; if the database is away, some other time."""
        self._reports.tell(_told)


def _write(connection: Connection, automation_id: int, reason: str, now: datetime) -> bool:
    return note_unmatched(connection, automation_id, reason=reason, now=now, silence=SILENCE)


def _told(automation_id: int, reason: str) -> None:
    log.warning("automation.unmatched", automation_id=automation_id, reason=reason)
