"""Where a worker's processes share their metrics, so that prefork counts right; `shared.telemetry` serves them."""

from __future__ import annotations

import atexit
import os
import shutil
import tempfile

MULTIPROC_VARIABLE = "PROMETHEUS_MULTIPROC_DIR"


def share_metrics() -> None:
    """Name a directory where this process and its children keep their values, unless the operator named one.

    prometheus_client decides when it is imported whether values are shared, so this comes first.
    """
    if MULTIPROC_VARIABLE in os.environ:
        return
    directory = tempfile.mkdtemp(prefix="hookline-metrics-")
    os.environ[MULTIPROC_VARIABLE] = directory
    owner = os.getpid()
    atexit.register(lambda: shutil.rmtree(directory, ignore_errors=True) if os.getpid() == owner else None)
