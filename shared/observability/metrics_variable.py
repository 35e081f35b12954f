"""The variable that names the directory in which processes share their metrics.

Apart from the modules that use it, since prometheus_client reads the variable when it is imported: a worker sets it
before. Must not import prometheus_client.
"""

from __future__ import annotations

import os
from typing import Final

MULTIPROC_VARIABLE: Final = "PROMETHEUS_MULTIPROC_DIR"
"""prometheus_client's name (https://prometheus.github.io/client_python/multiprocess/)."""


def is_multiprocess() -> bool:
    """Whether this process shares its metrics with others. Single series can't be removed then."""
    return MULTIPROC_VARIABLE in os.environ
