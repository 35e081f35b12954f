"""The threads of one API process, apart by what runs in them: what is slow delays its own kind, and first its own user.

All kinds together are as many as the connections to the database that a process has by default, so none waits for a
connection that another kind holds.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import TypeVar

import anyio.to_thread
from anyio import CapacityLimiter

from dispatcher.api.fair_threads import FairThreads, Places, Refusals, Turns

ORDINARY_THREADS = 19
ORDINARY_TURNS_OF_A_USER = 2
"""Several users may be one attacker's, and one user several programs. Each thread that is busy with a large answer
makes everybody else's requests take longer by all that they take alone."""

_R = TypeVar("_R")


async def run_in(threads: CapacityLimiter, call: Callable[[], _R]) -> _R:
    """The call's result, once one of these threads is free."""
    return await anyio.to_thread.run_sync(call, limiter=threads)


@dataclass(frozen=True, slots=True)
class Threads:
    """All kinds. It is made on the event loop that uses it."""

    ready: CapacityLimiter = field(default_factory=partial(CapacityLimiter, 2))
    """For load balancers and Prometheus."""
    callers: CapacityLimiter = field(default_factory=partial(CapacityLimiter, 4))
    """To look up whose key it is, for requests of all kinds."""
    publishing: CapacityLimiter = field(default_factory=partial(CapacityLimiter, 4))
    large_batches: Places = field(default_factory=lambda: Places("large batches of events", 64, 16))
    large_batch_turns: Turns = field(default_factory=lambda: Turns(2))
    """Decoded, a batch may take a hundred MiB."""
    graphql: FairThreads = field(
        default_factory=lambda: FairThreads(Places("documents", 256, 32), threads=4, threads_of_a_user=1)
    )
    """The client never sends as many as one user has places. A document may read 32 MiB."""
    dry_runs: FairThreads = field(
        default_factory=lambda: FairThreads(Places("dry runs", 16, 2), threads=2, threads_of_a_user=1)
    )
    manifests: FairThreads = field(
        default_factory=lambda: FairThreads(
            Places("manifests that are applied or exported", 16, 2), threads=2, threads_of_a_user=1
        )
    )
    exports: FairThreads = field(
        default_factory=lambda: FairThreads(Places("exports of deliveries", 16, 2), threads=2, threads_of_a_user=1)
    )
    large_body_turns: Turns = field(default_factory=lambda: Turns(1))
    """Bodies over 256 KiB that are no events: a user's are read and handled one after another."""
    trials: Places = field(default_factory=lambda: Places("tests of webhooks", 16, 2))
    """They wait for endpoints, without a thread."""
    uploads: Places = field(default_factory=lambda: Places("uploads of runs' files", 500, 200))
    """The client sends 128 at a time. They take no thread and hardly any memory: what comes is dropped."""
    senders: Places = field(default_factory=lambda: Places("webhooks in", 400, 40))
    """They are told apart by their sources. Those with URLs that are no source's are one user's, whoever sends them."""
    source_history: CapacityLimiter = field(default_factory=partial(CapacityLimiter, 1))
    """To keep what became of webhooks in: publishing must not wait for it."""
    console: Places = field(default_factory=lambda: Places("pages", 200, 50))
    console_turns: Turns = field(default_factory=lambda: Turns(8))
    console_turns_of_a_visitor: Turns = field(default_factory=lambda: Turns(2))
    """Visitors are told apart by their cookies, not looked up yet, so all of them together are bounded too."""
    ordinary: Places = field(default_factory=lambda: Places("requests", 2000, 200))
    ordinary_turns: Turns = field(default_factory=lambda: Turns(ORDINARY_TURNS_OF_A_USER))
    """All other requests; their threads are those that FastAPI takes by itself."""

    refusals: Refusals = field(default_factory=lambda: Refusals(per_second=20, most_seconds=5))
    """Of all kinds. A refusal costs the event loop about a millisecond; a program that waits a second before it tries
    again, as it is told to, may have twenty requests at a time refused and notices nothing."""

    def bound_ordinary(self) -> None:
        """Have FastAPI take no more threads than ordinary requests may have; called on the event loop."""
        anyio.to_thread.current_default_thread_limiter().total_tokens = ORDINARY_THREADS
