"""Makes events of facts, when they are relayed: with the run's name, parameters, tags and experiment.

That keeps these queries out of MLflow's requests, and a parameter that was logged after a metric is known all the same.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa
from hookline.errors import InvalidEvent
from hookline.relay import Rows
from hookline.values import MAX_METRICS

from hookline_mlflow.facts import Fact, sample_value
from hookline_mlflow.recorder import TABLE
from hookline_mlflow.run_events import KnownRun, event_of, is_end

if TYPE_CHECKING:
    from hookline_mlflow.settings import Settings

_AT_ONCE = 400


class Facts(Rows):
    """The outbox of an MLflow, whose facts are completed as they are read."""

    def __init__(self, engine: sa.Engine, settings: Settings) -> None:
        from mlflow.store.tracking.dbmodels import models

        super().__init__(engine, name=TABLE)
        self._settings = settings
        self._runs = models.SqlRun.__table__
        self._experiments = models.SqlExperiment.__table__
        self._params = models.SqlParam.__table__
        self._tags = models.SqlTag.__table__
        self._latest = models.SqlLatestMetric.__table__
        self._mlflow = engine

    def first(self, count: int) -> list[tuple[int, bytes]]:
        """The first events that wait, each with its number. A fact that can't become one is parked."""
        rows = super().first(count)
        if count == 1:  # asks only whether anything waits
            return rows
        facts: dict[int, Fact] = {}
        for number, text in rows:
            value = json.loads(text)
            if "fact" in value:
                facts[number] = value
        ended = {str(fact["run"]) for fact in facts.values() if is_end(fact)}
        known = self._known({str(fact["run"]) for fact in facts.values()}, ended) if facts else {}
        completed: list[tuple[int, bytes]] = []
        refused: dict[int, str] = {}
        for number, text in rows:
            if (fact := facts.get(number)) is None:
                completed.append((number, text))
                continue
            try:
                completed.append((number, event_of(fact, known.get(fact["run"])).to_json()))
            except InvalidEvent as exc:
                refused[number] = str(exc)
        if refused:
            self.settle([], refused)
        return completed

    def _known(self, run_ids: set[str], with_summary: set[str]) -> dict[str, KnownRun]:
        known: dict[str, KnownRun] = {}
        wanted = sorted(run_ids)
        with self._mlflow.connect() as connection:
            for start in range(0, len(wanted), _AT_ONCE):
                some = wanted[start : start + _AT_ONCE]
                params = self._pairs(connection, self._params, some)
                tags = self._pairs(connection, self._tags, some)
                summaries = self._summaries(connection, [one for one in some if one in with_summary])
                for row in connection.execute(self._query(some)).mappings():
                    run_id = row["run_uuid"]
                    known[run_id] = self._run(
                        row, params.get(run_id, {}), tags.get(run_id, {}), summaries.get(run_id, {})
                    )
        return known

    def _query(self, run_ids: list[str]) -> sa.Select[Any]:
        runs, experiments = self._runs, self._experiments
        columns = [
            runs.c.run_uuid,
            runs.c.name,
            runs.c.user_id,
            runs.c.experiment_id,
            experiments.c.name.label("experiment"),
        ]
        if "workspace" in experiments.c:
            columns.append(experiments.c.workspace)
        return (
            sa.select(*columns)
            .join_from(runs, experiments, runs.c.experiment_id == experiments.c.experiment_id)
            .where(runs.c.run_uuid.in_(run_ids))
        )

    def _run(self, row: Any, params: dict[str, Any], tags: dict[str, Any], summary: dict[str, Any]) -> KnownRun:
        return KnownRun(
            run_id=row["run_uuid"],
            name=row["name"],
            user=row["user_id"],
            experiment_id=str(row["experiment_id"]),
            experiment=row["experiment"],
            entity=self._settings.entity_of(row.get("workspace")),
            params=params,
            tags=tags,
            summary=summary,
        )

    @staticmethod
    def _pairs(connection: sa.Connection, table: sa.Table, run_ids: list[str]) -> dict[str, dict[str, Any]]:
        found: dict[str, dict[str, Any]] = {}
        query = sa.select(table.c.run_uuid, table.c.key, table.c.value).where(table.c.run_uuid.in_(run_ids))
        for run_id, key, value in connection.execute(query):
            found.setdefault(run_id, {})[key] = value
        return found

    def _summaries(self, connection: sa.Connection, run_ids: list[str]) -> dict[str, dict[str, Any]]:
        found: dict[str, dict[str, Any]] = {}
        if not run_ids:
            return found
        latest = self._latest.c
        query = sa.select(latest.run_uuid, latest.key, latest.value, latest.is_nan).where(latest.run_uuid.in_(run_ids))
        for run_id, key, value, is_nan in connection.execute(query):
            summary = found.setdefault(run_id, {})
            if len(summary) < MAX_METRICS and self._settings.wants(key):
                summary[key] = sample_value(value, is_nan)
        return found
