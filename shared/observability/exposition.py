"""Serving metrics: the registry a process exposes, as text or OpenMetrics, and the build it runs."""

from __future__ import annotations

import os
from functools import cache
from pathlib import Path

from prometheus_client import PROCESS_COLLECTOR, REGISTRY, CollectorRegistry
from prometheus_client.exposition import choose_encoder

from shared.observability.metrics import BUILD_INFO
from shared.observability.metrics_server import start_metrics_server
from shared.observability.metrics_variable import MULTIPROC_VARIABLE
from shared.observability.multiprocess import shared_registry
from shared.observability.process_metrics import ProcessMetrics
from shared.settings import Settings
from shared.version import __version__


def announce_build() -> None:
    """Set `hookline_build_info` for this process."""
    BUILD_INFO.labels(version=__version__).set(1)


def exposition(accept: str = "") -> tuple[bytes, str]:
    """The answer of `/metrics` to a request with this `Accept` header, and its content type.

    Scrapers that ask for OpenMetrics get it, with exemplars; all others get the text format, which has none.
    """
    encode, content_type = choose_encoder(accept)
    return encode(_registry()), content_type


def serve(settings: Settings) -> None:
    """Serve `/metrics` of a worker or the pump on the configured port, if one is configured."""
    if settings.metrics_port:
        announce_build()
        start_metrics_server(settings.metrics_host, settings.metrics_port, _registry())


def _registry() -> CollectorRegistry:
    """This process's values, or those of all processes that share a directory."""
    return _registry_of(os.environ.get(MULTIPROC_VARIABLE))


@cache
def _registry_of(folder: str | None) -> CollectorRegistry:
    if folder is not None:
        return shared_registry(Path(folder))
    REGISTRY.unregister(PROCESS_COLLECTOR)  # ours says more, and even when no descriptor is left
    REGISTRY.register(ProcessMetrics())
    return REGISTRY
