"""The one event loop of a process, on a thread of its own, which all requests share."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import Future
from typing import Any, TypeVar

import uvloop

from shared.http.client import WebhookClient
from shared.settings import Settings

_T = TypeVar("_T")


class EventLoopThread:
    """The process's one event loop, in a thread of its own, and the sender whose connections live on it."""

    def __init__(self, settings: Settings) -> None:
        self._loop = uvloop.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="sending-loop", daemon=True)
        self._thread.start()
        self.sender = self.submit(self._open(settings)).result()

    @staticmethod
    async def _open(settings: Settings) -> WebhookClient:
        return WebhookClient(settings)

    def submit(self, coroutine: Coroutine[Any, Any, _T]) -> Future[_T]:
        """Run a coroutine on the loop, from any thread."""
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop)

    def call(self, act: Callable[..., None], *arguments: Any) -> None:
        """Call a function on the loop soon, from any thread."""
        self._loop.call_soon_threadsafe(act, *arguments)

    def close(self) -> None:
        """Close the connections and end the thread."""
        self.submit(self.sender.aclose()).result(timeout=5)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(timeout=5)
