"""The server of `/metrics` of a worker or the pump: one thread for each scrape, few at a time, none for long.

It answers when the process has no file descriptors left, too: that is when people need to see it.
"""

from __future__ import annotations

import socket
import threading
import time
from collections import OrderedDict
from contextlib import suppress
from socketserver import ThreadingMixIn
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer

from prometheus_client import CollectorRegistry, make_wsgi_app

from shared.config.listening import why_not_listening
from shared.config.setting_types import InvalidSetting
from shared.observability.descriptor_reserve import Reserve
from shared.observability.logs import get_logger
from shared.observability.process_metrics import is_exhausted

MAX_SCRAPES = 8
"""The most connections at a time, of which Prometheus needs one. A further one ends the oldest, so that idle
connections can't keep it out."""
SCRAPE_SECONDS = 10.0
"""How long a scrape may take: as long as Prometheus waits for it by default."""
PAUSE_SECONDS = 0.1
"""How long the server waits when the process has no file descriptors left, and none is in reserve either."""
RESERVED_DESCRIPTORS = 8
"""Held open for scrapes. More than one, since another thread may take a descriptor that was just closed."""

log = get_logger("hookline.metrics")


class _Handler(WSGIRequestHandler):
    """One scrape. The standard library takes 100 header fields of 64 KiB each at most, and reads no body."""

    timeout = SCRAPE_SECONDS

    def log_message(self, *_args: Any) -> None:
        """Say nothing of each scrape."""


class _Server(ThreadingMixIn, WSGIServer):
    daemon_threads = True

    def __init__(self, *args: Any, **more: Any) -> None:
        self._lock = threading.Lock()
        self._begun: OrderedDict[socket.socket, float] = OrderedDict()
        """The open connections and when they began, oldest first. The server's thread and those of scrapes change it,
        under the lock."""
        self._reserve = Reserve(RESERVED_DESCRIPTORS)
        self._told = False
        super().__init__(*args, **more)

    def get_request(self) -> Any:
        """Accept a connection, with a reserved descriptor if there is no other.

        If that fails, too, it waits, since the server would retry immediately.
        """
        try:
            return super().get_request()
        except OSError as exc:
            if is_exhausted(exc):
                self._tell()
                while self._reserve.let_go():
                    with suppress(OSError):
                        return super().get_request()
            log.warning("metrics.not_accepted", error=exc.strerror)
            time.sleep(PAUSE_SECONDS)
            raise

    def _tell(self) -> None:
        if not self._told:
            self._told = True
            log.error("process.no_descriptors", hint="raise the limit of open files (LimitNOFILE, ulimit -n)")

    def process_request(self, request: Any, client_address: Any) -> None:
        with self._lock:
            if len(self._begun) >= MAX_SCRAPES:
                _end(self._begun.popitem(last=False)[0])
            self._begun[request] = time.monotonic()
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        with self._lock:
            self._begun.pop(request, None)
        super().shutdown_request(request)

    def service_actions(self) -> None:
        """End connections that take too long, and fill the reserve up; called twice a second."""
        if self._reserve.fill():
            self._told = False
        begun_before = time.monotonic() - SCRAPE_SECONDS
        with self._lock:
            for request in [one for one, begun in self._begun.items() if begun < begun_before]:
                del self._begun[request]
                _end(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Ignore that a client left, or that its connection was ended."""


def _end(request: socket.socket) -> None:
    """Let the connection's thread see that it is over; the thread closes it."""
    with suppress(OSError):
        request.shutdown(socket.SHUT_RDWR)


def start_metrics_server(host: str, port: int, registry: CollectorRegistry) -> None:
    """Serve the registry in a thread of its own as long as the process runs.

    Raises:
        InvalidSetting: when the address is taken or is not this machine's.
    """
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        kind = type("_FamilyServer", (_Server,), {"address_family": family})
        server = kind((address[0], port), _Handler)
    except (OSError, UnicodeError) as exc:
        why = why_not_listening(host, port, exc)
        raise InvalidSetting(f"HOOKLINE_METRICS_HOST, HOOKLINE_METRICS_PORT: {why}") from exc
    server.set_app(make_wsgi_app(registry))
    threading.Thread(target=server.serve_forever, name="metrics", daemon=True).start()
