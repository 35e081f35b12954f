"""The HTTP side of a delivery: one POST, guarded, bounded in time and in what is read, answered with an Outcome.

One `Sender` serves a process: its connections are pooled on the event loop that opened it. It goes below
`httpx.AsyncClient`, whose pool and per-request bookkeeping cost more than the request itself, and gives httpx requests
straight to an aiohttp transport. It follows no redirect, keeps no cookie, decompresses nothing and uses no proxy.
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
from httpx_aiohttp import AiohttpTransport

from shared.domain.outcomes import Outcome, OutcomeKind, classify_status, parse_retry_after
from shared.guard import Guard
from shared.send_failures import failure_of
from shared.settings import Settings
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


class Sender:
    """Sends requests over pooled connections. Open it on the event loop that uses it."""

    def __init__(self, settings: Settings) -> None:
        guard, context = Guard(settings), ssl.create_default_context()
        self._tls = _transport(guard.tls_socket, context)
        self._plain = _transport(guard.plain_socket, context)

    async def aclose(self) -> None:
        """Close every pooled connection."""
        await self._tls.aclose()
        await self._plain.aclose()

    async def send(self, request: Request) -> Outcome:
        """Make one request; whatever happens to it is an Outcome, never an exception."""
        started = time.perf_counter()
        try:
            async with asyncio.timeout(request.timeout_seconds):
                return await self._exchange(request, started)
        except TimeoutError:
            return _failure(OutcomeKind.TIMEOUT, f"no answer within {request.timeout_seconds:g} s", started)
        except Exception as exc:
            return _failure(*failure_of(exc, request.connect_timeout_seconds), started)

    async def _exchange(self, request: Request, started: float) -> Outcome:
        url = _parsed(request.url)
        transport = self._tls if url.scheme == "https" else self._plain
        outgoing = httpx.Request(
            "POST",
            url,
            content=request.body,
            headers=httpx.Headers(request.headers, encoding="utf-8"),
            extensions={"timeout": {"connect": request.connect_timeout_seconds}},
        )
        response = await transport.handle_async_request(outgoing)
        try:
            body, truncated = await _read(response)
        finally:
            await response.aclose()
        return Outcome(
            kind=classify_status(response.status_code),
            status=response.status_code,
            error=None,
            retry_after_seconds=parse_retry_after(response.headers.get("retry-after", ""), datetime.now(UTC)),
            response_body=body,
            response_truncated=truncated,
            duration_seconds=time.perf_counter() - started,
        )


def _transport(socket_factory: aiohttp.SocketFactoryType, context: ssl.SSLContext) -> AiohttpTransport:
    return AiohttpTransport(
        verify=context,
        client=lambda: aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(
                limit=0, keepalive_timeout=KEEPALIVE_SECONDS, ssl=context, socket_factory=socket_factory
            ),
            cookie_jar=aiohttp.DummyCookieJar(),
            skip_auto_headers=_SKIPPED_HEADERS,
            trust_env=False,
        ),
    )


@lru_cache(maxsize=1024)
def _parsed(url: str) -> httpx.URL:
    """Parsing a URL costs a quarter of a request, and a webhook's is always the same."""
    return httpx.URL(url)


async def _read(response: httpx.Response) -> tuple[str, bool]:
    """The beginning of the body as text, and whether there was more; reading stops at the bound."""
    kept, seen = bytearray(), 0
    async for chunk in response.aiter_raw():
        seen += len(chunk)
        if len(kept) < KEPT_RESPONSE_BYTES:
            kept += chunk[: KEPT_RESPONSE_BYTES - len(kept)]
        if seen >= MAX_RESPONSE_BYTES:
            break
    # PostgreSQL takes no NUL in text.
    return kept.decode("utf-8", "replace").replace("\0", "�"), seen > len(kept)


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
