"""A pool of connections to endpoints: resolves names, guards sockets as they are made, and adds TLS for https.

Must not read answers (`shared.http.connection` does) and must not know webhooks.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Callable
from contextlib import suppress
from typing import Any, NamedTuple

import aiohappyeyeballs

from shared.http.connection import Http11Connection, Response, Trace
from shared.http.dns import AddressInfo, DnsCache, literal_address
from shared.http.exceptions import CertificateUnreadable, ConnectTimeout, EgressBlocked, PoolClosed
from shared.http.tunnels import Tunnels

KEEPALIVE_SECONDS = 4.0
"""How long an idle connection is kept. Common servers drop one after five seconds (Node.js, uvicorn), and a POST that
meets the end of its connection may or may not have been read. Twice as long loses requests to such servers; half as
long opens connections anew for webhooks that get a request every few seconds."""
_HAPPY_EYEBALLS_SECONDS = 0.25
"""How long one address is tried before the next is tried beside it (RFC 8305, section 5)."""

SocketFactory = Callable[[AddressInfo], socket.socket]


class Origin(NamedTuple):
    """The key under which connections are pooled: any connection of an origin may serve any request to it."""

    host: str
    port: int
    context: ssl.SSLContext | None
    """None for plain http."""


class ConnectionPool:
    """The connections of one event loop. Their number is not limited here: callers limit their requests.

    Everything but the two socket factories is changed on that loop only, between awaits, so no lock is needed. A
    connection is in `_free` while it waits for a request, and in `_busy` while it serves one; while it is being
    established it is in neither, so `request` looks at `_closed` again once it is there.
    """

    def __init__(
        self, *, tls_socket: SocketFactory, plain_socket: SocketFactory, tunnels: Tunnels | None = None
    ) -> None:
        self._tunnels = tunnels
        self._tls_socket = tls_socket
        self._plain_socket = plain_socket
        self._loop = asyncio.get_running_loop()
        self._free: dict[Origin, list[Http11Connection]] = {}
        self._busy: set[Http11Connection] = set()
        self._closed = False
        self._names = DnsCache()
        self._sweep: asyncio.TimerHandle | None = None

    async def request(
        self, origin: Origin, request: bytes, *, timeout_seconds: float, connect_timeout_seconds: float, trace: Trace
    ) -> Response:
        """Send a request over a free connection, or a new one, and read its answer.

        Args:
            origin: where to connect to, and with which TLS context.
            request: the whole request, head and body.
            timeout_seconds: for everything, from the look-up of the name to the end of the answer.
            connect_timeout_seconds: for TCP and TLS alone.
            trace: learns what becomes known on the way.

        Raises:
            PoolClosed: when the pool is closed, also when that happened while connecting.
            ConnectTimeout: when no connection is established in time.
            TimeoutError: when the whole answer is not there in time.
            EgressBlocked: when the guard refused each of the name's addresses.
            Exception: anything that resolving, TLS or `Http11Connection.request` may raise.
        """
        connection = self._take(origin)
        if connection is None:
            began = self._loop.time()
            async with asyncio.timeout(timeout_seconds):
                connection = await self._connect(origin, connect_timeout_seconds, trace)
            timeout_seconds -= self._loop.time() - began
            if self._closed:
                connection.abort()  # `close` did not know it yet
                raise PoolClosed("closed")
        connection.served = trace.place = connection.served + 1
        trace.remote_address, trace.tls_version = connection.remote_address, connection.tls_version
        self._busy.add(connection)
        try:
            answer = await connection.request(request, timeout_seconds, trace)
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
        """The connection that was used last, if it is still good; None when there is none."""
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

    async def _connect(self, origin: Origin, timeout_seconds: float, trace: Trace) -> Http11Connection:
        if self._tunnels is not None and self._tunnels.lead_to(origin.host, origin.port):
            return await self._connect_through(self._tunnels, origin, timeout_seconds, trace)
        if not (addresses := literal_address(origin.host, origin.port)):
            began = self._loop.time()
            addresses = await self._names.resolve(origin.host, origin.port)
            trace.lookup_seconds = self._loop.time() - began
        timeout = asyncio.timeout(timeout_seconds)
        try:
            async with timeout:
                return await self._connect_to(origin, addresses, trace)
        except TimeoutError as exc:
            if timeout.expired():
                raise ConnectTimeout from exc
            raise

    async def _connect_through(
        self, tunnels: Tunnels, origin: Origin, timeout_seconds: float, trace: Trace
    ) -> Http11Connection:
        """A connection through the proxy, whose address is not judged: an operator chose it."""
        proxy = tunnels.proxy
        await tunnels.judge(origin.host, origin.port, self._names, tls=origin.context is not None)
        timeout = asyncio.timeout(timeout_seconds)
        try:
            async with timeout:
                opened = await self._open_proxy(tunnels, trace)
                at = self._loop.time()
                connection = await tunnels.open(origin.host, origin.port, origin.context, opened)
        except TimeoutError as exc:
            if timeout.expired():
                raise ConnectTimeout from exc
            raise
        if origin.context is not None:
            trace.handshake_seconds = self._loop.time() - at
        connection.remote_address = trace.remote_address or proxy.name
        return connection

    async def _open_proxy(self, tunnels: Tunnels, trace: Trace) -> socket.socket:
        began, proxy = self._loop.time(), tunnels.proxy
        try:
            addresses = literal_address(proxy.host, proxy.port) or await self._names.resolve(proxy.host, proxy.port)
            opened = await self._open_socket(addresses, _any_socket, trace)
        except OSError as exc:
            raise tunnels.unreachable(exc) from exc
        trace.connect_seconds = self._loop.time() - began
        opened.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return opened

    async def _connect_to(self, origin: Origin, addresses: list[AddressInfo], trace: Trace) -> Http11Connection:
        began = self._loop.time()
        make = self._plain_socket if origin.context is None else self._tls_socket
        opened = await self._open_socket(addresses, make, trace)
        at = self._loop.time()
        trace.connect_seconds = at - began
        opened.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with suppress(OSError):  # an endpoint that has left already
            trace.remote_address = _spelled(opened.getpeername())
        connected = False
        try:
            _transport, connection = await self._loop.create_connection(
                Http11Connection,
                sock=opened,
                ssl=origin.context,
                server_hostname=None if origin.context is None else origin.host.rstrip("."),
            )
            connected = True
        except UnicodeDecodeError as exc:  # Python's `ssl` decodes the texts of the certificate
            raise CertificateUnreadable from exc
        finally:
            if not connected:
                opened.close()
        if origin.context is not None:
            trace.handshake_seconds = self._loop.time() - at
        connection.remote_address = trace.remote_address
        return connection

    async def _open_socket(self, addresses: list[AddressInfo], make: SocketFactory, trace: Trace) -> socket.socket:
        """A connected socket, to whichever address answers first."""
        refusals: list[EgressBlocked] = []

        def make_guarded(address: AddressInfo) -> socket.socket:
            try:
                made = make(address)
            except EgressBlocked as exc:
                refusals.append(exc)
                raise
            trace.remote_address = _spelled(address[4])  # the last one that was tried, should none answer
            return made

        try:
            return await aiohappyeyeballs.start_connection(
                addresses,
                happy_eyeballs_delay=_HAPPY_EYEBALLS_SECONDS,
                interleave=1,
                loop=self._loop,
                socket_factory=make_guarded,
            )
        except OSError:
            # The library merges the errors of several addresses into an OSError of its own, whatever they were.
            if len(refusals) == len(addresses):
                raise refusals[0] from None
            raise


def _any_socket(address: AddressInfo) -> socket.socket:
    family, kind, protocol, _name, _sockaddr = address
    return socket.socket(family, kind, protocol)


def _spelled(address: tuple[Any, ...]) -> str:
    """A socket's address as in a URL: `192.0.2.1:443`, `[2001:db8::1]:443`."""
    host, port, *_ = address
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
