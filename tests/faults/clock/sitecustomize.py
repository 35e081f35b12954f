"""Steps this process's wall clock to where a drill's file says, for as long as the process lives.

`datetime.now`, `time.time` and the like are shifted in the interpreter itself; the monotonic clock runs on, as it does
when an administrator or NTP steps a machine's clock.
"""

from __future__ import annotations

import os
import threading
import time
from datetime import UTC, datetime
from pathlib import Path

import time_machine

OFFSET_FILE = os.environ.get("DRILL_CLOCK_FILE")
POLL_SECONDS = 0.05


def _follow(path: Path) -> None:
    clock = time_machine.travel(datetime.now(UTC), tick=True).start()
    stepped_seconds = 0.0
    while True:
        try:
            wanted_seconds = float(path.read_text())
        except (OSError, ValueError):  # not there yet, or just being written
            wanted_seconds = stepped_seconds
        if wanted_seconds != stepped_seconds:
            clock.shift(wanted_seconds - stepped_seconds)
            stepped_seconds = wanted_seconds
        time.sleep(POLL_SECONDS)


if OFFSET_FILE:
    threading.Thread(target=_follow, args=(Path(OFFSET_FILE),), name="drill-clock", daemon=True).start()
