"""What processes take of their host, as `process_…`: descriptors, memory, processor time; summed where several share.

prometheus_client's own collector says nothing of other processes, and of descriptors it is silent exactly when none is
left. Linux only, as that one: elsewhere nothing is shown.
"""

from __future__ import annotations

import errno
import fcntl
import os
import resource
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from prometheus_client import Metric
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

HELP = {
    "process_open_fds": "Open file descriptors; of several processes, of the one that is nearest to its limit.",
    "process_max_fds": "How many file descriptors that process may open.",
    "process_resident_memory_bytes": "Resident memory of the processes, in bytes.",
    "process_virtual_memory_bytes": "Virtual memory of the processes, in bytes.",
    "process_cpu_seconds_total": "Processor time of the processes, those that have ended included, in seconds.",
    "process_start_time_seconds": "When the process that answers started, in Unix time.",
}
"""Every metric here, in the order of docs/metrics.md."""
_PROC = Path("/proc")


def is_exhausted(error: OSError) -> bool:
    """Whether the process or its host has no file descriptors left."""
    return error.errno in (errno.EMFILE, errno.ENFILE)


@dataclass(frozen=True, slots=True)
class _Usage:
    open_fds: int
    max_fds: float
    resident_bytes: int
    virtual_bytes: int
    cpu_seconds: float
    start_seconds: float
    """Since the host's start."""


class ProcessMetrics(Collector):
    """Of this process, and of others that share their metrics with it."""

    def __init__(self, others: Callable[[], Iterable[int]] = tuple) -> None:
        """`others` tells the ids of further processes; it may name this one and ended ones."""
        self._others = others

    def collect(self) -> Iterable[Metric]:
        """The metrics. Without descriptors only what can be said without any: how many are open, and the limit."""
        if not (_PROC / "self" / "stat").exists():
            return []
        try:
            own = _usage(os.getpid())
            found = [own]
            for pid in set(self._others()) - {os.getpid()}:
                with suppress(FileNotFoundError, ProcessLookupError, PermissionError):
                    found.append(_usage(pid))
            values = {
                "process_resident_memory_bytes": sum(one.resident_bytes for one in found),
                "process_virtual_memory_bytes": sum(one.virtual_bytes for one in found),
                "process_cpu_seconds_total": sum(one.cpu_seconds for one in found),
                "process_start_time_seconds": _booted_seconds() + own.start_seconds,
            }
        except OSError as exc:
            if not is_exhausted(exc):
                raise
            values, limit = {}, _limit()
            nearest = count_open(int(limit)), limit
        else:
            fullest = max(found, key=lambda one: one.open_fds / max(1, one.max_fds))
            nearest = fullest.open_fds, fullest.max_fds
        values |= {"process_open_fds": float(nearest[0]), "process_max_fds": nearest[1]}
        return [_family(name, values[name]) for name in HELP if name in values]


def count_open(below: int) -> int:
    """How many descriptors below this number are open in this process; it opens none to find out."""
    count = 0
    for number in range(below):
        with suppress(OSError):
            fcntl.fcntl(number, fcntl.F_GETFD)
            count += 1
    return count


def _family(name: str, value: float) -> Metric:
    kind = CounterMetricFamily if name.endswith("_total") else GaugeMetricFamily
    return kind(name, HELP[name], value=value)


def _limit() -> float:
    soft, _hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    return float("inf") if soft == resource.RLIM_INFINITY else float(soft)


def _usage(pid: int) -> _Usage:
    """What a process takes. Raises OSError: it has ended or belongs to another user, or no descriptor is left."""
    folder = _PROC / str(pid)
    fields = (folder / "stat").read_text().rpartition(")")[2].split()  # proc(5), from its third field on
    ticks = os.sysconf("SC_CLK_TCK")
    limits = (folder / "limits").read_text().partition("Max open files")[2].split()
    own = pid == os.getpid()
    return _Usage(
        open_fds=sum(1 for _ in (folder / "fd").iterdir()) - own,  # without the one that lists them
        max_fds=float("inf") if limits[0] == "unlimited" else float(limits[0]),
        resident_bytes=int(fields[21]) * resource.getpagesize(),
        virtual_bytes=int(fields[20]),
        cpu_seconds=sum(map(int, fields[11:15])) / ticks,  # user, system, and both of children that have ended
        start_seconds=int(fields[19]) / ticks,
    )


def _booted_seconds() -> float:
    """When the host started, in Unix time."""
    return float((_PROC / "stat").read_text().partition("btime ")[2].split()[0])
