"""Events of runs, of facts and of what is known of their runs. Must not do I/O."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timezone
from typing import Any

from hookline import events
from hookline.errors import InvalidEvent
from hookline.values import clean_name, config_value

from hookline_mlflow.facts import Fact, typed

OWN_KEYS = "mlflow."
"""How the keys of MLflow's own tags begin; they are not published."""
_PARENT, _SOURCE = "mlflow.parentRunId", "mlflow.source.name"


@dataclass(frozen=True)
class KnownRun:
    """What events say of a run."""

    run_id: str
    name: str | None
    user: str | None
    experiment_id: str
    experiment: str
    entity: str | None
    params: Mapping[str, str] = field(default_factory=dict)
    tags: Mapping[str, str] = field(default_factory=dict)
    summary: Mapping[str, Any] = field(default_factory=dict)
    """The last value of each metric, if it was asked for: what W&B calls a run's summary."""

    def as_run(self, *, has_ended: bool) -> events.Run:
        """The run as an event has it."""
        members: dict[str, Any] = {
            "experiment_id": self.experiment_id,
            "user": self.user,
            "parent": self.tags.get(_PARENT),
            "source_name": self.tags.get(_SOURCE),
            "tags": config_value({key: value for key, value in self.tags.items() if not key.startswith(OWN_KEYS)}),
            "summary": dict(self.summary) if has_ended else None,
        }
        return events.Run(
            self.run_id,
            clean_name(self.name or self.run_id),
            config=config_value({key: typed(value) for key, value in self.params.items()}),
            **{name: value for name, value in members.items() if value not in (None, "")},
        )


def event_of(fact: Fact, run: KnownRun | None) -> events.Event:
    """The event that a fact is, if its run is known. Raises InvalidEvent."""
    if run is None:
        raise InvalidEvent(f"data.run: {fact['run']} is not in MLflow any more")
    project = clean_name(run.experiment)
    common: events.Common = {
        "entity": run.entity,
        "author": fact["author"] or clean_name(run.user or ""),
        "id": fact["id"],
        "source": fact["source"],
        "time": _moment(fact["at_ms"]),
    }
    seen = run.as_run(has_ended=is_end(fact))
    if fact["fact"] == "state":
        return events.run_state(project=project, run=seen, state=fact["state"], **common)
    return events.run_metrics(project=project, run=seen, step=fact["step"], metrics=fact["metrics"], **common)


def is_end(fact: Fact) -> bool:
    """Whether a fact is that a run ended."""
    return bool(fact["fact"] == "state" and fact["state"] != "running")


def _moment(at_ms: int | None) -> datetime:
    """A time of MLflow's; now where it has none, or one that no calendar has."""
    try:
        return datetime.fromtimestamp(time.time() if at_ms is None else at_ms / 1000, timezone.utc)
    except (OverflowError, OSError, ValueError):
        return datetime.now(timezone.utc)
