"""Where a worker's processes share their metrics, so that prefork counts right; `shared.observability` serves them."""

from __future__ import annotations

import atexit
import fcntl
import os
import shutil
import sys
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import Any

from shared.observability.metrics_variable import MULTIPROC_VARIABLE

PREFIX = "hookline-metrics-"
_OWNER = "owner.lock"


def use_metrics_directory() -> None:
    """Name a directory where this process and its children keep their values, unless the operator named one.

    prometheus_client decides when it is imported whether values are shared, so this comes first. Directories that
    killed workers left behind are removed.
    """
    named = os.environ.get(MULTIPROC_VARIABLE)
    if named is not None and (not Path(named).name.startswith(PREFIX) or _owned(Path(named))):
        return
    # None, or the one of whoever became this process, by --detach or SIGHUP: its lock went with it.
    _remove_left()
    directory = Path(tempfile.mkdtemp(prefix=PREFIX))
    _own(directory)
    os.environ[MULTIPROC_VARIABLE] = str(directory)
    values: Any = sys.modules.get("prometheus_client.values")
    if values is not None:
        # A command that is installed beside Celery's, as Flower, has imported it before us: let it decide again.
        values.ValueClass = values.get_value_class()
    owner = os.getpid()
    atexit.register(lambda: shutil.rmtree(directory, ignore_errors=True) if os.getpid() == owner else None)


def _own(directory: Path) -> None:
    """Hold a lock on the directory as long as this process or a child of its lives, whatever ends them."""
    unnamed = directory / f"{_OWNER}.new"
    fcntl.flock(os.open(unnamed, os.O_CREAT | os.O_RDWR, 0o600), fcntl.LOCK_EX)
    unnamed.rename(directory / _OWNER)


def _owned(directory: Path) -> bool:
    try:
        with (directory / _OWNER).open("r+") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        pass
    return False


def _remove_left() -> None:
    """Remove directories whose owners have ended; those of other users can't be opened and are left."""
    for lock in Path(tempfile.gettempdir()).glob(f"{PREFIX}*/{_OWNER}"):
        with suppress(OSError), lock.open("r+") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(lock.parent, ignore_errors=True)
