"""Exemplars in files beside the metrics, since prometheus_client keeps none where processes share their metrics."""

from __future__ import annotations

import os
import time
from contextlib import suppress
from pathlib import Path

import orjson
from prometheus_client.samples import Exemplar
from prometheus_client.utils import floatToGoString

from shared.observability.metrics_variable import MULTIPROC_VARIABLE

WRITE_SECONDS = 1.0
"""How often a process writes its file at most: exemplars may be older than a scrape by this much."""


_TRACE = "trace_id"


_Kept = dict[str, tuple[str, float, float]]
"""By metric and bucket: trace, amount, Unix time."""


def write_file(file: Path, content: bytes) -> None:
    """Write a file so that a reader sees its old content or its new one, and nothing in between."""
    aside = file.with_suffix(".aside")
    aside.write_bytes(content)
    aside.rename(file)


class ExemplarFile:
    """This process's exemplars, written for the process that serves the folder.

    Any thread may call `keep` and `write` without a lock: each step on the dictionary is atomic, and two threads that
    write at the same moment write the file twice.
    """

    def __init__(self) -> None:
        self._kept: _Kept = {}
        self._written = float("-inf")

    def keep(self, metric: str, upper_bound: float, trace: str, amount: float) -> None:
        """Keep the newest of each bucket."""
        le: str = floatToGoString(upper_bound)  # type: ignore[no-untyped-call]
        self._kept[exemplar_key(metric, le)] = (trace, amount, time.time())

    def write(self) -> None:
        """Write the exemplars, unless they were written a moment ago or no folder is shared."""
        now, folder = time.monotonic(), os.environ.get(MULTIPROC_VARIABLE)
        if folder is None or now - self._written < WRITE_SECONDS:
            return
        self._written = now
        with suppress(FileNotFoundError):  # the folder goes when its worker ends
            write_file(Path(folder) / f"exemplars_{os.getpid()}.json", orjson.dumps(self._kept))


def read_exemplars(folder: Path) -> dict[str, Exemplar]:
    """The newest exemplar of each bucket, by `exemplar_key`, of all processes that share a folder."""
    newest: _Kept = {}
    for file in folder.glob("exemplars_*.json"):
        for place, one in orjson.loads(file.read_bytes()).items():
            if place not in newest or newest[place][2] < one[2]:
                newest[place] = one
    return {place: Exemplar({_TRACE: trace}, amount, at) for place, (trace, amount, at) in newest.items()}


def exemplar(trace: str, amount: float) -> Exemplar:
    """An exemplar that leads to a trace."""
    return Exemplar({_TRACE: trace}, amount, time.time())


def exemplar_key(metric: str, le: str) -> str:
    """The key of a bucket: the metric's name and the bucket's upper bound."""
    return f"{metric} {le}"
