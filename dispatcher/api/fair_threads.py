"""Places and threads that users share fairly: a user's requests wait behind each other, not those of others."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from typing import ParamSpec, TypeVar

import anyio
import anyio.to_thread
from anyio import CapacityLimiter

from dispatcher.api.problems import RETRY_AFTER_SECONDS, Problem

_P = ParamSpec("_P")
_R = TypeVar("_R")


@dataclass(slots=True)
class Places:
    """How many requests of a kind may be answered or wait at the same time, and how many of them may be one user's.

    A request takes its place before its body is read: what waits takes memory. Only the event loop's thread uses it.
    """

    what: str
    """What the requests are, in the plural: refusals name it."""
    most: int
    most_of_a_user: int
    _held: Counter[int] = field(default_factory=Counter)

    @contextmanager
    def hold(self, user_id: int) -> Iterator[None]:
        """Hold one of the places. Raises Problem (429) when there is none, or none for this user."""
        if self._held[user_id] >= self.most_of_a_user:
            raise self._refusal(f"{self.most_of_a_user} {self.what} of yours")
        if self._held.total() >= self.most:
            raise self._refusal(f"{self.most} {self.what}")
        self._held[user_id] += 1
        try:
            yield
        finally:
            self._held[user_id] -= 1
            if not self._held[user_id]:
                del self._held[user_id]

    def _refusal(self, too_many: str) -> Problem:
        detail = f"{too_many} are being answered or wait: try again when they are done"
        return Problem(429, "too-many-requests", detail, headers={"Retry-After": RETRY_AFTER_SECONDS})


@dataclass(slots=True)
class Refusals:
    """Tells a user's refusals at a bounded rate: to refuse who asks again at once is work that delays others too.

    A first one is told at once, and none later than `most_seconds`. What waits has read no body, and holds no place.
    """

    per_second: float
    most_seconds: float
    _next: dict[int, float] = field(default_factory=dict)
    """When each user's next refusal may be told, by the event loop's clock."""

    async def wait(self, user_id: int) -> None:
        """Wait until a refusal of this user may be told."""
        now = anyio.current_time()
        if len(self._next) >= _USERS_KEPT:
            self._next = {user: at for user, at in self._next.items() if at > now}
        at = min(max(now, self._next.get(user_id, 0.0)), now + self.most_seconds)
        self._next[user_id] = at + 1 / self.per_second
        if at > now:
            await anyio.sleep(at - now)


_USERS_KEPT = 1000


@dataclass(slots=True)
class _OwnTurns:
    """One user's turns, and how many of its requests have one or wait for one."""

    free: anyio.Semaphore
    wanted: int = 0


@dataclass(slots=True)
class Turns:
    """How much of one user is done at the same time; the rest waits, in order. Only the event loop's thread uses it."""

    most_of_a_user: int
    _users: dict[int, _OwnTurns] = field(default_factory=dict)

    @asynccontextmanager
    async def hold(self, user_id: int) -> AsyncIterator[None]:
        """Wait for one of the user's turns, and hold it."""
        own = self._users.setdefault(user_id, _OwnTurns(anyio.Semaphore(self.most_of_a_user)))
        own.wanted += 1
        try:
            async with own.free:
                yield
        finally:
            own.wanted -= 1
            if not own.wanted:
                del self._users[user_id]


@dataclass(slots=True)
class FairThreads:
    """Runs calls that block in threads that nothing else uses, so that `/readyz` and publishing never wait for them."""

    places: Places
    threads: int
    """How many calls run at the same time."""
    threads_of_a_user: int
    """How many of them may be one user's."""
    _threads: CapacityLimiter = field(init=False)
    _turns: Turns = field(init=False)

    def __post_init__(self) -> None:
        self._threads = CapacityLimiter(self.threads)
        self._turns = Turns(self.threads_of_a_user)

    async def run(self, user_id: int, call: Callable[_P, _R], *arguments: _P.args, **named: _P.kwargs) -> _R:
        """The call's result, once a thread is free for this user, whose request holds a place."""
        async with self._turns.hold(user_id):
            return await anyio.to_thread.run_sync(lambda: call(*arguments, **named), limiter=self._threads)
