"""The folder in which the processes of one worker, or of one `hookline up`, share their metrics.

prometheus_client keeps a file for each process and kind of metric in it, for ever. Here the files of ended processes
are merged into one, so that restarts don't make scrapes slower, and exemplars are read from files beside them. The
folder is read by `SharedCollector`, by one reader at a time. Must not name a metric: `metrics.py` does.

Reading needs file descriptors. Where none is left, the last answer is brought up to date with what this process has
counted since, which is in its memory: so no count jumps back, which Prometheus would take for a restart.

A merge is a small transaction. The new file is complete before the plan names the files that it replaces. Until the
plan exists nothing is lost, since those files are still there; once it exists, carrying it out again leads to the same
end.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from copy import copy
from fnmatch import fnmatch
from pathlib import Path

import orjson
from prometheus_client import REGISTRY, CollectorRegistry, Metric, multiprocess
from prometheus_client.mmap_dict import MmapedDict
from prometheus_client.registry import Collector
from prometheus_client.samples import Sample

from shared.observability.exemplars import exemplar_key, read_exemplars, write_file
from shared.observability.process_metrics import ProcessMetrics, is_exhausted

MERGED = "merged"
_LOCK = "scrape.lock"


_SampleKey = tuple[str, frozenset[tuple[str, str]]]
"""A sample's name and labels."""


class SharedCollector(Collector):
    """The counts of all processes of a folder, those that have ended included."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._last: tuple[list[Metric], dict[_SampleKey, float]] = [], {}
        """The last answer, and what this process alone had counted just after it: never more than the answer has."""

    def collect(self) -> Iterable[Metric]:
        """The metrics, added up, with the newest exemplar of each bucket."""
        try:
            metrics = self._read()
        except OSError as exc:
            if not is_exhausted(exc):
                raise
            return self._from_memory()
        self._last = metrics, {_key(sample): sample.value for metric in _own() for sample in metric.samples}
        return metrics

    def _read(self) -> list[Metric]:
        with _exclusive(self._folder):
            merge_ended(self._folder)
            files = [str(file) for file in _files(self._folder, "*.db")]
            merge = multiprocess.MultiProcessCollector.merge
            metrics = list(merge(files, accumulate=True))  # type: ignore[no-untyped-call]
            exemplars = read_exemplars(self._folder)
        for metric in metrics:
            if metric.type == "histogram" and exemplars:
                metric.samples = [
                    sample._replace(exemplar=exemplars.get(exemplar_key(metric.name, sample.labels.get("le", ""))))
                    for sample in metric.samples
                ]
        return metrics

    def _from_memory(self) -> list[Metric]:
        """The last answer with what this process has counted since, or has set its gauges to."""
        last, then = self._last
        answer = {metric.name: copy(metric) for metric in last}
        for own in _own():
            metric = answer.setdefault(own.name, Metric(own.name, own.documentation, own.type))
            samples = {_key(sample): sample for sample in metric.samples}
            for sample in own.samples:
                key = _key(sample)
                known, before = samples.get(key), then.get(key, 0.0)
                if known is None:
                    samples[key] = sample
                elif sample.value != before:
                    now = sample.value if own.type == "gauge" else known.value + sample.value - before
                    samples[key] = known._replace(value=now)
            metric.samples = list(samples.values())
        return list(answer.values())

    def running(self) -> list[int]:
        """The ids of the processes that share the folder and run. Raises OSError."""
        owners = {file.stem.rpartition("_")[2] for file in _files(self._folder, "*_*.db")}
        return [int(owner) for owner in owners if owner.isdigit() and _is_running(int(owner))]


def shared_registry(folder: Path) -> CollectorRegistry:
    """A registry with the counts of all processes of a folder, and with what they take of their host."""
    registry = CollectorRegistry()
    shared = SharedCollector(folder)
    registry.register(shared)
    registry.register(ProcessMetrics(shared.running))
    return registry


def _own() -> list[Metric]:
    """What this process has counted itself, from its memory; nothing of its host and its interpreter."""
    return [metric for metric in REGISTRY.collect() if not metric.name.startswith(("process_", "python_"))]


def _key(sample: Sample) -> _SampleKey:
    return sample.name, frozenset(sample.labels.items())


def _files(folder: Path, pattern: str) -> list[Path]:
    """The files of the folder with such a name. Raises OSError, while `glob` finds nothing without descriptors."""
    return [file for file in folder.iterdir() if fnmatch(file.name, pattern)]


@contextmanager
def _exclusive(folder: Path) -> Iterator[None]:
    """Let one reader at a time into the folder, of all processes: merging moves counts from file to file."""
    with (folder / _LOCK).open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        try:
            yield
        finally:
            fcntl.flock(
                lock, fcntl.LOCK_UN
            )  # closing is not enough: a child that was forked meanwhile has the file open too


def merge_ended(folder: Path) -> None:
    """Merge the files of ended processes into one for each kind of metric, so that their counts stay.

    Their live gauges, which describe a running process, and their exemplars are deleted.
    """
    for plan in _files(folder, "*.plan"):
        _carry_out(plan)
    left: dict[str, list[Path]] = {}
    for file in _files(folder, "*_*.db"):
        kind, _, owner = file.stem.rpartition("_")
        if owner.isdigit() and not _is_running(int(owner)):
            left.setdefault(kind, []).append(file)
    for kind, files in left.items():
        if kind.startswith("gauge_live"):
            for file in files:
                file.unlink(missing_ok=True)
        else:
            _merge(folder, kind, files)
    for file in _files(folder, "exemplars_*.json"):
        if not _is_running(int(file.stem.rpartition("_")[2])):
            file.unlink(missing_ok=True)


def _is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _merge(folder: Path, kind: str, files: list[Path]) -> None:
    """Add the files' values to the merged file, so that a crash at any moment neither loses nor doubles them."""
    merged = folder / f"{kind}_{MERGED}.db"
    values: dict[str, tuple[float, float]] = {}
    for file in [*([merged] if merged.exists() else []), *files]:
        for key, value, timestamp, _ in MmapedDict.read_all_values_from_file(file):  # type: ignore[no-untyped-call]
            known, since = values.get(key, (0.0, 0.0))
            if not kind.startswith("gauge"):
                values[key] = (known + value, 0.0)
            elif key not in values or timestamp >= since:
                values[key] = (value, timestamp)
    new = merged.with_suffix(".new")
    new.unlink(missing_ok=True)
    written = MmapedDict(str(new))  # type: ignore[no-untyped-call]
    for key, (value, timestamp) in values.items():
        written.write_value(key, value, timestamp)  # type: ignore[no-untyped-call]
    written.close()  # type: ignore[no-untyped-call]
    plan = merged.with_suffix(".plan")
    write_file(plan, orjson.dumps([file.name for file in files]))
    _carry_out(plan)


def _carry_out(plan: Path) -> None:
    """Replace the files that a plan names by the merged one. It may be repeated after a crash at any step."""
    for name in orjson.loads(plan.read_bytes()):
        plan.with_name(name).unlink(missing_ok=True)
    with suppress(FileNotFoundError):
        plan.with_suffix(".new").rename(plan.with_suffix(".db"))
    plan.unlink()
