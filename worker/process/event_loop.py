"""The one event loop of a process, on a thread of its own. Must not know what runs on it."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

import uvloop

_T = TypeVar("_T")

STOP_SECONDS = 5
"""How long `stop` waits for the thread. The loop only has to end its current callback; a thread that hangs longer than
this is a daemon and ends with the process."""


class EventLoopThread:
    """A running event loop in a daemon thread. Its methods are for other threads: `run` would wait for itself."""

    def __init__(self) -> None:
        self._loop = uvloop.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="sending-loop", daemon=True)
        self._thread.start()

    def run(self, coroutine: Coroutine[Any, Any, _T], *, timeout_seconds: float | None = None) -> _T:
        """Run a coroutine on the loop and wait for its result.

        Raises:
            TimeoutError: when it has not ended after `timeout_seconds`.
        """
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(timeout_seconds)

    def call_soon(self, act: Callable[..., None], *arguments: Any) -> None:
        """Have the loop call a function in its next round, without waiting for it."""
        self._loop.call_soon_threadsafe(act, *arguments)

    def stop(self) -> None:
        """Stop the loop and end its thread. What still runs on it is abandoned, so close that first."""
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(timeout=STOP_SECONDS)
