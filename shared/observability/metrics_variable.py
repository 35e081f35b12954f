"""The variable that names the directory in which processes share their metrics.

Apart from the modules that use it, since prometheus_client reads the variable when it is imported: a worker sets it
before. Must not import prometheus_client.
"""

from __future__ import annotations

from typing import Final

MULTIPROC_VARIABLE: Final = "PROMETHEUS_MULTIPROC_DIR"
"""prometheus_client's name (https://prometheus.github.io/client_python/multiprocess/)."""
