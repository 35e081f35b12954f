"""What of a process's surroundings is a fault, and what is not."""

from __future__ import annotations

import pytest

from shared.health.environment import descriptor_faults, descriptors_needed, redis_faults_of


@pytest.mark.parametrize(
    ("memory", "persistence", "faults"),
    [
        ({"maxmemory_policy": "noeviction", "maxmemory": 1}, {"aof_enabled": 1}, []),
        ({"maxmemory_policy": "allkeys-lru", "maxmemory": 1}, {"aof_enabled": 1}, ["redis_evicts"]),
        ({"maxmemory_policy": "allkeys-lru", "maxmemory": 0}, {"aof_enabled": 1}, []),
        ({"maxmemory_policy": "volatile-lru", "maxmemory": 1}, {"aof_enabled": 1}, []),
        (
            {"maxmemory_policy": "allkeys-random", "maxmemory": 9},
            {"aof_enabled": 0},
            ["redis_evicts", "redis_not_durable"],
        ),
        ({}, {}, []),
    ],
)
def test_a_redis_that_may_lose_unread_events_is_a_fault(
    memory: dict[str, object], persistence: dict[str, object], faults: list[str]
) -> None:
    found = redis_faults_of(memory, persistence)
    assert [one.fault for one in found] == faults
    assert all("set" in one.text.lower() for one in found)


def test_few_descriptors_are_told_with_what_is_needed() -> None:
    needed = descriptors_needed(1000, 40)
    assert needed == 1240
    assert descriptor_faults(needed, needed) == []
    (fault,) = descriptor_faults(1024, needed)
    assert (fault.fault, "1024" in fault.text, "1240" in fault.text) == ("descriptors", True, True)
