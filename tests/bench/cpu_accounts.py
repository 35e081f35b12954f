"""CPU seconds of a running Hookline by role: its workers, dispatcher and API, and what the two servers spend on it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import psutil
import sqlalchemy as sa

if TYPE_CHECKING:
    from redis import Redis

    from tests.bench.system import Hookline

ROLES = {"-A worker": "the workers", "dispatcher.cli dispatcher": "the dispatcher", "dispatcher.cli api": "the API"}
POSTGRES, VALKEY = "PostgreSQL", "Valkey"
CLIENTS = sa.text(
    "SELECT pid, application_name = 'hookline' AS ours FROM pg_stat_activity WHERE client_port IS NOT NULL"
)


class CpuAccounts:
    """Reads the CPU time of a Hookline that has servers of its own; on SQLite there is no database server to read."""

    def __init__(self, hookline: Hookline, engine: sa.Engine, redis: Redis) -> None:
        self._hookline = hookline
        self._engine = engine
        self._valkey = psutil.Process(int(redis.info("server")["process_id"]))
        self._postgres: psutil.Process | None = None
        if engine.dialect.name == "postgresql":
            with engine.connect() as connection:
                backend = int(connection.execute(sa.text("SELECT pg_backend_pid()")).scalar_one())
            self._postgres = psutil.Process(backend).parent()

    def read(self) -> dict[str, float]:
        """CPU seconds so far by role, workers together; of PostgreSQL without what looking at it costs."""
        seconds = dict.fromkeys(ROLES.values(), 0.0)
        for process in self._hookline.processes():
            if role := role_of(process):
                seconds[role] += _cpu(process)
        if self._postgres is not None:
            with self._engine.connect() as connection:
                onlookers = {row.pid for row in connection.execute(CLIENTS) if not row.ours}
            backends = [one for one in self._postgres.children() if one.pid not in onlookers]
            seconds[POSTGRES] = sum(map(_cpu, [self._postgres, *backends]))
        return seconds | {VALKEY: _cpu(self._valkey)}


def role_of(process: psutil.Process) -> str | None:
    """Workers, dispatcher or API; None for what supervises them, and for what has ended."""
    try:
        command = " ".join(process.cmdline())
    except psutil.NoSuchProcess:
        return None
    return next((role for part, role in ROLES.items() if part in command), None)


def _cpu(process: psutil.Process) -> float:
    """Its CPU time and that of the children it has buried."""
    try:
        return float(sum(process.cpu_times()[:4]))
    except psutil.NoSuchProcess:
        return 0.0
