"""Where a request may go: never to a private, loopback, link-local or metadata address that the operator did not allow.

A URL is checked when a webhook is saved, so that people see the refusal at once. What protects is the check of the
address that a socket is about to connect to (`Guard`), since a name may resolve to another address later.
"""

from __future__ import annotations

import socket
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Any
from urllib.parse import urlsplit

from shared.domain.errors import HooklineError, InvalidDefinition
from shared.settings import Network, Settings

Address = IPv4Address | IPv6Address

MAX_URL_LENGTH = 2048
# Ranges that `ipaddress` counts as global although no public service is there.
_ALSO_REFUSED: tuple[Network, ...] = (
    ip_network("100.64.0.0/10"),  # carrier-grade NAT, RFC 6598; some clouds keep metadata services in it
    ip_network("192.0.0.0/24"),
    ip_network("192.88.99.0/24"),
)
_NAT64 = (IPv6Network("64:ff9b::/96"), IPv6Network("64:ff9b:1::/48"))


class Blocked(HooklineError, OSError):
    """The guard refused the address that a socket was about to connect to."""


def refusal(address: Address, allowed: tuple[Network, ...]) -> str | None:
    """Why no request may go to this address, or None.

    An IPv6 address that carries an IPv4 one (mapped, 6to4, NAT64) is judged by the address it carries as well.
    """
    for candidate in (address, *_carried(address)):
        if any(candidate.version == network.version and candidate in network for network in allowed):
            continue
        if (
            not candidate.is_global
            or candidate.is_multicast
            or any(candidate.version == network.version and candidate in network for network in _ALSO_REFUSED)
        ):
            return f"{address} is not a public address, and HOOKLINE_ALLOWED_NETWORKS does not allow it"
    return None


def _carried(address: Address) -> tuple[IPv4Address, ...]:
    if not isinstance(address, IPv6Address):
        return ()
    carried = [address.ipv4_mapped, address.sixtofour, *(address.teredo or ())]
    if any(address in network for network in _NAT64):
        carried.append(IPv4Address(int(address) & 0xFFFFFFFF))
    return tuple(inner for inner in carried if inner is not None)


def _in(address: Address, networks: tuple[Network, ...]) -> bool:
    return any(address.version == network.version and address in network for network in networks)


def _literal(host: str) -> Address | None:
    """The address a host spells, also as a decimal, octal or hex number as `inet_aton` reads them; None for a name."""
    host = host.strip("[]").rstrip(".")
    try:
        return ip_address(host.partition("%")[0])
    except ValueError:
        pass
    try:
        return IPv4Address(socket.inet_aton(host))
    except OSError:
        return None


def check_webhook_url(url: object, settings: Settings) -> None:
    """Refuse a URL that no request could be sent to.

    Raises:
        InvalidDefinition: saying what is accepted. No name is resolved here.
    """
    reason = _url_refusal(url, settings)
    if reason is not None:
        raise InvalidDefinition.at((), reason)


def _url_refusal(url: object, settings: Settings) -> str | None:
    form = "must be an absolute URL such as https://example.com/hooks"
    if not isinstance(url, str) or len(url) > MAX_URL_LENGTH or any(ord(c) <= 32 or ord(c) == 127 for c in url):
        return f"{form}, at most {MAX_URL_LENGTH} characters, without spaces"
    try:
        parts = urlsplit(url)
        host, _port = parts.hostname, parts.port
    except ValueError as exc:
        return f"{form}: {exc}"
    if parts.scheme not in ("http", "https") or not host:
        return form
    if parts.username is not None or parts.password is not None:
        return "must not hold a user name or password; put a token into a secret instead"
    return _host_refusal(parts.scheme, host, settings)


def _host_refusal(scheme: str, host: str, settings: Settings) -> str | None:
    address = _literal(host)
    if address is not None and (reason := refusal(address, settings.allowed_networks)):
        return reason
    if scheme == "https" or settings.allow_http:
        return None
    if address is None and settings.allowed_networks:
        return None  # a name may resolve into an allowed network: the guard sees when it connects
    if address is not None and _in(address, settings.allowed_networks):
        return None
    return "must be https; plain http needs HOOKLINE_ALLOW_HTTP=1 or an address in HOOKLINE_ALLOWED_NETWORKS"


class Guard:
    """Checks each address at the moment a socket is made for it, whatever the name resolved to before."""

    def __init__(self, settings: Settings) -> None:
        self._allowed = settings.allowed_networks
        self._allow_http = settings.allow_http

    def tls_socket(self, addr_info: tuple[Any, ...]) -> socket.socket:
        """A socket for an https request to the resolved address. Raises Blocked."""
        return self._socket(addr_info, refusal(_address(addr_info), self._allowed))

    def plain_socket(self, addr_info: tuple[Any, ...]) -> socket.socket:
        """A socket for a request without TLS, which may go to allowed networks only. Raises Blocked."""
        address = _address(addr_info)
        reason = refusal(address, self._allowed)
        if reason is None and not self._allow_http and not _in(address, self._allowed):
            reason = f"plain http to {address} needs HOOKLINE_ALLOW_HTTP=1 or an entry in HOOKLINE_ALLOWED_NETWORKS"
        return self._socket(addr_info, reason)

    @staticmethod
    def _socket(addr_info: tuple[Any, ...], reason: str | None) -> socket.socket:
        if reason is not None:
            raise Blocked(reason)
        family, kind, protocol, _name, _sockaddr = addr_info
        return socket.socket(family, kind, protocol)


def _address(addr_info: tuple[Any, ...]) -> Address:
    return ip_address(str(addr_info[4][0]).partition("%")[0])
