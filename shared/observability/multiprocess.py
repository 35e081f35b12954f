"""The folder that the processes of one worker, or of one `hookline up`, share for their metrics.

prometheus_client keeps a file for each process and kind of metric in it, for ever. Here the files of processes that
have ended become one, so that restarts cost nothing, and what it does not keep at all is kept beside: exemplars.
Whoever reads the folder does so by `SharedCollector`, one at a time. Must not name a metric: `metrics.py` does.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import orjson
from prometheus_client import CollectorRegistry, Metric, multiprocess
from prometheus_client.mmap_dict import MmapedDict
from prometheus_client.registry import Collector

from shared.observability.exemplars import exemplar_key, read_exemplars, write_file

MERGED = "merged"
_LOCK = "scrape.lock"


class SharedCollector(Collector):
    """What all processes of a folder counted, those that have ended included."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._metrics = multiprocess.MultiProcessCollector(None, str(folder))  # type: ignore[no-untyped-call]

    def collect(self) -> Iterable[Metric]:
        """The metrics, added up, with the newest exemplar of each bucket."""
        with _exclusive(self._folder):
            merge_ended(self._folder)
            metrics = list(self._metrics.collect())  # type: ignore[no-untyped-call]
            exemplars = read_exemplars(self._folder)
        for metric in metrics:
            if metric.type == "histogram" and exemplars:
                metric.samples = [
                    sample._replace(exemplar=exemplars.get(exemplar_key(metric.name, sample.labels.get("le", ""))))
                    for sample in metric.samples
                ]
        return metrics


def shared_registry(folder: Path) -> CollectorRegistry:
    """A registry of what all processes of a folder counted."""
    registry = CollectorRegistry()
    registry.register(SharedCollector(folder))
    return registry


@contextmanager
def _exclusive(folder: Path) -> Iterator[None]:
    """One reader at a time: merging moves counts from file to file."""
    with (folder / _LOCK).open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        try:
            yield
        finally:
            fcntl.flock(lock, fcntl.LOCK_UN)  # closing would not do: a child forked meanwhile has the file open too


def merge_ended(folder: Path) -> None:
    """Make one file of those that processes left which have ended, however they ended: what they counted stays.

    What they said of themselves as long as they lived, and their exemplars, is dropped.
    """
    for plan in folder.glob("*.plan"):
        _carry_out(plan)
    left: dict[str, list[Path]] = {}
    for file in folder.glob("*_*.db"):
        kind, _, owner = file.stem.rpartition("_")
        if owner.isdigit() and not _is_running(int(owner)):
            left.setdefault(kind, []).append(file)
    for kind, files in left.items():
        if kind.startswith("gauge_live"):
            for file in files:
                file.unlink(missing_ok=True)
        else:
            _merge(folder, kind, files)
    for file in folder.glob("exemplars_*.json"):
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
    """Put the files' values into the merged one, so that a crash at any moment neither loses nor doubles them."""
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
    """Replace the files that a plan names by the merged one; from any point again."""
    for name in orjson.loads(plan.read_bytes()):
        plan.with_name(name).unlink(missing_ok=True)
    with suppress(FileNotFoundError):
        plan.with_suffix(".new").rename(plan.with_suffix(".db"))
    plan.unlink()
