"""The events that follow from what the `wandb` client says of a run. Pure.

Their ids are made of the run, of how often it was started, and of the line's number in its history: a request that the
client repeats becomes the same events again, which fire nothing. Where several processes write to a run, each that
joins starts it again while the others go on, so their lines have the writer in the place of the start.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from hashlib import blake2b
from typing import Any, Final

from dispatcher.wandb_runs.configs import MAX_EACH_BYTES, within_bounds
from dispatcher.wandb_runs.history import Logged, clean_lines, clean_text, rfc_3339
from shared.domain.errors import InvalidDefinition
from shared.domain.events.own_sources import WANDB_RUNS
from shared.domain.events.types import AlertLevel, EventType, RunPhase
from shared.storage.definitions.wandb_runs import StoredRun

DEFAULT_WAIT: Final = timedelta(minutes=1)
"""How long the same title says nothing new where the client does not tell, as the client itself has it."""


@dataclass(frozen=True, slots=True)
class RunEvents:
    """Makes the events of one run, as it is stored."""

    entity: str
    author: str
    run: StoredRun
    writer: str = ""
    """Which of the processes that write to one run numbered the lines; blank where there is one."""
    _of_metrics: dict[str, Any] = field(init=False, repr=False, compare=False)
    """The run as events about metrics have it."""

    def __post_init__(self) -> None:
        run = self._run()
        if "config" in run:
            run["config"] = within_bounds(run["config"], MAX_EACH_BYTES)
        object.__setattr__(self, "_of_metrics", run)

    def running(self, heartbeat: timedelta, now: datetime) -> dict[str, Any]:
        """That it runs. The same for each start, so it is a sign of life as well."""
        state = {"state": str(RunPhase.RUNNING), "heartbeat_seconds": heartbeat.total_seconds()}
        return self._event(EventType.RUN_STATE, "running", rfc_3339(now), {"run": self._run(), **state})

    def metrics(self, line: int, logged: Logged) -> Iterator[dict[str, Any]]:
        """What a line of the history logged: an event, several for very many samples, none without samples."""
        for number, part in enumerate(logged.parts()):
            what = f"history/{line}" if number == 0 else f"history/{line}/{number}"
            members: dict[str, Any] = (
                {"metrics": part} if logged.step is None else {"step": logged.step, "metrics": part}
            )
            members["run"] = self._of_metrics
            yield self._event(EventType.RUN_METRIC, what, logged.time, members, start=self.writer)

    def ended(self, phase: RunPhase, summary: Mapping[str, Any], now: datetime) -> dict[str, Any]:
        """That it ended so."""
        run = {**self._run(), "summary": {key: value for key, value in summary.items() if not key.startswith("_")}}
        return self._event(EventType.RUN_STATE, str(phase), rfc_3339(now), {"run": run, "state": str(phase)})

    def alert(
        self, title: str, text: str, level: AlertLevel, now: datetime, wait: timedelta = DEFAULT_WAIT
    ) -> dict[str, Any]:
        """That it raised an alert.

        The client leaves it to the server to pass one title on only once within `wait` (`wandb.Run.alert`). Time is cut
        into spans of that length: alerts of a title within one span are the same event. So is a repeated request.

        Raises:
            InvalidDefinition: for an alert without any text.
        """
        lines = clean_lines(text)
        named = clean_text(title) or clean_text(lines)
        if not named:
            raise InvalidDefinition.at(("title",), "must be text, and not blank")
        span = int(now.timestamp() * 1000) // max(1, int(wait.total_seconds() * 1000))
        about = blake2b(named.encode("utf-8", "replace"), digest_size=8).hexdigest()
        members = {"run": self._of_metrics, "title": named, "text": lines, "level": str(level)}
        return self._event(EventType.RUN_ALERT, f"alert/{about}/{span}", rfc_3339(now), members)

    def _run(self) -> dict[str, Any]:
        about = {key: value for key, value in self.run.about.items() if key != "notes"}
        return {**about, "id": self.run.run, "name": self.run.display_name}

    def _event(
        self, kind: EventType, what: str, time: str | None, members: Mapping[str, Any], *, start: str = ""
    ) -> dict[str, Any]:
        event: dict[str, Any] = {
            "specversion": "1.0",
            "id": f"{self.run.token}/{start or self.run.starts}/{what}",
            "source": WANDB_RUNS,
            "type": str(kind),
            "data": {
                "entity": self.entity,
                "project": self.run.project,
                "author": self.author,
                **members,
            },
        }
        return event if time is None else {**event, "time": time}


def phase_of_exit(exit_code: int, *, preempting: bool) -> RunPhase:
    """The state of a run whose program ended, as W&B has it (https://docs.wandb.ai/guides/runs/run-states)."""
    if exit_code == 0:
        return RunPhase.FINISHED
    return RunPhase.PREEMPTED if preempting else RunPhase.FAILED
