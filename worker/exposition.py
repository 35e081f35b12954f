"""A worker's `/metrics`: the values of all its processes added up, so that prefork counts right."""

from __future__ import annotations

import atexit
import os
import shutil
import tempfile

from shared.settings import Settings

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


def serve_metrics(settings: Settings) -> None:
    """Serve `/metrics` on the configured port, if one is configured."""
    from prometheus_client import CollectorRegistry, multiprocess, start_http_server

    from shared.telemetry import announce_build

    if settings.metrics_port == 0:
        return
    announce_build()
    registry = CollectorRegistry()
    multiprocess.MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
    start_http_server(settings.metrics_port, addr=settings.metrics_host, registry=registry)
