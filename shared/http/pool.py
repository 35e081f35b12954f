"""Connections to endpoints: resolved, guarded as their sockets are made, with TLS where the URL asks for it, pooled.

Must not read answers (`shared.http.connection` does) and must not know webhooks. All of it lives on one event loop.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Callable
from typing import NamedTuple

import aiohappyeyeballs

from shared.http.connection import Http11Connection, Response
from shared.http.dns import AddressInfo, DnsCache, literal_address
from shared.http.exceptions import CertificateUnreadable, ConnectTimeout, PoolClosed

# Shorter than the five seconds after which common servers drop an idle connection: a POST is not sent on one that is
# about to close.
KEEPALIVE_SECONDS = 4.0
_HAPPY_EYEBALLS_SECONDS = 0.25  # RFC 8305, section 5

SocketFactory = Callable[[AddressInfo], socket.socket]


class Origin(NamedTuple):
    """Whose connections may serve a request: what is pooled together."""

    host: str
    port: int
    context: ssl.SSLContext | None
    """None for plain http."""


class ConnectionPool:
    """The pool of one event loop. There is no limit here: callers have theirs."""

    def __init__(self, *, tls_socket: SocketFactory, plain_socket: SocketFactory) -> None:
        self._tls_socket = tls_socket
        self._plain_socket = plain_socket
        self._loop = asyncio.get_running_loop()
        self._free: dict[Origin, list[Http11Connection]] = {}
        self._busy: set[Http11Connection] = set()
        self._closed = False
        self._names = DnsCache()
        self._sweep: asyncio.TimerHandle | None = None

    async def request(
        self, origin: Origin, request: bytes, *, timeout_seconds: float, connect_timeout_seconds: float
    ) -> Response:
        """Send a request over a free connection, or a new one, and read its answer.

        Raises:
            PoolClosed: when the pool is closed, also when that happened while connecting.
            ConnectTimeout: when there is no connection in time.
            TimeoutError: when there is no whole answer in time, whatever the time went to.
            Exception: whatever connecting, TLS or `shared.http.connection` may raise.
        """
        connection = self._take(origin)
        if connection is None:
            began = self._loop.time()
            async with asyncio.timeout(timeout_seconds):
                connection = await self._connect(origin, connect_timeout_seconds)
            timeout_seconds -= self._loop.time() - began
            if self._closed:
                connection.abort()  # `close` did not know it yet
                raise PoolClosed("closed")
        self._busy.add(connection)
        try:
            answer = await connection.request(request, timeout_seconds)
        finally:
            self._busy.discard(connection)
        if connection.is_open:
            self._give_back(origin, connection)
        return answer

    def close(self) -> None:
        """Close every connection; nothing is sent any more."""
        self._closed = True
        if self._sweep is not None:
            self._sweep.cancel()
        for connection in (*self._busy, *(one for several in self._free.values() for one in several)):
            connection.abort()
        self._free.clear()
        self._names.close()

    def _take(self, origin: Origin) -> Http11Connection | None:
        """The connection that was used last, if it is still good."""
        if self._closed:
            raise PoolClosed("closed")
        connections = self._free.get(origin)
        while connections:
            connection = connections.pop()
            is_young = self._loop.time() - connection.idle_since < KEEPALIVE_SECONDS
            if is_young and connection.is_open and connection.is_quiet():
                return connection
            connection.abort()
        return None

    def _give_back(self, origin: Origin, connection: Http11Connection) -> None:
        if self._closed:
            connection.abort()
            return
        connection.idle_since = self._loop.time()
        self._free.setdefault(origin, []).append(connection)
        if self._sweep is None:
            self._sweep = self._loop.call_later(KEEPALIVE_SECONDS, self._drop_old)

    def _drop_old(self) -> None:
        self._sweep = None
        oldest = self._loop.time() - KEEPALIVE_SECONDS
        for origin, connections in list(self._free.items()):
            kept = []
            for connection in connections:
                if connection.idle_since > oldest and connection.is_open:
                    kept.append(connection)
                else:
                    connection.abort()
            if kept:
                self._free[origin] = kept
            else:
                del self._free[origin]
        if self._free:
            self._sweep = self._loop.call_later(KEEPALIVE_SECONDS / 4, self._drop_old)

    async def _connect(self, origin: Origin, timeout_seconds: float) -> Http11Connection:
        addresses = literal_address(origin.host, origin.port) or await self._names.resolve(origin.host, origin.port)
        timeout = asyncio.timeout(timeout_seconds)
        try:
            async with timeout:
                return await self._connect_to(origin, addresses)
        except TimeoutError as exc:
            if timeout.expired():
                raise ConnectTimeout from exc
            raise

    async def _connect_to(self, origin: Origin, addresses: list[AddressInfo]) -> Http11Connection:
        opened = await aiohappyeyeballs.start_connection(
            addresses,
            happy_eyeballs_delay=_HAPPY_EYEBALLS_SECONDS,
            interleave=1,
            loop=self._loop,
            socket_factory=self._plain_socket if origin.context is None else self._tls_socket,
        )
        opened.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connected = False
        try:
            _transport, connection = await self._loop.create_connection(
                Http11Connection,
                sock=opened,
                ssl=origin.context,
                server_hostname=None if origin.context is None else origin.host.rstrip("."),
            )
            connected = True
        except UnicodeDecodeError as exc:  # of Python's, which reads all of a certificate
            raise CertificateUnreadable from exc
        finally:
            if not connected:
                opened.close()
        return connection
