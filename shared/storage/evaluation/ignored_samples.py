"""Samples that automations ignored, because they came too late: one is written down once in a while."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from datetime import datetime, timedelta

from sqlalchemy import Connection, or_, update

from shared.storage.schema.tables import automations


@dataclass(frozen=True, slots=True)
class IgnoredSample:
    """A sample of a run that was at or before its metric's last step."""

    epoch: int
    """The automation's, which looked at it."""
    project: str
    run: str
    metric: str
    step: int
    last_step: int


def note_ignored(
    connection: Connection, automation_id: int, sample: IgnoredSample, *, now: datetime, silence: timedelta
) -> bool:
    """Write down that an automation ignored a sample.

    Nothing is written when one was written down less than `silence` ago, whoever did, or when it was edited since.
    """
    due = or_(automations.c.ignored_at.is_(None), automations.c.ignored_at <= now - silence)
    about = {key: value for key, value in asdict(sample).items() if key != "epoch"}
    noted = connection.execute(
        update(automations)
        .where(automations.c.id == automation_id, automations.c.epoch == sample.epoch, due)
        .values(ignored_at=now, ignored_sample=about)
    )
    return noted.rowcount > 0
