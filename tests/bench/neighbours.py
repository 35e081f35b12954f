"""How much of the machine was taken by processes that have no part in the benchmark.

A neighbour on a small machine slows a system of many processes more than it slows the one-process yardstick, so
neither ratios nor medians show it. It is therefore measured and printed with every figure.
"""

from __future__ import annotations

import time
from contextlib import suppress
from dataclasses import dataclass

import psutil


@dataclass(frozen=True, slots=True)
class Reading:
    """CPU seconds so far: the whole machine's, and the benchmark's."""

    at_seconds: float
    machine: float
    ours: float

    def cores_elsewhere_since(self, earlier: Reading) -> float:
        """Average number of cores busy with others between the two readings."""
        others = (self.machine - earlier.machine) - (self.ours - earlier.ours)
        return max(0.0, others / (self.at_seconds - earlier.at_seconds))


def read(postgres_folder: str | None) -> Reading:
    """The benchmark is this process, its descendants, and the PostgreSQL that works in `postgres_folder`."""
    this = psutil.Process()
    members = [this, *this.children(recursive=True)]
    if postgres_folder:
        members += [one for one in psutil.process_iter() if _works_in(one, postgres_folder)]
    machine = psutil.cpu_times()
    busy = machine.user + machine.nice + machine.system + machine.irq + machine.softirq + machine.steal
    return Reading(at_seconds=time.monotonic(), machine=busy, ours=sum(map(_cpu_seconds, members)))


def _works_in(process: psutil.Process, folder: str) -> bool:
    with suppress(psutil.Error):
        return process.cwd() == folder
    return False


def _cpu_seconds(process: psutil.Process) -> float:
    with suppress(psutil.NoSuchProcess):
        return sum(process.cpu_times()[:2])
    return 0.0
