"""Tells the owners of automations that samples of a run were ignored. Must not decide which those are."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

from sqlalchemy import Connection, Engine

from shared.storage.database.clock import DatabaseClock
from shared.storage.evaluation.ignored_samples import IgnoredSample, note_ignored
from worker.evaluation.quiet_reports import SILENCE, QuietReports


class IgnoredSampleReporter:
    """Threads of evaluations share it."""

    def __init__(self, *, engine: Engine, clock: DatabaseClock) -> None:
        self._reports: QuietReports[IgnoredSample] = QuietReports(engine=engine, clock=clock, write=_write)

    def tell(self, ignored: Mapping[int, IgnoredSample]) -> None:
        """Tell of a sample of each automation that was not told of one lately."""
        for automation_id, sample in ignored.items():
            self._reports.add(automation_id, sample)
        self._reports.tell(lambda _automation_id, _sample: None)


def _write(connection: Connection, automation_id: int, sample: IgnoredSample, now: datetime) -> bool:
    return note_ignored(connection, automation_id, sample, now=now, silence=SILENCE)
