"""A sign of life for whoever watches a process that serves nothing: a file that it touches again and again.

A probe looks at the file's age, which costs nothing; asking a worker over the broker costs a process start each time.
"""

from __future__ import annotations

from shared.observability.logs import get_logger
from shared.settings import Settings

log = get_logger("hookline.heartbeat")


def beat(settings: Settings) -> None:
    """Touch HOOKLINE_HEARTBEAT_FILE, if it is set. A file that can't be touched is logged: the probe will act on it."""
    if settings.heartbeat_file is None:
        return
    try:
        settings.heartbeat_file.touch()
    except OSError as exc:
        log.warning("heartbeat.failed", file=str(settings.heartbeat_file), error=exc.strerror)
