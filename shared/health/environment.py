"""Faults of what a process runs on, which hurt only later: too few descriptors, a Redis that forgets, a wrong clock.

They are told at start, in `/readyz`, in health and in a metric; no process refuses to run because of one.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

from redis import Redis
from redis.exceptions import ResponseError
from sqlalchemy import Engine

from shared.messaging.cluster_clients import infos_of
from shared.storage.database.clock import database_time
from shared.storage.database.transactions import read_statement

MAX_CLOCK_SECONDS = 1.0
"""How far a clock may be off: receivers compare the time in a signature with their own."""
_OTHER_DESCRIPTORS = 200
"""What a process has open besides its connections: libraries, logs, Redis, the broker."""


class FaultKind(StrEnum):
    """What is wrong."""

    DESCRIPTORS = "descriptors"
    REDIS_EVICTS = "redis_evicts"
    REDIS_NOT_DURABLE = "redis_not_durable"
    CLOCK = "clock"


@dataclass(frozen=True, slots=True)
class EnvironmentFault:
    """One fault, in words that say what to do."""

    fault: str
    """One of `FaultKind`, or what a later version calls its own."""
    text: str


def descriptors_needed(connections: int, database_connections: int) -> int:
    """How many descriptors a process needs that has so many connections to clients or endpoints."""
    return connections + database_connections + _OTHER_DESCRIPTORS


def descriptor_faults(limit: int, needed: int) -> list[EnvironmentFault]:
    """Whether a process may open fewer files and sockets than its settings make it need."""
    if limit >= needed:
        return []
    text = f"may open {limit} files and sockets, and needs up to {needed}: raise LimitNOFILE (ulimit -n)"
    return [EnvironmentFault(FaultKind.DESCRIPTORS, text)]


def redis_faults(redis: Redis) -> list[EnvironmentFault]:
    """Whether the server with the streams, or a node of the cluster, may lose entries that nobody has read.

    Managed servers that don't tell are taken for right. `volatile-…` evicts only keys with a time-out; streams have
    none. Raises RedisError.
    """
    found = [redis_faults_of(memory, {}) for memory in _infos(redis, "memory")]
    found += [redis_faults_of({}, persistence) for persistence in _infos(redis, "persistence")]
    return list({fault.fault: fault for faults in found for fault in faults}.values())


def redis_faults_of(memory: Mapping[str, Any], persistence: Mapping[str, Any]) -> list[EnvironmentFault]:
    """The faults by answers to `INFO memory` and `INFO persistence`."""
    faults = []
    policy = str(memory.get("maxmemory_policy", ""))
    if policy.startswith("allkeys-") and int(memory.get("maxmemory", 0)):
        text = f"Redis evicts events that nobody has read (maxmemory-policy {policy}): set it to noeviction"
        faults.append(EnvironmentFault(FaultKind.REDIS_EVICTS, text))
    if str(persistence.get("aof_enabled", "1")) == "0":
        text = "Redis keeps no append-only file: events that were accepted are lost with it. Set appendonly to yes"
        faults.append(EnvironmentFault(FaultKind.REDIS_NOT_DURABLE, text))
    return faults


def _infos(redis: Redis, section: str) -> list[Mapping[str, Any]]:
    try:
        return [info for info in infos_of(redis, section) if isinstance(info, Mapping)]
    except ResponseError:
        return []


def clock_faults(engine: Engine, now: Callable[[], datetime] = lambda: datetime.now(UTC)) -> list[EnvironmentFault]:
    """Whether this machine's clock is off from PostgreSQL's; SQLite has none of its own. Raises SQLAlchemyError."""
    if engine.dialect.name != "postgresql":
        return []
    with read_statement(engine) as connection:
        began, asked = time.monotonic(), now()
        theirs = database_time(connection)
        half_seconds = (time.monotonic() - began) / 2
    off_seconds = (asked - theirs).total_seconds() + half_seconds
    # The answer may have been made at any time of the round trip.
    if abs(off_seconds) - half_seconds <= MAX_CLOCK_SECONDS:
        return []
    word = "ahead of" if off_seconds > 0 else "behind"
    text = f"the clock is {abs(off_seconds):.1f} s {word} the database's: check time synchronization (NTP) on both"
    return [EnvironmentFault(FaultKind.CLOCK, text)]
