"""The HTTP side of a delivery: one POST, guarded, bounded in time and in what is read, answered with an Outcome.

One `Sender` serves a process: its connections are pooled on the event loop that opened it. It goes below httpx, whose
pool and request objects cost more than the request itself. URLs are read by httpx all the same, as they are when a
webhook is saved. It follows no redirect, keeps no cookie, decompresses nothing and uses no proxy.
"""

from __future__ import annotations

import ssl
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import lru_cache

import httpx

from shared.domain.delivery.outcomes import Outcome, OutcomeKind, classify_status, parse_retry_after
from shared.domain.errors import InvalidDefinition
from shared.http.connection import KEPT_RESPONSE_BYTES, MAX_RESPONSE_BYTES, Answer
from shared.http.egress import DEFAULT_PORTS, Guard
from shared.http.failures import failure_of
from shared.http.pool import Connections, Origin
from shared.http.tls import TlsContexts
from shared.observability.logs import get_logger, places
from shared.settings import Settings
from shared.version import __version__

__all__ = ["KEPT_RESPONSE_BYTES", "MAX_RESPONSE_BYTES", "USER_AGENT", "Request", "Sender"]

log = get_logger("hookline.sender")

MAX_PORT = 65535
USER_AGENT = f"hookline/{__version__}"


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
        self._connections = Connections(tls_socket=guard.tls_socket, plain_socket=guard.plain_socket)

    async def aclose(self) -> None:
        """Close every pooled connection."""
        self._connections.close()

    async def send(self, request: Request) -> Outcome:
        """Make one request; whatever happens to it is an Outcome, never an exception."""
        started = time.perf_counter()
        try:
            to = target(request.url)
            answer = await self._connections.exchange(
                # Connections are pooled apart for each context: one that is identified serves its webhook alone.
                Origin(to.host, to.port, (request.tls or self.contexts.anonymous) if to.tls else None),
                _written(to, request),
                timeout_seconds=request.timeout_seconds,
                connect_timeout_seconds=request.connect_timeout_seconds,
            )
        except Exception as exc:
            kind, error = failure_of(
                exc, within_seconds=request.timeout_seconds, connect_within_seconds=request.connect_timeout_seconds
            )
            if kind is OutcomeKind.INTERNAL:
                log.error("request.fault", error=error, at=places(exc))
            return Outcome(kind=kind, error=error, duration_seconds=time.perf_counter() - started)
        return _outcome(answer, started)


@dataclass(frozen=True, slots=True)
class Target:
    """What of a URL a request needs."""

    host: str
    port: int
    tls: bool
    head: str
    """The first line, and the `Host` header."""


def check_target(url: str) -> None:
    """Refuse a URL that is none for a request, whatever a guard would say of it.

    Raises:
        InvalidDefinition: saying what is accepted, without the URL.
    """
    try:
        target(url)
    except (httpx.InvalidURL, ValueError):
        raise InvalidDefinition.at((), "must be an absolute http or https URL") from None


def check_header(value: str) -> None:
    """Refuse a header's value that no request can be written with. What is allowed here may not be wise.

    Raises:
        InvalidDefinition: saying what is accepted, without the value.
    """
    try:
        _lines({"Authorization": value}).encode()
    except ValueError:
        raise InvalidDefinition.at((), "must be Unicode text without line breaks and NUL") from None


@lru_cache(maxsize=1024)
def target(url: str) -> Target:
    """What a request needs of a URL; parsing it costs a part of the request, and a webhook's is always the same.

    Raises:
        httpx.InvalidURL, ValueError: for what is no URL of HTTP.
    """
    parsed = httpx.URL(url)
    if parsed.scheme not in DEFAULT_PORTS or not parsed.host:
        raise ValueError("not an HTTP URL")
    if parsed.port is not None and not 1 <= parsed.port <= MAX_PORT:
        raise ValueError("no port")
    return Target(
        host=parsed.raw_host.decode("ascii"),
        port=parsed.port or DEFAULT_PORTS[parsed.scheme],
        tls=parsed.scheme == "https",
        head=f"POST {parsed.raw_path.decode('ascii')} HTTP/1.1\r\nHost: {parsed.netloc.decode('ascii')}\r\n",
    )


def _written(to: Target, request: Request) -> bytes:
    """A request as it goes over the wire. Raises ValueError for a header that would break out of its line."""
    lines = _lines(request.headers)
    return f"{to.head}{lines}Content-Length: {len(request.body)}\r\n\r\n".encode() + request.body


def _lines(headers: dict[str, str]) -> str:
    lines = "".join([f"{name}: {value}\r\n" for name, value in headers.items()])
    if lines.count("\n") != len(headers) or lines.count("\r") != len(headers) or "\0" in lines:
        raise ValueError("a header holds a line break or NUL")
    return lines


def _outcome(answer: Answer, started: float) -> Outcome:
    # PostgreSQL takes no NUL in text.
    body = answer.body.decode("utf-8", "replace").replace("\0", "\ufffd")
    retry_after = answer.retry_after
    return Outcome(
        kind=classify_status(answer.status),
        status=answer.status,
        retry_after_seconds=None if retry_after is None else parse_retry_after(retry_after, datetime.now(UTC)),
        response_body=body,
        response_truncated=answer.seen_bytes > len(answer.body),
        duration_seconds=time.perf_counter() - started,
    )
