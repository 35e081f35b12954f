"""The proxy through which requests to endpoints leave, and which endpoints are reached without it.

Must not repeat a proxy's URL in an error: it may hold a password.
"""

from __future__ import annotations

import base64
import re
from dataclasses import dataclass, field
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from typing import Annotated
from urllib.parse import unquote, urlsplit

from pydantic import BeforeValidator, SecretStr

PROXY_FORM = "must be http://host:port or https://host:port, with user:password@ before the host if it asks for them"
_DEFAULT_PORTS = {"http": 80, "https": 443}


@dataclass(frozen=True, slots=True)
class EgressProxy:
    """An HTTP proxy that is asked to CONNECT."""

    host: str
    port: int
    tls: bool
    """Whether the connection to the proxy itself is TLS."""
    authorization: str | None = field(repr=False)
    """The value of `Proxy-Authorization`."""

    @property
    def name(self) -> str:
        """What it is called in errors: host and port."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def parse_proxy(url: str) -> EgressProxy:
    """The proxy of a URL; user and password are percent-encoded in it. Raises ValueError, without the URL."""
    try:
        parts = urlsplit(url.strip())
        port = parts.port
    except ValueError:
        raise ValueError(PROXY_FORM) from None
    is_bare = parts.path in ("", "/") and not parts.query and not parts.fragment
    if parts.scheme not in _DEFAULT_PORTS or not parts.hostname or not is_bare or port == 0:
        raise ValueError(PROXY_FORM)
    authorization = None
    if parts.username is not None:
        login = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
        if not login.isprintable():
            raise ValueError(PROXY_FORM)
        authorization = f"Basic {base64.b64encode(login.encode()).decode()}"
    return EgressProxy(parts.hostname, port or _DEFAULT_PORTS[parts.scheme], parts.scheme == "https", authorization)


@dataclass(frozen=True, slots=True)
class NoProxyRule:
    """One entry of a `NO_PROXY` list."""

    suffix: str | None
    """A host, with its subdomains; blank for every host."""
    network: IPv4Network | IPv6Network | None
    port: int | None

    def covers(self, host: str, port: int) -> bool:
        """Whether a host, as a URL has it, is reached without the proxy."""
        if self.port not in (None, port):
            return False
        if self.network is not None:
            try:
                return ip_address(host) in self.network
            except ValueError:
                return False
        host = host.rstrip(".").lower()
        return self.suffix == "" or host == self.suffix or host.endswith(f".{self.suffix}")


@dataclass(frozen=True, slots=True)
class NoProxy:
    """The endpoints that are reached without the proxy, by the rules that curl and Go share for `NO_PROXY`."""

    rules: tuple[NoProxyRule, ...] = ()

    def covers(self, host: str, port: int) -> bool:
        """Whether one of the rules does."""
        return any(rule.covers(host, port) for rule in self.rules)


def parse_no_proxy(text: str) -> NoProxy:
    """A list as in `NO_PROXY`: hosts, which stand for their subdomains too, addresses, networks, `*`; each with a port
    if it is meant for that alone. Commas or spaces separate them.

    Raises:
        ValueError: naming the entry that can't be read.
    """
    return NoProxy(tuple(_rule(entry) for entry in re.split(r"[,\s]+", text) if entry))


def is_no_proxy_entry(entry: str) -> bool:
    """Whether `parse_no_proxy` reads an entry."""
    try:
        _rule(entry)
    except ValueError:
        return False
    return True


def _rule(entry: str) -> NoProxyRule:
    if entry == "*":
        return NoProxyRule("", None, None)
    try:
        return NoProxyRule(None, ip_network(entry.strip("[]"), strict=False), None)
    except ValueError:
        pass
    host, colon, port = entry.rpartition(":")
    if not colon:
        host, port = entry, ""
    number = int(port) if port.isdigit() and port.isascii() and len(port) < 6 else None
    if (colon and (number is None or not 1 <= number <= 65535)) or not host:
        raise ValueError(f"must be hosts, addresses, networks or *, with a port if any, not {entry!r}")
    try:
        return NoProxyRule(None, ip_network(host.strip("[]"), strict=False), number)
    except ValueError:
        name = host.removeprefix("*").strip(".").lower()
    if not re.fullmatch(r"[a-z0-9_-]+(\.[a-z0-9_-]+)*", name):
        raise ValueError(f"must be hosts, addresses, networks or *, with a port if any, not {entry!r}")
    return NoProxyRule(name, None, number)


def _proxy_url(value: object) -> SecretStr:
    text = value.get_secret_value() if isinstance(value, SecretStr) else str(value)
    parse_proxy(text)
    return SecretStr(text)


def _no_proxy(value: object) -> str:
    parse_no_proxy(str(value))
    return str(value)


ProxyUrl = Annotated[SecretStr, BeforeValidator(_proxy_url)]


NoProxyList = Annotated[str, BeforeValidator(_no_proxy)]
