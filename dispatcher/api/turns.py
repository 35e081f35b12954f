"""Turns for what may take long: in threads of its own, few at a time, and fewer for one user."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import ParamSpec, TypeVar

import anyio
import anyio.to_thread
from anyio import CapacityLimiter

from dispatcher.api.problems import RETRY_AFTER_SECONDS, Problem

_P = ParamSpec("_P")
_R = TypeVar("_R")


@dataclass(slots=True)
class _Line:
    """One user's calls that run or wait."""

    running: anyio.Semaphore
    length: int = 0


@dataclass(slots=True)
class Turns:
    """Runs calls that block in threads that nothing else uses, so that `/readyz` and publishing never wait for them.

    Only the event loop's thread uses it.
    """

    at_once: int
    """Calls of all users together."""
    of_a_user: int
    longest_line: int
    """How many calls of one user may run or wait; the next is refused."""
    _threads: CapacityLimiter = field(init=False)
    _lines: dict[int, _Line] = field(init=False)

    def __post_init__(self) -> None:
        self._threads = CapacityLimiter(self.at_once)
        self._lines = defaultdict(lambda: _Line(anyio.Semaphore(self.of_a_user)))

    async def run(self, user_id: int, call: Callable[_P, _R], *arguments: _P.args, **named: _P.kwargs) -> _R:
        """The call's result, when it is its turn. Raises Problem (429) when the user has too many calls in line."""
        line = self._lines[user_id]
        if line.length >= self.longest_line:
            detail = f"{self.longest_line} requests of yours are being answered or wait: try again when they are done"
            raise Problem(429, "too-many-requests", detail, headers={"Retry-After": RETRY_AFTER_SECONDS})
        line.length += 1
        try:
            async with line.running:
                return await anyio.to_thread.run_sync(lambda: call(*arguments, **named), limiter=self._threads)
        finally:
            line.length -= 1
            if not line.length:
                del self._lines[user_id]
