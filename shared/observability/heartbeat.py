"""The heartbeat file: a process that serves no port touches it again and again, to show that it is alive.

A probe checks the file's age, which costs nothing; to ask a worker over the broker it would start a process each time.
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
