"""Runs that have gone silent: finds them, and has it published that they crashed.

The row of a run and the event are written in one transaction, in which nothing of the run has come meanwhile. So it is
published once, however many dispatchers run and wherever one is killed. Must not read events.
"""

from __future__ import annotations

import json
from collections.abc import Collection
from datetime import datetime
from typing import Any

from redis import Redis
from redis.exceptions import ResponseError
from sqlalchemy import Engine

from shared.domain.delivery.silent_runs import (
    Silences,
    SilentRun,
    Verdict,
    WatchedRun,
    crashed_event,
    judge,
    silent_event,
)
from shared.messaging.streams import stream_key
from shared.observability import metrics
from shared.observability.logs import get_logger
from shared.storage.database.clock import DatabaseClock
from shared.storage.database.transactions import read_transaction, write_transaction
from shared.storage.delivery.notices import insert_notices
from shared.storage.evaluation.offsets import read_all_offsets
from shared.storage.evaluation.run_watches import (
    DueWatch,
    asked_silences,
    count_watches,
    due_watches,
    end_crashed,
    look_again,
    look_at_all,
    note_told,
)

BATCH = 500
"""Runs that one round looks at; the rest follows in the next, without a pause."""
OUTAGE_MS = 15_000
"""When no dispatcher looked for so long, Hookline was away, and each run has its whole heartbeat again."""
ALIVE_KEY = "hookline:alive"
# Answers the server's time, and since when there was no such break, in Unix milliseconds.
_BEAT = """
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local beat = tonumber(redis.call('HGET', KEYS[1], 'beat') or '0')
local since = tonumber(redis.call('HGET', KEYS[1], 'since') or '0')
if now - beat > tonumber(ARGV[1]) then since = now end
redis.call('HSET', KEYS[1], 'beat', string.format('%.0f', now), 'since', string.format('%.0f', since))
return {string.format('%.0f', now), string.format('%.0f', since)}
"""

log = get_logger("hookline.dispatcher")


class SilentRuns:
    """Rounds of looking at runs that are due. One thread uses it; another dispatcher's may do the same work."""

    def __init__(self, engine: Engine, redis: Redis, partitions: int) -> None:
        self._engine = engine
        self._redis = redis
        self._partitions = partitions
        self._clock = DatabaseClock(engine)
        self._silences = Silences()
        self._beat: Any = redis.register_script(_BEAT)

    def run_round(self) -> int:
        """Look at up to `BATCH` runs that are due; returns how many. Raises RedisError, SQLAlchemyError."""
        now_ms, alive_since_ms = map(int, self._beat(keys=[ALIVE_KEY], args=[OUTAGE_MS]))
        with read_transaction(self._engine) as connection:
            silences = asked_silences(connection)
        if silences != self._silences:
            with write_transaction(self._engine) as connection:
                look_at_all(connection, now_ms)
            self._silences = silences
        with read_transaction(self._engine) as connection:
            due = due_watches(connection, now_ms, BATCH)
        if not due:
            return 0
        evaluated_ms = self._evaluated_ms({one.partition for one in due}, now_ms)
        verdicts = [
            (
                one,
                judge(
                    WatchedRun(one.heartbeat_ms, one.seen_ms, one.told_ms, silences.of(one.entity, one.project)),
                    evaluated_ms=evaluated_ms.get(one.partition, 0),
                    alive_since_ms=alive_since_ms,
                ),
            )
            for one in due
        ]
        self._write(verdicts, now_ms)
        return len(due)

    def count(self) -> None:
        """Set the gauge of watched runs. Raises SQLAlchemyError."""
        with read_transaction(self._engine) as connection:
            metrics.RUNS_WATCHED.set(count_watches(connection))

    def _write(self, verdicts: Collection[tuple[DueWatch, Verdict]], now_ms: int) -> None:
        now = self._clock.now()
        later = {one.key: _not_before(verdict.check_ms, now_ms) for one, verdict in verdicts if not verdict.crashed}
        crashed: list[DueWatch] = []
        events: list[dict[str, Any]] = []
        with write_transaction(self._engine) as connection:
            for one, verdict in sorted(verdicts, key=lambda judged: judged[0].key):
                about = _about(one, now)
                if verdict.told_ms and note_told(connection, one, verdict.told_ms[-1]):
                    events += [silent_event(about, silence_ms) for silence_ms in verdict.told_ms]
                if verdict.crashed and end_crashed(connection, one, now):
                    crashed.append(one)
                    events.append(crashed_event(about, one.heartbeat_ms or 0))
                elif not verdict.crashed:
                    look_again(connection, {one.key: later[one.key]})
            insert_notices(connection, events, now)
        for one in crashed:
            log.info("run.silent", entity=one.entity, project=one.project, run=json.loads(one.run).get("id"))
        metrics.RUNS_CRASHED.inc(len(crashed))

    def _evaluated_ms(self, partitions: Collection[int], now_ms: int) -> dict[int, int]:
        """Up to when all events of these partitions are evaluated: their ends are read before the offsets are."""
        ends = {partition: self._last_id(partition) for partition in partitions}
        with read_transaction(self._engine) as connection:
            offsets = read_all_offsets(connection, self._partitions)
        found = {}
        for partition, end in ends.items():
            offset = _order(offsets[partition].entry_id) if partition in offsets else (0, 0)
            found[partition] = now_ms if offset >= end else offset[0]
        return found

    def _last_id(self, partition: int) -> tuple[int, int]:
        try:
            info: Any = self._redis.xinfo_stream(stream_key(partition))
        except ResponseError:  # there is no such stream
            return 0, 0
        return _order(info["last-generated-id"].decode())


def _order(entry_id: str) -> tuple[int, int]:
    milliseconds, _, number = entry_id.partition("-")
    return int(milliseconds), int(number or 0)


def _not_before(check_ms: int | None, now_ms: int) -> int | None:
    """A run that is due but whose partition lags is looked at again in a second."""
    return None if check_ms is None else max(check_ms, now_ms + 1000)


def _about(one: DueWatch, now: datetime) -> SilentRun:
    return SilentRun(
        key=one.key,
        entity=one.entity,
        project=one.project,
        run=json.loads(one.run),
        seen_ms=one.seen_ms,
        time=now.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
    )
