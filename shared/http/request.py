"""A request as bytes: its target and headers, and the checks that nothing in them breaks out of its place."""

from __future__ import annotations

import ssl
from dataclasses import dataclass, field
from functools import lru_cache

import httpx

from shared.domain.delivery.answer_rules import SuccessRule
from shared.domain.errors import InvalidDefinition
from shared.version import __version__

DEFAULT_PORTS = {"http": 80, "https": 443}


MAX_PORT = 65535


USER_AGENT = f"hookline/{__version__}"


@dataclass(frozen=True, slots=True)
class Request:
    """One request to make. Its URL, body and headers may hold credentials, so they are kept out of `repr`."""

    url: str = field(repr=False)  # a Slack URL is a credential
    body: bytes = field(repr=False)
    headers: dict[str, str] = field(repr=False)
    timeout_seconds: float = 15.0
    """For everything, from the look-up of the name to the end of the answer."""
    connect_timeout_seconds: float = 5.0
    """For TCP and TLS alone."""
    keep_exchange: bool = True
    """Whether the outcome has an exchange in any case; otherwise some successes have none (`client.KEPT_EACH`)."""
    tls: ssl.SSLContext | None = None
    """The context with the webhook's client certificate; None for the one that all others share."""
    webhook: str = ""
    """Whose request it is: costly success rules take turns by it."""
    success: SuccessRule | None = None
    """Which answers are a success; None for any 2xx."""


@dataclass(frozen=True, slots=True)
class Target:
    """The parts of a URL that a request needs."""

    host: str
    port: int
    tls: bool
    head: str
    """The request line and the `Host` header."""


def check_target(url: str) -> None:
    """Refuse a text that is no http or https URL, without asking the egress rules.

    Raises:
        InvalidDefinition: saying what is accepted, without the URL.
    """
    try:
        target(url)
    except (httpx.InvalidURL, ValueError):
        raise InvalidDefinition.at((), "must be an absolute http or https URL") from None


def check_header(value: str) -> None:
    """Refuse a header's value that `write_head` could not write. Stricter rules are `dispatcher.control.secrets`'s.

    Raises:
        InvalidDefinition: saying what is accepted, without the value.
    """
    try:
        _lines({"Authorization": value}).encode()
    except ValueError:
        raise InvalidDefinition.at((), "must be Unicode text without line breaks and NUL") from None


@lru_cache(maxsize=1024)
def target(url: str) -> Target:
    """Parse a URL. The result is remembered: parsing costs as much as writing the request, and URLs repeat.

    Raises:
        httpx.InvalidURL, ValueError: for a text that is no http or https URL.
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
    """The whole request, head and body, as it is sent. Raises ValueError for a header with a line break or NUL."""
    lines = _lines(request.headers)
    return f"{to.head}{lines}Content-Length: {len(request.body)}\r\n\r\n".encode() + request.body


def _lines(headers: dict[str, str]) -> str:
    lines = "".join([f"{name}: {value}\r\n" for name, value in headers.items()])
    if lines.count("\n") != len(headers) or lines.count("\r") != len(headers) or "\0" in lines:
        raise ValueError("a header holds a line break or NUL")
    return lines
