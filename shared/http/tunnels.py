"""Connections to endpoints through an HTTP proxy, by CONNECT (RFC 9110, section 9.3.6), for https and plain http alike.

TLS is made with the endpoint, inside the tunnel: the proxy sees host and port, and nothing of a request. The guard
judges the URL's host as ever, and the addresses of its name where this host can resolve it. Which address the proxy
connects to is the proxy's choice, so it should filter as well.
"""

from __future__ import annotations

import asyncio
import re
import socket
import ssl
from collections.abc import Callable
from contextlib import suppress

from shared.config.egress_proxy import EgressProxy, NoProxy
from shared.http.connection import Http11Connection
from shared.http.dns import AddressInfo, DnsCache, literal_address
from shared.http.exceptions import CertificateUnreadable, ConnectTimeout, ProxyFailed, ProxyRefused
from shared.http.request import USER_AGENT
from shared.observability.logs import get_logger

log = get_logger("hookline.egress")

RESOLVE_SECONDS = 2.0
"""How long a name is looked up for the guard alone. A network without DNS may not answer at all."""
UNRESOLVED_SECONDS = 10.0
"""How long a name that did not resolve is not looked up again."""
MAX_UNRESOLVED = 10_000
MAX_HEAD_BYTES = 16 << 10
"""The largest head of a proxy's answer."""
_STATUS = re.compile(rb"HTTP/1\.[01] ([0-9]{3})(?: |\r)")


