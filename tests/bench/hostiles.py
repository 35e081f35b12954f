"""Twenty hostile endpoints in a process of its own, which prints their URLs as one line of JSON and ends at SIGTERM.

Those of `tests.hostility` that go on after being called: none refuses for good, which would end its load.
"""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING

import orjson
import uvloop

from tests.hostility import CONNECTIONS, DRIPS, FLOODS, STATUSES, listening

if TYPE_CHECKING:
    from collections.abc import Iterator

STATUS_NAMES = ("500", "503")
HOSTILES = (*CONNECTIONS, *DRIPS, *FLOODS[:7], *(one for one in STATUSES if one.name in STATUS_NAMES))


async def _serve() -> None:
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    async with listening(HOSTILES, {}) as places:
        print(orjson.dumps({name: url for name, (url, _) in places.items()}).decode(), flush=True)
        await stop.wait()


@contextmanager
def hostile_endpoints() -> Iterator[dict[str, str]]:
    """The URL of each, by name, while they run."""
    command = [sys.executable, "-m", "tests.bench.hostiles"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield orjson.loads(process.stdout.readline())
        finally:
            process.terminate()
            process.wait(timeout=30)


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_serve())
