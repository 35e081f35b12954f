"""A request as bytes: its target, its headers, and the checks that keep either from being something else."""

from __future__ import annotations

import ssl
from dataclasses import dataclass, field
from functools import lru_cache

import httpx

from shared.domain.errors import InvalidDefinition
from shared.version import __version__

DEFAULT_PORTS = {"http": 80, "https": 443}


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


def write_head(to: Target, request: Request) -> bytes:
    """A request as it goes over the wire. Raises ValueError for a header that would break out of its line."""
    lines = _lines(request.headers)
    return f"{to.head}{lines}Content-Length: {len(request.body)}\r\n\r\n".encode() + request.body


def _lines(headers: dict[str, str]) -> str:
    lines = "".join([f"{name}: {value}\r\n" for name, value in headers.items()])
    if lines.count("\n") != len(headers) or lines.count("\r") != len(headers) or "\0" in lines:
        raise ValueError("a header holds a line break or NUL")
    return lines