class Tunnels:
    """The way through the proxy, for the pool of one event loop."""

    def __init__(
        self,
        proxy: EgressProxy,
        no_proxy: NoProxy,
        *,
        context: ssl.SSLContext,
        judge: Callable[[list[AddressInfo], bool], None],
        judge_unresolved: Callable[[int, bool], None],
    ) -> None:
        """Take what is fixed.

        Args:
            proxy: the proxy.
            no_proxy: which endpoints are reached without it.
            context: for TLS with the proxy itself.
            judge: refuses an endpoint by the addresses of its host; told whether the request is https.
            judge_unresolved: refuses an endpoint whose name does not resolve here, by its port and whether it is https.
        """
        self.proxy = proxy
        self._no_proxy = no_proxy
        self._context = context if proxy.tls else None
        self._judge = judge
        self._judge_unresolved = judge_unresolved
        self._unresolved: dict[str, float] = {}
        """Names that did not resolve, each with the loop's time until which that counts."""

    def lead_to(self, host: str, port: int) -> bool:
        """Whether an endpoint is reached through the proxy."""
        return not self._no_proxy.covers(host, port)

    async def judge(self, host: str, port: int, names: DnsCache, *, tls: bool) -> None:
        """Refuse an endpoint that no request may go to, as far as this host can tell. Raises EgressBlocked."""
        addresses = literal_address(host, port) or await self._resolve(host, port, names)
        if addresses:
            self._judge(addresses, tls)
        else:
            self._judge_unresolved(port, tls)

    async def _resolve(self, host: str, port: int, names: DnsCache) -> list[AddressInfo]:
        now = asyncio.get_running_loop().time()
        if self._unresolved.get(host, 0.0) > now:
            return []
        try:
            async with asyncio.timeout(RESOLVE_SECONDS):
                return await names.resolve(host, port)
        except (TimeoutError, socket.gaierror):
            if len(self._unresolved) >= MAX_UNRESOLVED:
                self._unresolved.clear()
            self._unresolved[host] = now + UNRESOLVED_SECONDS
            return []

    async def open(
        self, host: str, port: int, context: ssl.SSLContext | None, opened: socket.socket
    ) -> Http11Connection:
        """A connection to an endpoint through the proxy, which `opened` is connected to. It takes the socket over.

        Raises:
            ProxyFailed, ProxyRefused: when the proxy gives no tunnel.
            Exception: anything that TLS with the endpoint may raise.
        """
        loop = asyncio.get_running_loop()
        tunnel = await self._ask(loop, host, port, opened)
        connection = Http11Connection()
        if context is None:
            tunnel.transport.set_protocol(connection)
            connection.connection_made(tunnel.transport)
            return connection
        done = False
        try:
            transport = await loop.start_tls(
                tunnel.transport, connection, context, server_hostname=host.strip("[]").rstrip(".")
            )
            if transport is None:  # the other side has left meanwhile
                raise ConnectionResetError
            done = True
        except UnicodeDecodeError as exc:
            raise CertificateUnreadable from exc
        finally:
            if not done:
                tunnel.transport.abort()
        connection.connection_made(transport)
        return connection

    async def _ask(self, loop: asyncio.AbstractEventLoop, host: str, port: int, opened: socket.socket) -> _Tunnel:
        made = False
        try:
            transport, tunnel = await loop.create_connection(
                _Tunnel,
                sock=opened,
                ssl=self._context,
                server_hostname=None if self._context is None else self.proxy.host,
            )
            made = True
        except (OSError, ssl.SSLError, UnicodeDecodeError) as exc:
            raise ProxyFailed(self.proxy.name, "TLS with it failed") from exc
        finally:
            if not made:
                opened.close()
        asked = False
        try:
            place = f"{host}:{port}" if ":" not in host or host.startswith("[") else f"[{host}]:{port}"
            authorization = self.proxy.authorization
            login = "" if authorization is None else f"Proxy-Authorization: {authorization}\r\n"
            transport.write(
                f"CONNECT {place} HTTP/1.1\r\nHost: {place}\r\nUser-Agent: {USER_AGENT}\r\n{login}\r\n".encode()
            )
            status = await tunnel.answer
            if not 200 <= status <= 299:
                log.info("egress.proxy_refused", proxy=self.proxy.name, status=status, host=host, port=port)
                raise ProxyRefused(self.proxy.name, status)
            asked = True
        except OSError as exc:
            raise ProxyFailed(self.proxy.name, "it closed the connection") from exc
        finally:
            if not asked:
                transport.abort()
        return tunnel

    def unreachable(self, exc: BaseException) -> ProxyFailed:
        """The failure of a connection to the proxy itself."""
        if isinstance(exc, ConnectTimeout):
            return ProxyFailed(self.proxy.name, "it did not accept the connection in time")
        if isinstance(exc, socket.gaierror):
            return ProxyFailed(self.proxy.name, "its name does not resolve")
        return ProxyFailed(self.proxy.name, "no connection to it")


class _Tunnel(asyncio.Protocol):
    """The connection to the proxy until its answer to CONNECT is there; then another protocol takes it over."""

    def __init__(self) -> None:
        self.transport: asyncio.Transport
        self.answer: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._head = bytearray()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The connection is there, TLS with the proxy included."""
        self.transport = transport  # type: ignore[assignment]  # uvloop's are not subclasses of it

    def data_received(self, data: bytes) -> None:
        """Read the head of the answer; nothing may follow it unasked, for an endpoint speaks only when it is asked."""
        if self.answer.done():
            return
        self._head += data
        end = self._head.find(b"\r\n\r\n")
        status = _STATUS.match(self._head)
        if end < 0 and len(self._head) <= MAX_HEAD_BYTES:
            return
        is_refusal = status is not None and not status[1].startswith(b"2")
        if end < 0 or status is None or (len(self._head) > end + 4 and not is_refusal):
            self.answer.set_exception(ConnectionResetError("not an answer to CONNECT"))
        else:
            self.answer.set_result(int(status[1]))

    def connection_lost(self, exc: Exception | None) -> None:
        """The proxy left."""
        if not self.answer.done():
            self.answer.set_exception(exc if isinstance(exc, OSError) else ConnectionResetError())
            with suppress(asyncio.CancelledError):
                self.answer.exception()  # nobody may be waiting any more
