"""The HTTP side of a delivery: one POST, guarded, bounded in time and in what is read, answered with an Outcome.

One `Sender` serves a process: its connections are pooled on the event loop that opened it. It goes below httpx, whose
pool and request objects cost more than the request itself, and has aiohttp send. URLs are read by httpx all the same,
as they are when a webhook is saved. It follows no redirect, keeps no cookie, decompresses nothing and uses no proxy.
"""

from __future__ import annotations

import asyncio
import ssl
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import lru_cache

import aiohttp
import httpx
from aiohttp.client_reqrep import ConnectionKey
from aiohttp.connector import Connection
from aiohttp.tracing import Trace
from yarl import URL

from shared.domain.outcomes import Outcome, OutcomeKind, classify_status, parse_retry_after
from shared.guard import Guard
from shared.send_failures import failure_of
from shared.settings import Settings
from shared.tls import TlsContexts
from shared.version import __version__

MAX_RESPONSE_BYTES = 64 << 10
KEPT_RESPONSE_BYTES = 4 << 10
USER_AGENT = f"hookline/{__version__}"
# Shorter than the five seconds after which common servers drop an idle connection: a POST is not sent on one that is
# about to close.
KEEPALIVE_SECONDS = 4.0
_SKIPPED_HEADERS = ("User-Agent", "Accept", "Accept-Encoding", "Content-Type")


@dataclass(frozen=True, slots=True)
class Request:
    """One request to make. The headers hold credentials: they are kept out of `repr`."""

    url: str = field(repr=False)  # a Slack URL is a credential
    body: bytes = field(repr=False)
    headers: dict[str, str] = field(repr=False)
    timeout_seconds: float = 15.0
    connect_timeout_seconds: float = 5.0
    tls: ssl.SSLContext | None = None  # for a webhook with a client certificate: `Sender.contexts.identified`


class Sender:
    """Sends requests over pooled connections. Open it on the event loop that uses it."""

    def __init__(self, settings: Settings) -> None:
        guard, self.contexts = Guard(settings), TlsContexts(settings)
        self._tls = _session(guard.tls_socket, self.contexts.anonymous)
        self._plain = _session(guard.plain_socket, self.contexts.anonymous)

    async def aclose(self) -> None:
        """Close every pooled connection."""
        await self._tls.close()
        await self._plain.close()

    async def send(self, request: Request) -> Outcome:
        """Make one request; whatever happens to it is an Outcome, never an exception."""
        started = time.perf_counter()
        try:
            async with asyncio.timeout(request.timeout_seconds):
                return await self._exchange(request, started)
        except aiohttp.ServerTimeoutError as exc:  # which is a TimeoutError, but the connection's
            return _failure(*failure_of(exc, request.connect_timeout_seconds), started)
        except TimeoutError:
            return _failure(OutcomeKind.TIMEOUT, f"no answer within {request.timeout_seconds:g} s", started)
        except Exception as exc:
            return _failure(*failure_of(exc, request.connect_timeout_seconds), started)

    async def _exchange(self, request: Request, started: float) -> Outcome:
        url = _parsed(request.url)
        "".join(request.headers.values()).encode()  # aiohttp would send a value that is no Unicode as a blank one
        session = self._tls if url.scheme == "https" else self._plain
        async with session.post(
            url,
            data=request.body,
            headers=request.headers,
            allow_redirects=False,
            timeout=_connecting_within(request.connect_timeout_seconds),
            ssl=request.tls or True,  # connections are pooled apart for each context
        ) as response:
            body, truncated = await _read(response)
            retry_after = response.headers.get("Retry-After")
        return Outcome(
            kind=classify_status(response.status),
            status=response.status,
            error=None,
            retry_after_seconds=None if retry_after is None else parse_retry_after(retry_after, datetime.now(UTC)),
            response_body=body,
            response_truncated=truncated,
            duration_seconds=time.perf_counter() - started,
        )


class _Connector(aiohttp.TCPConnector):
    """Takes no connection out of the pool on which something came unasked: it would pass for the next answer."""

    async def _get(self, key: ConnectionKey, traces: list[Trace]) -> Connection | None:
        while (connection := await super()._get(key, traces)) is not None:
            if connection.protocol is not None and not connection.protocol.should_close:
                return connection
            connection.close()
        return None


def _session(socket_factory: aiohttp.SocketFactoryType, context: ssl.SSLContext) -> aiohttp.ClientSession:
    return aiohttp.ClientSession(
        connector=_Connector(limit=0, keepalive_timeout=KEEPALIVE_SECONDS, ssl=context, socket_factory=socket_factory),
        cookie_jar=aiohttp.DummyCookieJar(),
        skip_auto_headers=_SKIPPED_HEADERS,
        auto_decompress=False,
        trust_env=False,
    )


@lru_cache(maxsize=256)
def _connecting_within(seconds: float) -> aiohttp.ClientTimeout:
    """The connection's own limit; the whole exchange is bounded by `send`."""
    return aiohttp.ClientTimeout(total=None, sock_connect=seconds)


@lru_cache(maxsize=1024)
def _parsed(url: str) -> URL:
    """Parsing a URL costs a part of a request, and a webhook's is always the same."""
    parsed = httpx.URL(url)
    if parsed.scheme not in ("http", "https"):
        raise httpx.UnsupportedProtocol("not an HTTP URL")
    return URL(str(parsed), encoded=True)


async def _read(response: aiohttp.ClientResponse) -> tuple[str, bool]:
    """The beginning of the body as text, and whether there was more; reading stops at the bound."""
    kept, seen = bytearray(), 0
    async for chunk in response.content.iter_any():
        seen += len(chunk)
        if len(kept) < KEPT_RESPONSE_BYTES:
            kept += chunk[: KEPT_RESPONSE_BYTES - len(kept)]
        if seen >= MAX_RESPONSE_BYTES:
            response.close()
            break
    # PostgreSQL takes no NUL in text.
    return kept.decode("utf-8", "replace").replace("\0", "\ufffd"), seen > len(kept)


def _failure(kind: OutcomeKind, error: str, started: float) -> Outcome:
    return Outcome(
        kind=kind,
        status=None,
        error=error,
        retry_after_seconds=None,
        response_body="",
        response_truncated=False,
        duration_seconds=time.perf_counter() - started,
    )
