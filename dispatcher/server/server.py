"""The server: takes as many connections as it can hold, sweeps them once a second, and says when there are too many."""

from __future__ import annotations

import os
import socket
from collections import Counter
from functools import partial
from typing import TYPE_CHECKING, Any, cast

import uvicorn

from dispatcher.server.connection import Bounds, Connection
from dispatcher.server.memory import return_large_blocks
from shared.config.descriptors import raise_descriptor_limit
from shared.interpreter import ANSWERING_SWITCH_SECONDS, tune_interpreter
from shared.observability import metrics
from shared.observability.descriptor_reserve import Reserve
from shared.observability.logs import get_logger

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

    from shared.settings import Settings

GRACE_SECONDS = 10
"""How long requests that are underway may take when the server ends; `hookline up` kills it after 30 s."""
TICKS_A_SECOND = 10
"""How often uvicorn calls `on_tick`."""
TOLD_SECONDS = 60
"""How often at most the same trouble is logged: each refused connection a line would fill a disk."""
RESERVED_DESCRIPTORS = 200
"""For files, Redis, the broker, and requests that test webhooks; connections to the database come on top."""
NEWCOMERS = 8
"""The connections for which room is made each second when no descriptor is left, so that the health check and a scrape
are answered. Twice as many descriptors are held in reserve for them."""
FEWEST_CONNECTIONS = 10
"""The connections that are held even with too few descriptors: without any the health check could not be answered."""

log = get_logger("hookline.api")


class Server(uvicorn.Server):
    """uvicorn's server on connections within bounds."""

    def __init__(self, application: str | Callable[..., Any], bounds: Bounds) -> None:
        make: object = partial(Connection, bounds=bounds, cut=self._cut)
        super().__init__(
            uvicorn.Config(
                application,
                factory=True,
                loop="uvloop",
                http=cast("type[asyncio.Protocol]", make),
                ws="none",
                access_log=False,
                server_header=False,
                proxy_headers=False,  # `dispatcher.api.proxies` reads them
                log_config=None,
                timeout_graceful_shutdown=GRACE_SECONDS,
            )
        )
        self._bounds = bounds
        self._ticks = 0
        self._cuts: Counter[str] = Counter()
        self._no_descriptors_until = 0
        self._reserve = Reserve(2 * NEWCOMERS)

    async def on_tick(self, counter: int) -> bool:
        """Sweep the connections once a second; uvicorn calls this ten times a second."""
        self._ticks += 1
        if self._ticks % TICKS_A_SECOND == 0:
            for connection in list(self.server_state.connections):
                if isinstance(connection, Connection):
                    connection.sweep()
            metrics.set_open_connections(len(self.server_state.connections))
            self._probe_descriptors()
        if self._ticks % (TICKS_A_SECOND * TOLD_SECONDS) == 0:
            self._cuts.clear()
        return await super().on_tick(counter)

    def _cut(self, reason: str) -> None:
        """Count a connection that was cut, and log the first for each reason in a minute."""
        metrics.count_cut_connection(reason)
        self._cuts[reason] += 1
        if self._cuts[reason] == 1:
            log.warning("api.connection_cut", reason=reason, connections=len(self.server_state.connections))

    def _probe_descriptors(self) -> None:
        """Log and make room when no file can be opened any more, since libuv then closes new connections silently."""
        self._reserve.fill()
        try:
            os.close(os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC))
        except OSError as exc:
            if self._ticks >= self._no_descriptors_until:
                self._no_descriptors_until = self._ticks + TICKS_A_SECOND * TOLD_SECONDS
                log.error("api.no_descriptors", error=exc.strerror, hint="raise the limit of open files (ulimit -n)")
            missing = NEWCOMERS - sum(self._reserve.let_go() for _ in range(NEWCOMERS))
            for one in [one for one in self.server_state.connections if isinstance(one, Connection)]:
                if missing and one.leave_if_idle():
                    missing -= 1


def serve(settings: Settings, listener: socket.socket) -> None:
    """Serve the API on a listening socket until a signal."""
    bounds = Bounds(connections=possible_connections(settings, raise_descriptor_limit()))
    tune_interpreter(ANSWERING_SWITCH_SECONDS)
    return_large_blocks()
    Server("dispatcher.app:create_app", bounds).run(sockets=[listener])


def possible_connections(settings: Settings, descriptors: int) -> int:
    """How many connections this number of descriptors allows: as many as set, or fewer, which is logged."""
    possible = max(FEWEST_CONNECTIONS, descriptors - RESERVED_DESCRIPTORS - settings.database_connections)
    if possible < settings.api_connections:
        log.warning(
            "api.few_descriptors",
            descriptors=descriptors,
            connections=possible,
            wanted=settings.api_connections,
            hint="raise the limit of open files (ulimit -n)",
        )
    return min(possible, settings.api_connections)
